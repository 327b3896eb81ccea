"""`stepdistill verify` on data: whole, damaged, and mixed."""

import json
import shutil

import pytest

from stepdistill_jax import cli, datasets, teacher
from stepdistill_jax.datasets import record_io
from stepdistill_jax.report.verify.tree import Node

DATASETS = {"train": 30, "validation": 4, "test": 6}


@pytest.fixture(scope="module")
def word_problems(tmp_path_factory):
    import dataclasses

    from stepdistill_jax.datasets import registry
    from stepdistill_jax.launching import task_modules

    folder = tmp_path_factory.mktemp("verify") / "data"
    task_modules.load_tasks()
    whole = datasets.get("wordproblems")
    few = dataclasses.replace(whole, rows=lambda split: whole.rows(split)[: DATASETS[split]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._DATASETS, "wordproblems", few)
        datasets.prepare("wordproblems", data_dir=folder)
        teacher.teach("wordproblems", teacher="worked", data_dir=folder)
    return folder


@pytest.fixture
def data(word_problems, tmp_path, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "cache"))
    return shutil.copytree(word_problems, tmp_path / "data")


def test_data_that_are_whole_are_printed_as_a_tree(data, capsys):
    for path in (data, data / "wordproblems", data / "wordproblems" / "rationales" / "worked"):
        assert cli.main(["verify", str(path)]) == 0
        out = capsys.readouterr().out
        assert "rationales of worked" in out
        assert "30 train, 4 validation, 6 test" in out
        assert out.splitlines()[-1] == "All of it is whole, and belongs together."


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """Twelve texts and their colour, of which one is in train and test, but for a character that nobody sees."""
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "cache"))
    texts = {"train": [f"Thing {n}" for n in range(8)], "test": ["Thing 9", "Thi\u200bng 3"]}
    for split, rows in texts.items():
        lines = [f"{text},{('red', 'blue')[n % 2]}" for n, text in enumerate(rows)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,colour", *lines]) + "\n", encoding="utf-8")
    flags = [
        "--inputs",
        "{text}",
        "--label",
        "colour",
        "--holdout",
        "0",
        "--data_dir",
        str(tmp_path / "data"),
    ]
    table, test = (str(tmp_path / f"{split}.csv") for split in texts)
    assert cli.main(["prepare", table, "--name", "colours", "--test", test, *flags]) == 0
    return tmp_path / "data" / "colours"


def test_a_test_question_that_is_learned_from_is_named(colours, capsys):
    assert cli.main(["verify", str(colours.parent)]) == 1
    said = capsys.readouterr()
    assert "1 of the 2 questions of" in said.err
    assert "colours/test/1 (as colours/train/3)" in said.err
    assert "To go on all the same" not in said.out


def test_choices_that_are_no_longer_the_labels_are_named(colours, capsys):
    path = colours / "dataset.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "choices": ["red", "green"]}))
    assert cli.main(["verify", str(colours)]) == 1
    assert "'choices' lacks 'blue'" in capsys.readouterr().err
    splits = {split: {**facts, "labels": None} for split, facts in said["splits"].items()}
    path.write_text(json.dumps({**said, "choices": ["red", "green"], "splits": splits}))
    assert cli.main(["verify", str(colours)]) == 1
    assert "'choices' lacks 'blue', a label of" in capsys.readouterr().err


def test_a_flipped_bit_is_named(data, capsys):
    [shard] = (data / "wordproblems" / "examples").glob("test-*")
    flipped = bytearray(shard.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    shard.write_bytes(flipped)
    assert cli.main(["verify", str(data)]) == 1
    said = capsys.readouterr()
    assert f"✗ {shard} " in said.out
    assert "is damaged" in said.err


def test_records_that_do_not_say_what_the_manifest_says_are_named(data, capsys):
    folder = data / "wordproblems" / "examples"
    path = folder / record_io.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["identity"]["test"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert cli.main(["verify", str(folder)]) == 1
    assert "(test): the manifest says 000000000000, 6 records; the records say" in capsys.readouterr().err


def test_rationales_of_other_examples_are_named(data, capsys):
    folder = data / "wordproblems" / "examples"
    manifest = record_io.read_manifest(folder)
    splits = {split: list(record_io.read_records(folder, split)) for split in manifest["counts"]}
    splits["train"][3]["inputs"] = splits["train"][3]["inputs"].upper()
    record_io.write_records(folder, name="wordproblems", features=manifest["features"], splits=splits)
    assert cli.main(["verify", str(data)]) == 1
    assert "1 of its 30 answers are to examples that say something else now" in capsys.readouterr().err


def test_a_folder_without_an_identity_is_verified_by_its_checksums(data, capsys):
    path = data / "wordproblems" / "examples" / record_io.MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["identity"]
    path.write_text(json.dumps(manifest))
    assert cli.main(["verify", str(data)]) == 0
    assert "(computed: the manifest has none)" in capsys.readouterr().out


def test_what_is_nothing_of_ours_is_one_line(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "holds no data, no run and no sweep" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_tree_is_drawn():
    tree = Node("a", ["wrong"], [Node("b", children=[Node("c")]), Node("d")])
    assert list(tree.lines()) == ["a", "├─ ✗ wrong", "├─ b", "│  └─ c", "└─ d"]
