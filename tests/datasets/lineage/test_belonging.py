"""Ways to bring together what does not belong together: each is named, and nothing is read."""

import json
import shutil

import gin
import pytest
import seqio
from riddles import RIDDLES, write_jsonl
from test_seqio_tasks import write_rationales

from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage import indexes
from stepdistill_jax.datasets.lineage.mixed_data import MixedData
from stepdistill_jax.engine.data import contents
from stepdistill_jax.engine.data.dataset_config import DatasetConfig


@pytest.fixture
def riddles(register_dataset, data_folder, source_folder):
    """Riddles, prepared and taught."""
    dataset = register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    yield dataset
    gin.clear_config()


def config(name="riddles_step_by_step", split="train"):
    return DatasetConfig(name, {"inputs": 32, "targets": 32}, split, batch_size=2, shuffle=False, seed=0)


def prepare_anew(source_folder, rows, test=RIDDLES[10:]):
    write_jsonl(source_folder / "train.jsonl", rows)
    write_jsonl(source_folder / "test.jsonl", test)
    datasets.prepare("riddles", from_folder=source_folder)


def test_what_belongs_together_is_read_and_said(riddles):
    assert contents.check_together(config()) == []
    said = contents.contents_of([config()], whole_dataset=True)
    assert set(said) == {"riddles/examples/train", "riddles/examples/test", "riddles/rationales/sphinx/train"}
    assert said["riddles/examples/train"]["count"] == 10
    written = record_io.read_manifest(datasets.data_dir() / "riddles" / "examples")
    made_of = said["riddles/examples/test"].pop("from")
    assert said["riddles/examples/test"] == written["identity"]["test"]
    assert set(made_of["source_sha256"]) == {"train: train.jsonl", "test: test.jsonl"}


def test_a_split_that_the_teacher_was_not_asked_of_is_left_out(riddles, data_folder):
    write_rationales(data_folder, splits=("train",))
    said = contents.contents_of([config(), config(split="test")], whole_dataset=True)
    assert set(said) == {"riddles/examples/train", "riddles/examples/test", "riddles/rationales/sphinx/train"}


def one_label_changed(rows):
    return [{**rows[0], "answer": rows[1]["answer"]}, *rows[1:]]


def one_question_in_capitals(rows):
    return [*rows[:4], {**rows[4], "question": rows[4]["question"].upper()}, *rows[5:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda rows: rows[::-1],
            "10 of its 10 answers are to examples that say something else now, 0 to ones",
        ),
        (one_label_changed, "1 of its 10 answers are to examples that say something else now, 0 to ones"),
        (
            one_question_in_capitals,
            "1 of its 10 answers are to examples that say something else now, 0 to ones",
        ),
        (lambda rows: rows[:7], "0 of its 10 answers are to examples that say something else now, 3 to ones"),
    ],
    ids=["rows reversed", "one label changed", "one question in capitals", "three rows gone"],
)
def test_rationales_of_other_examples_are_refused(riddles, source_folder, change, said):
    prepare_anew(source_folder, change(RIDDLES[:10]))
    for name in ("riddles_step_by_step", "riddles_rationale", "riddles_rationale_then_label"):
        with pytest.raises(MixedData, match=said) as caught:
            contents.check_together(config(name))
    message = str(caught.value)
    assert "riddles/rationales/sphinx (train) does not belong to" in message
    assert "Run stepdistill teach riddles again" in message
    assert "\n" not in message
    with pytest.raises(MixedData):  # by SeqIO alone, as under T5X
        seqio.get_mixture_or_task("riddles_rationale").get_dataset(None, split="train", shuffle=False)
    assert contents.check_together(config("riddles_label")) == []  # examples alone are well


def test_examples_that_were_added_since_are_named(riddles, data_folder, source_folder):
    from stepdistill_jax.datasets.lineage.belonging import of_examples

    manifest = data_folder / "riddles" / "rationales" / "sphinx" / record_io.MANIFEST
    said = of_examples(data_folder / "riddles" / "examples")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **said}))
    assert contents.check_together(config()) == []
    more = [*RIDDLES[:10], {"question": "What has 99 legs?", "answer": "a stool", "why": "It walks."}]
    prepare_anew(source_folder, more)
    with pytest.raises(MixedData, match="1 of 11 examples have no answer"):
        contents.check_together(config())


def test_another_seed_of_splits_is_named(register_dataset, data_folder, source_folder):
    seed = 0

    def split_rows(rows):
        order = sorted(
            rows["train"], key=lambda row: (hash((row[1].source_row * 7 + seed * 3) % 10), row[1].source_row)
        )
        return {"train": order[2:], "validation": order[:2], "test": rows["test"]}

    register_dataset(split_rows=split_rows)
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    assert contents.check_together(config()) == []
    seed = 1
    datasets.prepare("riddles", from_folder=source_folder)
    with pytest.raises(MixedData, match="to ones that are gone"):
        contents.check_together(config())


def test_answers_of_another_teacher_under_the_same_name_are_named(riddles, data_folder):
    folder = data_folder / "riddles" / "rationales"
    record = json.loads((folder / "sphinx" / record_io.MANIFEST).read_text())
    (folder / "sphinx" / record_io.MANIFEST).write_text(json.dumps({**record, "teacher": "oedipus"}))
    with pytest.raises(MixedData, match=r"holds the answers of 'oedipus'.*name the folder so"):
        contents.check_together(config())


def test_records_copied_from_another_data_folder_are_named(
    riddles, data_folder, source_folder, tmp_path, monkeypatch
):
    rationales = data_folder / "riddles" / "rationales" / "sphinx"
    other = tmp_path / "other"
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(other))
    prepare_anew(source_folder, one_label_changed(RIDDLES[:10]))
    write_rationales(other)
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(data_folder))
    there = other / "riddles" / "rationales" / "sphinx"
    shutil.rmtree(rationales)
    shutil.copytree(there, rationales)  # the folder, manifest and all
    with pytest.raises(MixedData, match="1 of its 10 answers"):
        contents.check_together(config())
    write_rationales(data_folder, splits=("train",))  # of the wrong examples no more
    for shard in there.glob("train-*"):  # the records alone
        shutil.copy(shard, rationales)
    indexes._index.cache_clear()
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.tfrecord .* is damaged"):
        contents.check_together(config())


def test_whoever_allows_it_goes_on_and_is_told(riddles, source_folder, monkeypatch, capsys):
    prepare_anew(source_folder, RIDDLES[:10][::-1])
    monkeypatch.setenv("STEPDISTILL_MIXED_DATA", "allow")
    lines = contents.check_together(config())
    assert len(lines) == 1
    assert "does not belong to" in lines[0]
    assert "Allowed, and noted in run.json: " in capsys.readouterr().err
    monkeypatch.setenv("STEPDISTILL_MIXED_DATA", "perhaps")
    with pytest.raises(
        ValueError, match=r"mixed_data='perhaps' \(.*STEPDISTILL_MIXED_DATA\); use 'refuse' or 'allow'"
    ):
        contents.check_together(config())


def test_a_runs_data_are_compared_with_what_it_began_with(
    riddles, data_folder, source_folder, tmp_path, capsys
):
    run = tmp_path / "run"
    facts = {"content": contents.contents_of([config()], whole_dataset=True)}
    assert contents.check_unchanged([config(), config(split="test")], run, facts) == []
    prepare_anew(source_folder, one_label_changed(RIDDLES[:10]), test=RIDDLES[10:11])
    write_rationales(data_folder)
    assert contents.check_together(config()) == []  # they belong together, but the run knows others
    with pytest.raises(MixedData) as caught:
        contents.check_unchanged([config()], run, facts)
    assert "riddles/examples/train is not what" in str(caught.value)
    assert "1 changed, 0 new, 0 gone; then " in str(caught.value)
    with pytest.raises(MixedData, match=r"riddles/examples/test is not what .* 0 changed, 0 new, 1 gone"):
        contents.check_unchanged([config("riddles_label", "test")], run, facts)
    contents.check_unchanged([config()], run, {})  # no run, nothing to compare
    contents.check_unchanged([config()], run, {"seed": 3})
    assert "does not say what its data were" in capsys.readouterr().err


def test_answers_written_anew_are_another_training_set(riddles, data_folder, tmp_path):
    facts = {"content": contents.contents_of([config()])}
    write_rationales(data_folder, hinted=("riddles/train/1",))
    assert contents.check_unchanged([config()], tmp_path, facts) == []  # how it was asked is no content
    write_jsonl_again = data_folder / "riddles" / "rationales" / "sphinx"
    rows = list(record_io.read_records(write_jsonl_again, "train"))
    manifest = record_io.read_manifest(write_jsonl_again)
    rows[1] = {**rows[1], "rationale": "Another one."}
    record_io.write_records(
        write_jsonl_again, name="riddles", features=manifest["features"], splits={"train": rows}
    )
    with pytest.raises(MixedData, match="the examples are the same, the answers to them are others"):
        contents.check_unchanged([config()], tmp_path, facts)


def test_training_rows_in_another_order_are_another_stream(riddles, data_folder, tmp_path):
    facts = {"content": contents.contents_of([config("riddles_label")])}
    examples = data_folder / "riddles" / "examples"
    manifest = record_io.read_manifest(examples)
    splits = {split: list(record_io.read_records(examples, split)) for split in manifest["counts"]}
    record_io.write_records(
        examples,
        name="riddles",
        features=manifest["features"],
        splits={**splits, "train": splits["train"][::-1]},
        manifest={"notes": []},
    )
    with pytest.raises(MixedData, match="the same records stand in another order"):
        contents.check_unchanged([config("riddles_label")], tmp_path, facts)


def test_a_folder_without_an_identity_gets_one_from_its_records(riddles, data_folder):
    said = contents.contents_of([config()])
    for folder in ("examples", "rationales/sphinx"):
        path = data_folder / "riddles" / folder / record_io.MANIFEST
        manifest = json.loads(path.read_text())
        del manifest["identity"]
        path.write_text(json.dumps(manifest))
    indexes._index.cache_clear()
    shutil.rmtree(data_folder / "token_cache")
    assert contents.contents_of([config()]) == said


def test_a_damaged_index_is_made_again(riddles, data_folder):
    said = contents.contents_of([config()])
    kept = sorted((data_folder / "token_cache" / "content").glob("*.npz"))
    assert kept
    for number, path in enumerate(kept):
        data = bytearray(path.read_bytes())
        data = data[: len(data) // 2] if number % 2 else data[:-400] + bytes(400)
        path.write_bytes(data)
    indexes._index.cache_clear()
    assert contents.contents_of([config()]) == said
