"""`stepdistill prepare`: its flags, and what it prints."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag, as_typed
from stepdistill_jax.base.visible import shortened, spelled, told_plainly, visible, visible_line
from stepdistill_jax.preparing.calls import is_given

EXAMPLES = r"""
  stepdistill prepare tickets.csv --name tickets --inputs "{subject}\n{body}" --label queue
  stepdistill prepare train.jsonl --name mails --inputs text --label topic --validation dev.jsonl --test test.jsonl
  stepdistill prepare svamp
  stepdistill prepare cqa --from ../shared/data
  stepdistill prepare t5_vocabulary""".lstrip("\n")
_SHOWN_LABELS = 12
_SHOWN_CHARACTERS = 90
_NEXT = "stepdistill teach {} --teacher openai:MODEL --base_url URL"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE_OR_NAME",
        help="a table (csv, tsv, txt, jsonl, json, also as .gz; parquet), or a dataset of tasks/, or t5_vocabulary",
    )
    parser.add_argument(
        "--from",
        dest="from_folder",
        type=Path,
        metavar="FOLDER",
        help="of a dataset of tasks/: read files here, do not download",
    )
    add_data_dir_flag(parser)
    _add_table_flags(parser)
    _add_split_flags(parser)
    _add_label_flags(parser)


def _add_table_flags(parser: argparse.ArgumentParser) -> None:
    table = parser.add_argument_group("table", "described in DATA/NAME/dataset.json; all know it by its name")
    table.add_argument("--name", metavar="NAME", help="of the dataset (default: the file's)")
    table.add_argument(
        "--inputs",
        metavar="TEMPLATE",
        help=r"what is read: '{subject}\n{body}', or columns: subject,body",
    )
    table.add_argument("--label", metavar="COLUMN", help="what is to be answered")
    table.add_argument(
        "--id", metavar="COLUMN", help="tells rows, each by a value of its own (default: their numbers)"
    )
    table.add_argument(
        "--rationale",
        metavar="COLUMN",
        help="why the label is right: becomes the rationales of the teacher 'worked'",
    )
    table.add_argument(
        "--encoding", metavar="NAME", help="such as cp1252 (default UTF-8, or the file's mark)"
    )
    table.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="between columns, or tab (default: found among , ; | and tab)",
    )
    table.add_argument(
        "--skip_ragged", action="store_true", help="leave out rows with too many or too few cells"
    )
    table.add_argument("--licence", metavar="TEXT", help="of the data (default: not stated)")
    table.add_argument("--homepage", metavar="URL", help="of the data")
    table.add_argument(
        "--instruction", metavar="TEXT", help="what a teacher is told to do (default: to choose a label)"
    )


def _add_split_flags(parser: argparse.ArgumentParser) -> None:
    splits = parser.add_argument_group(
        "splits of a table", "by files, by a column, or cut: by a seed, each label in its share"
    )
    splits.add_argument("--validation", type=Path, metavar="FILE", help="a table with the same columns")
    splits.add_argument("--test", type=Path, metavar="FILE", help="a table with the same columns")
    splits.add_argument("--split", metavar="COLUMN", help="says train, validation (or dev) or test")
    splits.add_argument(
        "--holdout",
        type=float,
        metavar="SHARE",
        help="of the rows, for each split that has to be cut (default 0.1; 0 cuts none)",
    )
    splits.add_argument("--seed", type=int, metavar="N", help="of the cut (default 0)")


def _add_label_flags(parser: argparse.ArgumentParser) -> None:
    labels = parser.add_argument_group("labels of a table")
    labels.add_argument(
        "--choices",
        nargs="*",
        metavar="LABEL",
        help="the labels that there are; without any all of train (default: all, where they are few)",
    )
    labels.add_argument("--free", action="store_true", help="labels are open text")
    labels.add_argument(
        "--metric", choices=["text", "equation"], help="equation: equal values are right (default text)"
    )
    labels.add_argument("--drop_unlabelled", action="store_true", help="leave out rows without a label")
    labels.add_argument(
        "--merge_labels", action="store_true", help="labels that differ in case and spaces alone are one"
    )
    labels.add_argument(
        "--allow_unseen", action="store_true", help="validation and test may have labels that train has not"
    )
    labels.add_argument(
        "--label_word",
        action="append",
        metavar="LABEL=WORD",
        help="what the student writes for a label, where its vocabulary can't write it",
    )


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax import preparing

    manifest = preparing.prepare(
        args.source, from_folder=args.from_folder, data_dir=args.data_dir, **table_settings(args)
    )
    unchanged = " (nothing changed)" if manifest.get("unchanged") else ""
    if "vocabulary" in manifest:
        print(visible_line(f"{manifest['vocabulary']}{unchanged}"))
        return
    counts = " / ".join(f"{count:,} {split}" for split, count in manifest["counts"].items())
    source = manifest["source"]
    source = source if source.startswith("made by") else f"from {source}"
    print(visible_line(f"{manifest['dataset']}: {counts} examples {source}{unchanged}"))
    for line in _of_table(manifest):
        print(f"  {visible_line(line)}")
    for note in (*manifest["notes"], *manifest["vocabulary_notes"]):
        print(visible(f"  note: {note}"))
    print(visible(f"  licence: {manifest['licence']}"))
    if "first" in manifest:
        print(f"  next: {visible_line(_NEXT.format(manifest['dataset']) + as_typed(args.data_dir))}")


def table_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The flags of a table that were given, as arguments of `preparing.prepare`.

    Raises:
      ValueError: for a --label_word that is none.
    """
    names = (
        *("name", "inputs", "label", "id", "rationale", "encoding", "delimiter", "skip_ragged", "licence"),
        *("homepage", "instruction", "validation", "test", "split", "holdout", "seed", "choices", "free"),
        *("metric", "drop_unlabelled", "merge_labels", "allow_unseen"),
    )
    given = {name: value for name in names if is_given(value := getattr(args, name))}
    if "choices" in given:
        given["choices"] = tuple(given["choices"])
    if args.label_word:
        pairs = [text.partition("=") for text in args.label_word]
        for text, (label, equals, word) in zip(args.label_word, pairs, strict=True):
            if not (label and equals and word):
                raise ValueError(f"--label_word {text}: give LABEL=WORD.")
        given["label_words"] = {label: word for label, _, word in pairs}
        if len(given["label_words"]) < len(pairs):
            raise ValueError(f"--label_word {' '.join(args.label_word)}: give every label one word.")
    return given


def _of_table(manifest: Mapping[str, Any]) -> list[str]:
    """What a table was made into: its labels with their training rows, and the first row as it is read."""
    lines = []
    if labels := manifest.get("labels"):
        shown = ", ".join(
            f"{told_plainly(shortened(label, _SHOWN_CHARACTERS))} {count:,}"
            for label, count in list(labels.items())[:_SHOWN_LABELS]
        )
        more = f", and {len(labels) - _SHOWN_LABELS:,} more" if len(labels) > _SHOWN_LABELS else ""
        lines.append(f"labels: {shown}{more}")
    if first := manifest.get("first"):
        inputs, label = (spelled(shortened(first[key], _SHOWN_CHARACTERS)) for key in ("inputs", "label"))
        lines.append(f"first row: {inputs} -> {label}")
    return lines
