"""The teacher's job on a small prepared dataset."""

import dataclasses

import pytest
import tensorflow_datasets as tfds

from stepdistill_jax import cli, datasets
from stepdistill_jax.datasets import record_io, registry
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher import Answer, Batched, Completion, JobSettings, teach
from stepdistill_jax.teacher.asking.answer_store import AnswerStore
from stepdistill_jax.teacher.asking.job_settings import Shard


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


def test_outputs_of_which_none_can_be_read_are_no_success(plums, outputs, capsys):
    for name, number in (("train_CoT_0", 2), ("train_CoT_1", 2), ("valid_CoT_0", 2), ("test_CoT_0", 2)):
        outputs(f"{name}.json", ["No idea."] * number)
    command = [
        "teach",
        "plums",
        "--teacher",
        "recorded",
        "--from",
        plums.recorded,
        "--data_dir",
        plums.data_dir,
    ]
    for _ in range(2):  # the second time, records are up to date
        assert cli.main([str(part) for part in command]) == 65
        [line] = capsys.readouterr().err.strip().splitlines()[-1:]
        assert "plums by tutor: none of 8 answers could be read (8 x no answer marker)" in line
        assert "teach show" in line
    assert len(_records(plums.rationales / "tutor", "train")) == 4


class _Counter:
    """Answers every question about plums by what it says."""

    name, model, chat, max_batch = "counter", "counter-1", False, 64

    def start(self):
        pass

    def stop(self):
        pass

    def answer_batch(self, requests):
        numbers = [request.prompt.split("Mia has ")[-1].split()[0] for request in requests]
        return [Answer(f"Two more. The answer is ({number} + 2).", "stop") for number in numbers]


def test_manifest_and_store_say_which_examples_were_asked_and_a_merge_compares_them(plums, monkeypatch):
    def ask(**settings):
        job_settings = JobSettings(rows={"train": 4}, **settings)
        return teach("plums", teacher=Batched(_Counter()), data_dir=plums.data_dir, job_settings=job_settings)

    examples = record_io.read_manifest(plums.data_dir / "plums" / "examples")
    for index in range(2):
        ask(shard=Shard(index, 2))
    manifest = ask(merge=2)
    assert manifest["of_examples"] == examples["identity"]
    store = plums.data_dir / "plums" / "answers" / "counter" / "answers-00000-of-00002.sqlite"
    with AnswerStore(store, read_only=True) as answers:
        assert answers.asked() == {("train", examples["identity"]["train"]["sha256"])}

    dataset = datasets.get("plums")
    changed = dataclasses.replace(
        dataset, rows=lambda split: [{**row, "a": row["a"] + 5} for row in dataset.rows(split)]
    )
    monkeypatch.setitem(registry._DATASETS, "plums", changed)
    datasets.prepare("plums", data_dir=plums.data_dir)
    ask(shard=Shard(1, 2))
    with pytest.raises(
        ValueError, match=r"answers-00000-of-00002.sqlite was asked of other examples of train"
    ):
        ask(merge=2)
    ask(shard=Shard(0, 2))
    assert ask(merge=2)["counts"] == {"train": 4}
