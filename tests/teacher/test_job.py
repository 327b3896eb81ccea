"""The teacher's job on a small prepared dataset."""

import pytest
import tensorflow_datasets as tfds

from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher import Completion, teach


def _teach(plums, teacher="recorded", **settings):
    return teach("plums", teacher=teacher, from_folder=plums.recorded, data_dir=plums.data_dir, **settings)


def _records(folder, split):
    return list(record_io.read_records(folder, split))


def test_recorded_outputs_become_records_and_a_manifest(plums, outputs):
    manifest = _teach(plums)
    folder = plums.rationales / "tutor"
    records = _records(folder, "train")
    assert [r["rationale"] for r in records] == ["Ten and two.", "", "", "Thirteen and one."]
    assert [r["teacher_label"] for r in records] == ["(10 + 2)", "", "", "(13 + 1)"]
    assert [r["unparsed_reason"] for r in records] == ["", "no answer marker", "empty rationale", ""]
    assert [r["has_label"] for r in records] == [True, True, False, True]
    assert records[0]["raw_output"].endswith("Q: more")
    assert records[0]["example_id"] == "plums/train/0"
    assert records[0]["prompt_tokens"] == -1
    assert manifest["counts"] == {"train": 4, "validation": 2, "test": 2}
    assert manifest["parsed"] == {"train": 2, "validation": 2, "test": 2}
    assert manifest["unparsed"]["train"] == {"empty rationale": 1, "no answer marker": 1}
    assert manifest["sources"].keys() == {
        f"plums/teacher/tutor/{s}_CoT_0.json" for s in ("train", "valid", "test")
    } | {"plums/teacher/tutor/train_CoT_1.json"}
    assert record_io.verify(folder) == manifest


def test_records_are_opened_by_tfds(plums, outputs):
    _teach(plums)
    builder = tfds.builder_from_directory(str(plums.rationales / "tutor"))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 2,
    }


def test_second_run_with_the_same_inputs_writes_nothing_and_says_so(plums, outputs, capsys):
    manifest = _teach(plums)
    path = plums.rationales / "tutor" / "manifest.json"
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert _teach(plums) == manifest
    assert "up to date" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_changed_outputs_are_taught_again(plums, outputs):
    _teach(plums)
    outputs("test_CoT_0.json", ["new. The answer is (30 + 2).", "b. The answer is (1)."])
    _teach(plums)
    assert _records(plums.rationales / "tutor", "test")[0]["rationale"] == "new."


def test_damaged_records_are_written_again(plums, outputs, capsys):
    _teach(plums)
    shard = next((plums.rationales / "tutor").glob("train-*.tfrecord"))
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    _teach(plums)
    assert "Writing again" in capsys.readouterr().out
    record_io.verify(plums.rationales / "tutor")


def test_failed_run_leaves_the_old_records(plums, outputs):
    manifest = _teach(plums)
    outputs("test_CoT_0.json", ["only one"])
    with pytest.raises(ValueError, match="1 outputs, but row 1"):
        _teach(plums)
    assert record_io.verify(plums.rationales / "tutor") == manifest
    assert [child.name for child in plums.rationales.iterdir()] == ["tutor"]


def test_worked_teacher_takes_explanations_and_skips_rows_without(plums):
    manifest = _teach(plums, "worked")
    record = _records(plums.rationales / "worked", "train")[0]
    assert record["rationale"] == "2 more than 10 is 12."
    assert record["teacher_label"] == record["label"] == "10 + 2"
    assert manifest["skipped"]["train"] == {"no explanation in the dataset": 1, "no gold label": 1}
    assert manifest["counts"]["train"] == 2


def test_a_teacher_of_ones_own_needs_a_name_an_answer_and_its_sources(plums):
    class Echo:
        name = "echo"

        def complete(self, examples):
            return (
                Completion(f"{e.inputs} The answer is (1).\n\nQ: {e.inputs}", completion_tokens=7)
                for e in examples
            )

        def sources(self):
            return {}

    _teach(plums, Echo())
    record = _records(plums.rationales / "echo", "test")[0]
    assert (record["teacher"], record["completion_tokens"], record["teacher_label"]) == ("echo", 7, "(1)")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"teacher": "oracle"}, "No teacher 'oracle'"),
        ({"teacher": "recorded"}, "needs --from FOLDER"),
    ],
)
def test_wrong_setting_is_named(plums, settings, words):
    with pytest.raises(ValueError, match=words):
        teach("plums", data_dir=plums.data_dir, **settings)


def test_unprepared_dataset_is_said_with_the_command(plums, outputs, tmp_path):
    with pytest.raises(FileNotFoundError, match="stepdistill prepare plums"):
        teach("plums", teacher="recorded", from_folder=plums.recorded, data_dir=tmp_path / "elsewhere")


def test_worked_solutions_of_the_embedded_problems_all_parse(tmp_path):
    task_modules.load_tasks()
    datasets.prepare("wordproblems", data_dir=tmp_path)
    manifest = teach("wordproblems", teacher="worked", data_dir=tmp_path)
    assert manifest["parsed"] == {"train": 6000, "validation": 300, "test": 500}
