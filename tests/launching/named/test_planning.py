"""What a run by names adds for a language model: its tokenizer, and a dtype that the device computes fast."""

import dataclasses
import math

import pytest

from stepdistill_jax.launching.named import planning, students
from stepdistill_jax.launching.named.settings import Settings

SMOLLM2, SMALL = students.find("smollm2_135m"), students.find("t5_1_1_small")


def converted(folder):
    """A checkpoint with a tokenizer beside it, as `convert` leaves them."""
    (folder / "huggingface").mkdir()
    (folder / "huggingface" / "tokenizer.json").write_text("{}")
    return str(folder / "checkpoint_0")


def test_the_tokenizer_comes_from_beside_the_checkpoint(tmp_path):
    checkpoint = converted(tmp_path)
    [binding] = planning._with_vocabulary((), SMOLLM2, checkpoint)
    assert binding == f"TOKENIZER = {str(tmp_path / 'huggingface' / 'tokenizer.json')!r}"
    assert planning._with_vocabulary((binding,), SMOLLM2, checkpoint) == (binding,)  # as `--again` gives it


def test_the_environment_names_a_t5_s_vocabulary_and_no_language_model_s(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "spiece.model")
    assert planning._with_vocabulary((), SMOLLM2, None) == ()
    assert planning._with_vocabulary((), SMALL, None) == ("datasets.vocabulary_choice.file = 'spiece.model'",)
    # Whose vocabulary is the embedded problems' own.
    assert planning._with_vocabulary((), dataclasses.replace(SMALL, name="t5_1_1_tiny"), None) == ()


def test_a_pretrained_t5_reads_embedded_problems_in_its_own_vocabulary(tmp_path, monkeypatch):
    monkeypatch.delenv("STEPDISTILL_VOCABULARY", raising=False)
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", "there")
    checkpoint = str(tmp_path / "checkpoint_1000000")
    its_own = ("datasets.vocabulary_choice.file = 'there/vocabularies/t5.model'",)
    assert planning._with_vocabulary((), SMALL, checkpoint, embedded=True) == its_own
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "spiece.model")
    named = ("datasets.vocabulary_choice.file = 'spiece.model'",)
    assert planning._with_vocabulary((), SMALL, checkpoint, embedded=True) == named
    assert planning._with_vocabulary(("TRAIN_STEPS = 1",), SMALL, None, embedded=True) == ("TRAIN_STEPS = 1",)
    (tmp_path / "run.json").write_text("{}")  # of a run that learnt the embedded pieces
    assert planning._with_vocabulary((), SMALL, checkpoint, embedded=True) == ()


@pytest.mark.parametrize(
    ("name", "value"), [("rationale_weight", math.nan), ("epochs", math.inf), ("learning_rate", math.inf)]
)
def test_a_number_that_is_none_is_named(name, value):
    with pytest.raises(ValueError, match=rf"--{name}={value}: use "):
        planning.check_numbers(Settings("tickets", **{name: value}))


def test_a_cpu_computes_a_language_model_in_float32_unless_told_otherwise():
    assert planning._for_this_device((), SMOLLM2) == ("llama.LlamaConfig.dtype = 'float32'",)
    told = ("llama.LlamaConfig.dtype = 'bfloat16'",)
    assert planning._for_this_device(told, SMOLLM2) == told
    assert planning._for_this_device((), SMALL) == ()


def test_prefixes_that_the_environment_names_wrongly_are_found_at_once(monkeypatch):
    monkeypatch.setenv("STEPDISTILL_PREFIXES", "papr")
    with pytest.raises(ValueError, match=r"--prefixes=papr \(or STEPDISTILL_PREFIXES\): use paper or code"):
        planning.plan(Settings("tickets", student="byt5_tiny"))
