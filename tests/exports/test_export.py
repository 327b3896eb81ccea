"""`stepdistill export`: what is written, what is said of it, and what is refused."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_students import CHOICES, description_of, network_of, write_student
from safetensors import safe_open

from stepdistill_jax import cli
from stepdistill_jax.exports.checking import Check, compare, validation_texts
from stepdistill_jax.exports.export import export
from stepdistill_jax.prediction.calibration import Calibration, write_calibration
from stepdistill_jax.prediction.predictor import Predictor

# One that fits, of the validation texts' length; one that is cut.
TEXTS = ["no apples, 3", "many " * 60]

pytestmark = pytest.mark.usefixtures("quick_compilation")


def exported(run, output, *flags):
    return cli.main(["export", str(run), "--output", str(output), *flags])


@pytest.fixture(scope="module")
def answers_of(made_run):
    """answers_of(folder) -> its predictions of TEXTS; the run's are made once."""
    known = {}

    def ask(folder):
        if folder not in known:
            known[folder] = Predictor(folder)(TEXTS)
        return known[folder]

    return ask


def check_same(before, after, *, tolerance):
    for one, other in zip(before, after, strict=True):
        assert (other.label, other.truncated) == (one.label, one.truncated)
        assert list(other.probabilities) == list(CHOICES)
        assert one.label == max(other.probabilities, key=other.probabilities.get)
        for choice, probability in one.probabilities.items():
            assert other.probabilities[choice] == pytest.approx(probability, abs=tolerance)


def test_ctranslate2_answers_as_the_run_does_and_says_how_nearly(made_run, answers_of, tmp_path, capsys):
    pytest.importorskip("ctranslate2")
    sizes = []
    for quantization, tolerance in (("float32", 1e-4), ("int8", 0.05)):
        folder = tmp_path / quantization
        assert exported(made_run, folder, "--to", "ctranslate2", "--quantization", quantization) == 0
        printed = capsys.readouterr().out
        assert "labels on validation differ from the checkpoint's" in printed
        assert f"stepdistill serve {folder}" in printed
        check_same(answers_of(made_run), answers_of(folder), tolerance=tolerance)
        said = json.loads((folder / "export.json").read_text())
        assert (said["format"], said["quantization"], said["step"]) == ("ctranslate2", quantization, 7)
        assert said["check"]["num_texts"] == 8
        sizes.append((folder / "model.bin").stat().st_size)
    assert [answer.truncated for answer in answers_of(made_run)] == [False, True]
    assert sizes[1] < 0.4 * sizes[0]
    said["probe"]["log_probs"][0][1] -= 1.0  # as a CPU that computes otherwise would find it
    (folder / "export.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="int8 answers otherwise here than where it was exported"):
        Predictor(folder)
    assert Predictor(folder, verify=False)(TEXTS[:1])[0].label is not None


def test_hugging_face_has_weights_tokenizer_prefixes_and_a_card(made_run, answers_of, tmp_path):
    folder = tmp_path / "out"
    assert exported(made_run, folder, "--to", "huggingface") == 0
    check_same(answers_of(made_run), answers_of(folder), tolerance=1e-6)
    config = json.loads((folder / "config.json").read_text())
    assert config["task_specific_params"]["label"]["prefix"] == "[label] "
    assert config["task_specific_params"]["rationale"]["prefix"] == "[rationale] "
    assert config["tie_word_embeddings"] is False
    with safe_open(folder / "model.safetensors", framework="np") as file:
        assert {"shared.weight", "lm_head.weight"} <= set(file.keys())
    assert (folder / "tokenizer.json").is_file()
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: "transformers"\n')
    for said in (
        "**Inputs need the prefix** `[label] `",
        "`apples`, `no`",
        "Hsieh et al.",
        "not stated",
        "labels on validation",
    ):
        assert said in card


@pytest.mark.parametrize("to", ["ctranslate2", "huggingface"])
def test_activations_are_those_of_student_json_where_no_gin_file_came_along(tmp_path, to):
    if to == "ctranslate2":
        pytest.importorskip("ctranslate2")
    run, folder = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    network = network_of(num_encoder_layers=1, num_decoder_layers=1, mlp_activations=("silu", "linear"))
    write_student(run, description_of(network=network))
    assert exported(run, folder, "--to", to, "--quantization", "float32") == 0
    if to == "huggingface":
        assert json.loads((folder / "config.json").read_text())["feed_forward_proj"] == "gated-silu"
        return
    expected = Predictor(run).log_probs(TEXTS[:1])
    np.testing.assert_allclose(Predictor(folder).log_probs(TEXTS[:1]), expected, rtol=1e-5)


def test_float16_is_no_dtype_to_compute_a_t5_in_and_that_is_said(own_run, tmp_path, capsys):
    assert exported(own_run, tmp_path / "out", "--to", "huggingface", "--quantization", "float16") == 0
    said = "T5s overflow where it is computed in: load them with dtype float32 or bfloat16."
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_a_dtype_may_be_asked_for(own_run, tmp_path):
    assert exported(own_run, tmp_path / "out", "--to", "huggingface", "--quantization", "bfloat16") == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_a_calibration_of_this_step_goes_along_and_another_does_not(own_run, tmp_path):
    write_calibration(own_run, Calibration(2.5, 0.2, 0.1, 10, 0.9, "", step=7))
    exported(own_run, tmp_path / "same", "--to", "huggingface")
    assert Predictor(tmp_path / "same").student.temperature == 2.5
    assert "temperature 2.5" in (tmp_path / "same" / "README.md").read_text()
    write_calibration(own_run, Calibration(2.5, 0.2, 0.1, 10, 0.9, "", step=6))
    exported(own_run, tmp_path / "other", "--to", "huggingface")
    assert Predictor(tmp_path / "other").student.temperature == 1.0


def test_without_validation_texts_it_says_that_nothing_was_checked(own_run, tmp_path, capsys):
    assert exported(own_run, tmp_path / "out", "--to", "huggingface", "--data_dir", str(tmp_path)) == 0
    assert "NOT checked" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "export.json").read_text())["check"] is None
    assert "**It was not checked" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_that_answers_otherwise_is_not_written(made_run, tmp_path, capsys, monkeypatch):
    from stepdistill_jax.exports import checking

    monkeypatch.setattr(checking, "compare", lambda *arguments: Check(30, 6, 0.5))
    assert exported(made_run, tmp_path / "out", "--to", "huggingface", "--least_agreement", "0.995") == 2
    error = capsys.readouterr().err
    assert "6 of 30" in error
    assert "Below 99.5 % the same" in error
    assert "a lower --least_agreement accepts it" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to", "onnx"], "--to=onnx; use one of ctranslate2, huggingface, gguf"),
        (["--to", "ctranslate2", "--quantization", "float16"], "ctranslate2 is written as int8 or float32"),
        (["--to", "huggingface", "--quantization", "int8"], "huggingface is written as float32 or"),
        (["--to", "huggingface", "--step", "8"], "no checkpoint of step 8; it has 7"),
        (["--to", "huggingface", "--check_texts", "0"], "--check_texts=0"),
        (["--to", "huggingface", "--least_agreement", "90"], "--least_agreement=90.0; use a share"),
    ],
)
def test_a_wrong_setting_is_one_line(made_run, tmp_path, capsys, flags, said):
    assert exported(made_run, tmp_path / "out", *flags) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(made_run, tmp_path, capsys):
    (tmp_path / "kept").write_text("")
    assert exported(made_run, tmp_path, "--to", "huggingface") == 2
    assert "exists; name a folder that is not there yet" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_not_installed_is_named_with_its_mend(own_run, tmp_path, capsys, monkeypatch):
    for module in ("ctranslate2", "ctranslate2.specs"):
        monkeypatch.setitem(sys.modules, module, None)
    assert exported(own_run, tmp_path / "out", "--to", "ctranslate2") == 2
    assert "pip install ctranslate2" in capsys.readouterr().err


def test_an_export_has_its_own_step(own_run, tmp_path):
    exported(own_run, tmp_path / "out", "--to", "huggingface")
    assert Predictor(tmp_path / "out", step=7).student.step == 7
    with pytest.raises(FileNotFoundError, match="is an export of step 7; leave --step 8 out"):
        Predictor(tmp_path / "out", step=8)
    with pytest.raises(ValueError, match="out is an export itself; export the run"):
        export(tmp_path / "out", tmp_path / "again", to="huggingface")
    for damage in ("{", '{"format": "huggingface", "step": 7, "probe": {"texts": ["a"]}}'):
        (tmp_path / "out" / "export.json").write_text(damage)
        with pytest.raises(ValueError, match=r"export\.json is damaged"):
            Predictor(tmp_path / "out")


@pytest.mark.parametrize("to", ["ctranslate2", "huggingface", "gguf"])
def test_parameters_that_are_no_numbers_are_not_exported(own_run, tmp_path, capsys, to):
    from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
    from stepdistill_jax.interop.checkpoint_arrays import open_arrays

    arrays = {name: array.read() for name, array in open_arrays(own_run / "checkpoint_7").arrays.items()}
    arrays["decoder/decoder_norm/scale"][3] = np.nan
    named = ((f"target/{name}", numbers) for name, numbers in arrays.items())
    write_checkpoint(own_run / "checkpoint_8", named, step=8)
    assert exported(own_run, tmp_path / "out", "--to", to) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "checkpoint_8: decoder" in error
    assert "(1 of 29 tensors) have numbers that are none (NaN or infinite)" in error
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_as_it_was_exported_is_named(own_run, tmp_path):
    folder = tmp_path / "out"
    exported(own_run, folder, "--to", "huggingface")
    files = json.loads((folder / "export.json").read_text())["files"]
    assert {"model.safetensors", "config.json", "student.json", "tokenizer.json"} < files.keys()
    assert not {"README.md", "export.json"} & files.keys()
    (folder / "README.md").write_text("my own words")
    Predictor(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"not as it was exported: model\.safetensors is another, tokenizer\.json is missing\. Copy",
    ):
        Predictor(folder)
    assert Predictor(folder, verify=False).student.step == 7


def test_an_export_of_an_earlier_version_has_no_checksums_and_that_is_said(own_run, tmp_path, capsys):
    exported(own_run, tmp_path / "out", "--to", "huggingface")
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    del said["files"]
    (tmp_path / "out" / "export.json").write_text(json.dumps(said))
    Predictor(tmp_path / "out")
    assert "export.json has no checksums" in capsys.readouterr().err


def test_validation_texts_are_spread_over_the_split(made_run):
    described = description_of()
    texts = validation_texts(made_run, described, most=1000, data_dir=None)
    assert len(texts) == 8
    assert validation_texts(made_run, described, most=3, data_dir=None) == texts[::3]


@pytest.mark.parametrize(
    "damage", ['{"choices": []}\n{"inputs": "a', '{}\n{"x": 1}\n', '{}\n{"inputs": null}\n', ""]
)
def test_a_damaged_file_of_validation_texts_is_named(tmp_path, damage):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "choices-validation-7.jsonl").write_text(damage)
    with pytest.raises(ValueError, match=r"choices-validation-7\.jsonl is damaged .*; take it away, and"):
        validation_texts(tmp_path, description_of(), most=3, data_dir=tmp_path)


def test_texts_of_another_validation_split_are_not_compared_on(tmp_path, capsys, monkeypatch):
    from stepdistill_jax.exports import checking

    index = SimpleNamespace(identity=SimpleNamespace(sha256="ab" * 32))
    monkeypatch.setattr(checking.record_io, "read_manifest", lambda folder: {"counts": {"validation": 3}})
    monkeypatch.setattr(checking, "split_index", lambda folder, split: index)
    monkeypatch.setattr(checking, "stream_examples", lambda *args: [SimpleNamespace(inputs="a")] * 3)
    for sha256, found in (("ab" * 32, 3), ("cd" * 32, 0)):
        described = description_of(content={"fruit/examples/validation": {"sha256": sha256}})
        assert len(validation_texts(tmp_path, described, most=9, data_dir=tmp_path)) == found
    assert "is not the one that the student was trained beside (abab" in capsys.readouterr().err


def test_labels_and_probabilities_that_differ_are_counted():
    from stepdistill_jax.prediction.predictor import Prediction

    def answers(*pairs):
        return lambda texts: [
            Prediction(label, value, {"a": value, "b": 1 - value}) for label, value in pairs
        ]

    check = compare(answers(("a", 0.9), ("a", 0.6)), answers(("a", 0.8), ("b", 0.4)), ["x", "y"])
    assert (check.num_texts, check.num_differing) == (2, 1)
    assert check.largest_difference == pytest.approx(0.2)
    assert check.agreement == 0.5
