"""Identities of what records say."""

import json
import subprocess
import sys

import numpy as np
import pytest

from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage import content
from stepdistill_jax.datasets.lineage.content import Difference

ROWS = [
    {
        "example_id": f"nuts/train/{n}",
        "inputs": f"How many are {n} nuts?",
        "label": str(n),
        "has_label": n != 2,
    }
    for n in range(4)
]


def identity(rows):
    return content.index_of(rows).identity


def test_the_identity_of_content_is_written_down():
    # From this implementation: a change would make every manifest and run.json say something else.
    assert identity(ROWS).as_dict() == {
        "sha256": "3232e52a2ac4f44fc60c61a2b6a75d8d974a48779cc7fdc08186eff092eddbf2",
        "order": "931604aca0d57173",
        "count": 4,
    }


def test_order_is_told_apart_from_content():
    assert identity(ROWS[::-1]).sha256 == identity(ROWS).sha256
    assert identity(ROWS[::-1]).order != identity(ROWS).order


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "how many are 1 nuts?"},
        {"label": "2"},
        {"example_id": "nuts/train/9"},
        {"has_label": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_an_example_says_counts(change):
    changed = [ROWS[0], {**ROWS[1], **change}, *ROWS[2:]]
    assert identity(changed).sha256 != identity(ROWS).sha256


def test_of_an_answer_the_teachers_words_count_and_its_cost_does_not():
    answer = {
        **ROWS[0],
        "teacher_label": "0",
        "rationale": "None.",
        "unparsed_reason": "",
        "completion_tokens": 3,
    }
    said = identity([answer]).sha256
    assert identity([{**answer, "completion_tokens": 9}]).sha256 == said
    for name in content.ANSWER_FEATURES:
        assert identity([{**answer, name: "else"}]).sha256 != said
    assert said != identity(ROWS[:1]).sha256


def test_a_question_is_the_same_however_it_is_written():
    assert content.question_hash("How  many\nNUTS?") == content.question_hash("how many nuts?")
    assert content.question_hash("１２ nuts") == content.question_hash("12 nuts")
    assert content.question_hash("12 nuts") != content.question_hash("13 nuts")


@pytest.mark.parametrize(
    "text",
    [
        "Tom's \u200bnuts & 5 - 3?",
        "\ufeffTom's nuts & 5 - 3?",
        "Tom's nu\u00adts & 5 - 3?",
        "Tom\u2019s nuts & 5 \u2013 3?",
        "Tom&#39;s nuts &amp; 5 \u2212 3?",
        "Tom&amp;#39;s nuts &amp;amp; 5&nbsp;- 3?",
        "\u202aTom's nuts & 5 - 3?\u202c",
        "Tom's nuts\ufe0f & 5 - 3?\x00",
        "Tom`s\u00a0nuts \uff06 5 - 3?",
    ],
)
def test_what_nobody_sees_makes_no_other_question(text):
    assert content.question_hash(text) == content.question_hash("Tom's nuts & 5 - 3?")
    assert content.question_hash(text) != content.question_hash("Toms nuts & 5 - 3?")


def test_accents_and_signs_of_a_text_are_its_own():
    assert content.normalized("nai\u0308ve") == content.normalized("na\u00efve")
    assert content.normalized("na\u00efve") != content.normalized("naive")
    assert content.normalized("5 - 3") != content.normalized("5 + 3")
    assert content.normalized("vector&lt;int&gt;") == content.normalized("vector<int>")
    assert content.normalized("vector<int>") != content.normalized("vector<char>")


def test_a_difference_is_counted_by_ids():
    later = [{**ROWS[0], "label": "9"}, *ROWS[1:3], {**ROWS[3], "example_id": "nuts/train/7"}]
    difference = content.difference(content.index_of(ROWS), content.index_of(later))
    assert difference == Difference(new=1, gone=1, changed=1)
    assert str(difference) == "1 changed, 1 new, 1 gone"
    assert not content.difference(content.index_of(ROWS), content.index_of(ROWS[::-1]))


def test_an_empty_split_has_an_identity_too():
    index = content.index_of([])
    assert index.identity.count == 0
    assert index.examples.shape == (0, 2)
    assert content.difference(index, content.index_of(ROWS)).new == 4
    assert index.ids.dtype == np.uint64


_WRITE = """
import sys
from stepdistill_jax.datasets import record_io
kinds = {name: "text" for name in ("example_id", "inputs", "label", "z", "a", "m", "rationale")} | {"has_label": "bool", "n": "int", "c": "texts"}
rows = [
    {name: f"{name} {n}" for name, kind in kinds.items() if kind == "text"} | {"has_label": True, "n": n, "c": ["x", "y"]}
    for n in range(50)
]
record_io.write_records(sys.argv[1], name="nuts", features=kinds, splits={"train": rows, "test": rows[:3]}, shard_size=20)
"""


def test_two_processes_write_the_same_bytes(tmp_path):
    for number in (1, 2):
        subprocess.run(
            [sys.executable, "-c", _WRITE, str(tmp_path / str(number))],
            check=True,
            timeout=300,
            env={**__import__("os").environ, "PYTHONHASHSEED": str(number)},
        )
    manifests = [json.loads((tmp_path / each / record_io.MANIFEST).read_text()) for each in ("1", "2")]
    assert manifests[0] == manifests[1]
    assert len(manifests[0]["files"]) >= 6
    assert manifests[0]["identity"]["train"]["count"] == 50
