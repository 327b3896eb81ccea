"""A small dataset with prepared examples, and recorded outputs for it."""

import json
import sqlite3
from types import SimpleNamespace

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.datasets import registry

SIZES = {"train": 4, "validation": 2, "test": 2}


def _rows(split):
    first = {"train": 10, "validation": 20, "test": 30}[split]
    return [
        {"a": first + i, "solved": i != 1, "gold": split != "train" or i != 2} for i in range(SIZES[split])
    ]


def _to_example(row):
    return datasets.Fields(
        inputs=f"Mia has {row['a']} plums and gets 2 more.",
        label=f"{row['a']} + 2" if row["gold"] else None,
        explanation=f"2 more than {row['a']} is {row['a'] + 2}." if row["solved"] else "",
    )


@pytest.fixture
def plums(tmp_path, monkeypatch):
    """The prepared dataset 'plums' (train row 1 has no explanation, row 2 no gold label), and its folders."""
    dataset = datasets.Dataset(
        name="plums",
        to_example=_to_example,
        rows=_rows,
        metric="equation",
        completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
        default_teacher="tutor",
    )
    monkeypatch.setitem(registry._DATASETS, "plums", dataset)
    datasets.prepare("plums", data_dir=tmp_path / "data")
    return SimpleNamespace(
        name="plums",
        data_dir=tmp_path / "data",
        recorded=tmp_path / "recorded",
        rationales=tmp_path / "data" / "plums" / "rationales",
    )


@pytest.fixture
def outputs(plums):
    """Writes recorded outputs: `outputs('train_CoT_0.json', [...])`; called first with a good set for all splits."""
    folder = plums.recorded / "plums" / "teacher" / "tutor"
    folder.mkdir(parents=True)

    def write(name, texts):
        (folder / name).write_text(json.dumps(texts))
        return folder / name

    write("train_CoT_0.json", ["Ten and two. The answer is (10 + 2).\n\nQ: more", "No idea."])
    write("train_CoT_1.json", ["The answer is (12 + 2).", "Thirteen and one. The answer is (13 + 1)."])
    write("valid_CoT_0.json", ["a. The answer is (2 + 20).", "b. The answer is (22)."])
    write("test_CoT_0.json", ["a. The answer is (31).", "b. The answer is (__import__('os').getpid())."])
    return write


# The tables of version 0.1.0, before thoughts had a column.
_EARLIER = """
create table answers (
  key blob primary key, example_id text not null, sample integer not null, text text not null,
  finish_reason text not null, prompt_tokens integer not null, completion_tokens integer not null, model text not null
) without rowid;
create table failures (
  key blob primary key, example_id text not null, kind text not null, detail text not null, may_mend integer not null
) without rowid;
create table counters (name text primary key, value integer not null) without rowid;
insert into counters values ('asked', 1);
"""


@pytest.fixture
def earlier_store():
    """Writes a store as version 0.1.0 did: `earlier_store(path, [(request, text), …])`."""
    return _write_earlier_store


def _write_earlier_store(path, answers):
    connection = sqlite3.connect(path)
    connection.executescript(_EARLIER)
    rows = [(bytes.fromhex(r.key), r.example_id, r.sample, text, "stop", 3, 4, "m-1") for r, text in answers]
    connection.executemany("insert into answers values (?,?,?,?,?,?,?,?)", rows)
    connection.commit()
    connection.close()
