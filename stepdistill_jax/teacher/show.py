"""`stepdistill teach show FILE|FOLDER`: what a teacher said, readably."""

import argparse
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base import quiet
from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.visible import visible
from stepdistill_jax.datasets import record_io
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher.answers.mends import MENDS

EXAMPLES = """\
  stepdistill teach show data/wordproblems/rationales/worked
  stepdistill teach show data/svamp/rationales/palm-540b --unparsed --number 0"""
_SHARD = re.compile(r"(?P<split>\w+)-\d{5}-of-\d{5}\.tfrecord")
_WIDTH = 110


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, metavar="FILE|FOLDER", help="DATA/<dataset>/rationales/<teacher>, or a shard"
    )
    parser.add_argument("--split", help="train, validation or test (default all)")
    parser.add_argument("--unparsed", action="store_true", help="only answers that could not be read")
    parser.add_argument(
        "--dropped", action="store_true", help="only answers that a quality rule keeps from students"
    )
    parser.add_argument("--wrong", action="store_true", help="only labels that differ from the gold label")
    parser.add_argument(
        "-n", "--number", type=int, default=10, metavar="N", help="at most (default 10; 0 shows all)"
    )


def run(args: argparse.Namespace) -> None:
    """Prints the records that the flags choose, and how many there were."""
    if args.number < 0:
        raise ValueError(f"--number={args.number}; use 0 (all) or more.")
    folder = args.path.absolute() if args.path.is_dir() else args.path.absolute().parent
    with set_for_a_while(STEPDISTILL_DATA_DIR=folder.parents[2]):  # which describes datasets, too
        _print_records(args)


def _print_records(args: argparse.Namespace) -> None:
    task_modules.load_tasks()  # how labels are compared is the dataset's matter
    records = (record for record in read(args.path, args.split) if _is_wanted(record, args))
    shown = 0
    for record in itertools.islice(records, args.number or None):
        print(format_record(record))
        shown += 1
    more = "" if next(records, None) is None else "; there are more (--number 0 shows all)"
    print(f"{shown:,} record{'' if shown == 1 else 's'} shown{more}")


def read(path: Path, split: str | None = None) -> Iterator[dict[str, Any]]:
    """Records of a folder, or of one shard of it, in their order.

    Raises:
      FileNotFoundError: if there is no such path, or no manifest beside a shard.
      ValueError: if the folder has no such split, or isn't one of rationales, or a shard is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"No {path}; name DATA/<dataset>/rationales/<teacher>, or a shard in it.")
    folder = path if path.is_dir() else path.parent
    manifest = record_io.read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(
            f"{folder} has no {record_io.MANIFEST}: nothing was written there to the end."
        )
    if "teacher_label" not in manifest["features"]:
        raise ValueError(
            f"{folder} holds no teacher's records; its features are {', '.join(manifest['features'])}."
        )
    if path.is_dir():
        wanted = [split] if split else list(manifest["counts"])
        for name in wanted:
            yield from record_io.read_records(folder, name)
        return
    yield from _read_shard(path, manifest, split)


def _read_shard(path: Path, manifest: dict[str, Any], split: str | None) -> Iterator[dict[str, Any]]:
    """One file's records: those of its split from the sum of the earlier shards' lengths on."""
    quiet.import_tensorflow()
    import tensorflow_datasets as tfds

    match = _SHARD.fullmatch(path.name)
    if match is None or path.name not in manifest["files"]:
        raise ValueError(
            f"{path} is no shard of its folder; its manifest lists {', '.join(sorted(manifest['files']))}."
        )
    if split not in (None, match["split"]):
        raise ValueError(f"--split {split}: {path} is of split '{match['split']}'.")
    lengths = tfds.builder_from_directory(str(path.parent)).info.splits[match["split"]].shard_lengths
    place = sorted(name for name in manifest["files"] if name.startswith(f"{match['split']}-")).index(
        path.name
    )
    first = sum(lengths[:place])
    rows = record_io.read_records(path.parent, match["split"])
    yield from itertools.islice(rows, first, first + lengths[place])


def _is_wanted(record: dict[str, Any], args: argparse.Namespace) -> bool:
    if args.unparsed and not record["unparsed_reason"]:
        return False
    if args.dropped and not record.get("dropped_reason"):
        return False
    return not args.wrong or (record["has_label"] and not _is_right(record))


def _is_right(record: dict[str, Any]) -> bool:
    if record["unparsed_reason"]:
        return False
    try:
        dataset = datasets.get(record["dataset"])
    except ValueError:  # a dataset of one's own, which is not registered here
        return record["teacher_label"].strip() == record["label"].strip()
    return datasets.labels_match(dataset, record["teacher_label"], record["label"])


def format_record(record: dict[str, Any]) -> str:
    """A record as text of several lines, ended by an empty one; control characters are made visible."""
    gold = record["label"] if record["has_label"] else "(none)"
    mark = ("right" if _is_right(record) else "wrong") if record["has_label"] else "no gold label"
    fields = {"question": record["inputs"], "gold label": gold}
    if record["unparsed_reason"]:
        mend = MENDS.get(record["unparsed_reason"])
        fields["unparsed"] = record["unparsed_reason"] + (f" ({mend})" if mend else "")
        fields["raw output"] = record["raw_output"] or "(empty)"
    else:
        fields["label"] = f"{record['teacher_label']}  ({mark})"
        fields["rationale"] = record["rationale"]
    if record.get("dropped_reason"):
        fields["dropped"] = record["dropped_reason"]
    tokens = record["completion_tokens"]
    ended = record["finish_reason"] or "unknown"
    fields["ended"] = ended if tokens < 0 else f"{ended}, {tokens:,} tokens"
    lines = [visible(f"{record['example_id']}  by {record['teacher']}")]
    for name, value in fields.items():
        lines.append(f"  {name:<11} {_wrapped(visible(value))}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    """The text's lines, long ones wrapped, all but the first indented below it."""
    lines = [
        part
        for line in text.splitlines() or [""]
        for part in (textwrap.wrap(line, _WIDTH - 14, replace_whitespace=False) or [""])
    ]
    return ("\n" + " " * 14).join(lines)
