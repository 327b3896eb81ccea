"""Settings that make no sense together, and the command that says them."""

import shlex
from pathlib import Path

import pytest

from stepdistill_jax import cli
from stepdistill_jax.preparing import command
from stepdistill_jax.tables import TableError

FILE = Path("tickets.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "My tickets"}, "--name My tickets: use lower-case letters"),
        ({"holdout": 0.5}, "--holdout 0.5: give a share from 0"),
        ({"split": "part", "test": FILE}, "by a column or by files, not by both"),
        ({"choices": (), "free": True}, "--choices and --free"),
        ({"choices": ("a", "b"), "metric": "equation"}, "--choices and --metric equation"),
        ({"choices": ("a", "b", "a")}, "--choices 'a' 'b' 'a': give every label once"),
        (
            {"choices": ("a", "b", " ")},
            "--choices 'a' 'b' ' ': give every label once, and none that is blank",
        ),
        ({"inputs": "{subject} {queue}"}, "has the column 'queue' of --label, which new rows lack"),
        ({"inputs": "subject,why", "rationale": "why"}, "has the column 'why' of --rationale"),
        ({"split": "queue"}, "--split queue: that is the column of --label"),
        ({"choices": ("a,b",)}, "--choices a,b: one label teaches nothing"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(settings, changes, said):
    with pytest.raises(TableError, match=said):
        settings(FILE, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"validation": Path("dev set.csv"), "test": Path("test.csv"), "id": "key", "rationale": "why"},
        {"holdout": 0.0, "seed": 4, "choices": ("a", "b c"), "label_words": {"<a>": "x"}},
        {
            "choices": (),
            "merge_labels": True,
            "allow_unseen": True,
            "skip_ragged": True,
            "drop_unlabelled": True,
        },
        {
            "free": True,
            "encoding": "cp1252",
            "delimiter": ";",
            "instruction": "Say it's so.",
            "homepage": "here",
        },
        {"metric": "equation", "licence": "CC0", "inputs": "a\tb {x}\n{y}"},
    ],
)
def test_the_command_says_the_settings(settings, changes):
    made = settings(FILE, **changes)
    words = shlex.split(made.command)
    args = cli.parser_of("prepare").parse_args(words[1:])
    assert words[0] == "stepdistill"
    again = command.table_settings(args)
    assert settings(Path(args.source), **{**again, "inputs": made.template.template}) == settings(
        FILE, **{**changes, "inputs": made.template.template}
    )
