"""Students by name: every network of gin/models, with settings that are those of the paper's gin files."""

import re
from pathlib import Path

import pytest

from stepdistill_jax.launching.named import students

ROOT = Path(__file__).resolve().parents[3]


LANGUAGE_MODELS = [name for name in students.names() if students.find(name).is_decoder_only]


def macro(file, name):
    """The value that a gin file binds a macro to."""
    text = (ROOT / "gin" / file).read_text(encoding="utf-8")
    found = re.search(rf"^{name} = ([\w.-]+)", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_every_network_is_a_student_of_a_known_size():
    names = students.names()
    assert {"t5_1_1_small", "byt5_tiny", "umt5_xxl"} <= set(names)
    found = [students.find(name) for name in names]
    assert all(one.size in (*students.PRETRAINED, "tiny", "mini") for one in found if not one.is_decoder_only)
    assert {one.name for one in found if one.size is None} == set(LANGUAGE_MODELS)


@pytest.mark.parametrize("size", students.PRETRAINED)
def test_a_pretrained_student_is_trained_as_its_gin_file_says(size):
    budget, file = students.PRETRAINED[size], f"dsbs_t5_{size}.gin"
    assert (budget.rows, budget.steps) == (macro(file, "BATCH_SIZE"), macro(file, "TRAIN_STEPS"))
    assert budget.learning_rate == macro(file, "BASE_LEARNING_RATE")
    assert (budget.dropout_rate, budget.num_partitions) == (macro(file, "DROPOUT_RATE"), macro(file, "NUM_PARTITIONS"))  # fmt: skip
    assert budget.num_microbatches == macro(file, "NUM_MICROBATCHES")


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_is_trained_as_its_gin_file_says(name):
    budget, file = students.find(name).budget(from_scratch=False), f"dsbs_{name}.gin"
    assert (budget.rows, budget.learning_rate) == (
        macro(file, "BATCH_SIZE"),
        macro(file, "BASE_LEARNING_RATE"),
    )
    assert budget.dropout_rate == macro("decoder_student.gin", "DROPOUT_RATE") == 0.0


def test_a_converted_language_model_is_told_by_its_gin_file(tmp_path):
    file = tmp_path / "smollm2_135m" / "model.gin"
    file.parent.mkdir()
    file.write_text("llama.LlamaConfig.emb_dim = 576\n")
    student = students.find(str(file))
    assert (student.is_decoder_only, student.size, student.is_published) == (True, None, True)
    assert student.budget(from_scratch=False) == students.DECODER_ONLY["smollm2_135m"]


def test_an_unknown_student_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"No student 't5_1_1_smal'; nearest 't5_1_1_small'.*byt5_tiny"):
        students.find("t5_1_1_smal")


def test_a_gin_file_is_a_student_too(tmp_path):
    file = tmp_path / "t5_1_1_base" / "model.gin"
    with pytest.raises(ValueError, match="there is no such file"):
        students.find(str(file))
    file.parent.mkdir()
    file.write_text("NETWORK = @network.Transformer()\n")
    assert students.find(str(file)) == students.Student(str(file), str(file), "base")


@pytest.mark.parametrize("name", [name for name in students.names() if name not in LANGUAGE_MODELS])
def test_every_student_has_a_budget_from_scratch_and_from_a_checkpoint(name):
    student = students.find(name)
    assert student.budget(from_scratch=True).learning_rate == 0.01
    assert student.budget(from_scratch=False).learning_rate == 0.001
