"""A run, and what is made of it, when its data are no longer those that it began with."""

import json
import shutil
from pathlib import Path

import pytest

from stepdistill_jax import cli, teacher
from stepdistill_jax.datasets import record_io


def change(data: Path, of_split: str, **fields) -> None:
    """Writes the examples anew, the first of a split changed, and the worked answers to them."""
    folder = data / "wordproblems" / "examples"
    manifest = record_io.read_manifest(folder)
    splits = {split: list(record_io.read_records(folder, split)) for split in manifest["counts"]}
    splits[of_split][0] = {**splits[of_split][0], **fields}
    kept = {name: manifest[name] for name in ("dataset", "source", "licence", "examples_sha256", "notes")}
    record_io.write_records(
        folder,
        name="wordproblems",
        features=manifest["features"],
        splits=splits,
        manifest={**kept, "examples_sha256": str(fields)},
    )
    teacher.teach("wordproblems", teacher="worked", data_dir=data)


@pytest.fixture(scope="module")
def eight_steps(train, tmp_path_factory) -> Path:
    """A run on the word problems that has eight of its 24 steps. Read it only."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    train(folder, "TRAIN_STEPS = 8")
    return folder


@pytest.fixture
def data(data_dir, eight_steps, tmp_path, monkeypatch) -> Path:
    """A copy of the word problems to be changed; token ids and content are kept beside it, with those of `eight_steps`."""
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(data_dir / "token_cache", tmp_path / "cache")
    return Path(shutil.copytree(data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("token_cache")))


@pytest.fixture
def begun(eight_steps, data, tmp_path) -> Path:
    """A copy of it, on `data`."""
    return Path(shutil.copytree(eight_steps, tmp_path / "run"))


def test_run_json_says_its_data_and_every_start(train, data, begun, capsys):
    facts = json.loads((begun / "run.json").read_text())
    assert set(facts["content"]) == {
        *(f"wordproblems/examples/{split}" for split in ("train", "validation", "test")),
        *(f"wordproblems/rationales/worked/{split}" for split in ("train", "validation")),
    }
    assert facts["content"]["wordproblems/rationales/worked/train"]["from"]["teacher"] == "worked"
    versions = {**facts["starts"][0]["versions"], "jax": "0.0.1"}
    facts["starts"][0]["versions"] = versions
    (begun / "run.json").write_text(json.dumps(facts))
    train(begun, "TRAIN_STEPS = 12", data_dir=data)
    later = json.loads((begun / "run.json").read_text())
    assert [start["step"] for start in later["starts"]] == [0, 8]
    assert later["starts"][0] == facts["starts"][0]
    assert later["content"] == facts["content"]
    assert "goes on under other versions: jax " in capsys.readouterr().err
    [row] = [
        r for r in map(json.loads, (begun / "metrics.jsonl").open()) if r["step"] == 12 and "accuracy" in r
    ]
    digits = facts["content"]["wordproblems/examples/validation"]["sha256"][:12]
    assert row["data"] == {"wordproblems/examples/validation": digits}
    said = json.loads((begun / "predictions" / "data.json").read_text())
    assert said == {"wordproblems_label-validation": row["data"]}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_run_does_not_go_on_with_other_data(train, data, begun, split):
    change(data, split, label="1 + 1")
    with pytest.raises(
        ValueError, match=rf"examples/{split} is not what .*run began with: 1 changed, 0 new, 0 gone"
    ):
        train(begun, data_dir=data)
    lines = (begun / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 8


def test_a_changed_test_split_is_named_by_eval_and_infer_and_verify(data, begun, capsys, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(data))
    assert cli.main(["verify", str(begun)]) == 0
    assert "checkpoint_8: " in capsys.readouterr().out
    change(data, "test", inputs="Who is there?")
    for command in ("eval", "infer"):
        assert cli.main([command, str(begun), "--split", "test"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "wordproblems/examples/test is not what" in error
        assert "1 changed, 0 new, 0 gone" in error
    assert cli.main(["verify", str(begun)]) == 1
    assert "wordproblems/examples/test is not what" in capsys.readouterr().err


def test_whoever_allows_it_finds_it_in_run_json_and_in_the_reports_head(
    train, data, begun, monkeypatch, tmp_path
):
    monkeypatch.setenv("STEPDISTILL_MIXED_DATA", "allow")
    change(data, "train", label="1 + 1")
    train(begun, "TRAIN_STEPS = 12", data_dir=data)
    lines = json.loads((begun / "run.json").read_text())["starts"][1]["mixed_data"]
    assert [line.partition(" is not what")[0] for line in lines] == [
        "wordproblems/examples/train",
        "wordproblems/rationales/worked/train",
    ]
    assert cli.main(["report", str(begun), "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    head = page[: page.index("</header>")]
    assert "Mixed data." in head
    assert "wordproblems/examples/train is not what" in head


def test_verify_names_a_flipped_bit_of_a_checkpoint_and_answers_that_were_changed(
    data, finished_run, tmp_path, capsys
):
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    command = ["verify", str(run), "--data_dir", str(data)]
    assert cli.main(command) == 0
    [answers] = run.glob("predictions/*-24.jsonl")
    lines = answers.read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    answers.write_text("".join([json.dumps({**first, "correct": not first["correct"]}) + "\n", *lines[1:]]))
    capsys.readouterr()
    assert cli.main(command) == 1
    assert "right, the metrics" in capsys.readouterr().err
    answers.write_text("".join(lines))
    largest = max(
        (path for path in run.glob("checkpoint_24/**/*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    flipped = bytearray(largest.read_bytes())
    flipped[len(flipped) // 2] ^= 16
    largest.write_bytes(flipped)
    assert cli.main(command) == 1
    assert largest.name in capsys.readouterr().err
