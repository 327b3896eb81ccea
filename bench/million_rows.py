"""A table of many rows through `stepdistill predict`: rows a second, memory over time, killed once and gone on with.

    python bench/million_rows.py [--rows 1000000] [--folder DIR]

Trains a student of 0.3 M parameters on made-up rows of three choices (seconds), writes the table, starts the command, ends it by SIGKILL
when a third is answered, starts it again, and compares the output with the table row by row. Memory is the process's resident set.
"""

import argparse
import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_CHOICES = ("few", "some", "many")
_WORDS = ("apples", "pears", "cars", "books and a long list of other things")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        _train(folder)
        table, output = folder / "new.csv", folder / "answers.csv"
        _write_table(table, args.rows)
        print(f"{args.rows:,} rows, {table.stat().st_size / 1e6:,.0f} MB, {os.cpu_count()} cores")
        command = [
            *(sys.executable, "-m", "stepdistill_jax", "predict", str(folder / "run")),
            *(
                "--input",
                str(table),
                "--output",
                str(output),
                "--inputs",
                "question",
                "--data_dir",
                str(folder),
            ),
        ]
        journal = folder / "answers.csv.partial.json"
        killed = _followed(command, journal, kill_at=args.rows // 3)
        assert not output.exists()
        print(f"killed at {killed:,} rows; the same command again:")
        _followed(command, journal, kill_at=None)
        _compare(table, output)


def _train(folder: Path) -> None:
    from stepdistill_jax import datasets
    from stepdistill_jax.launching import launch, task_modules

    task_modules.load_tasks()
    to_example = lambda row: datasets.Fields(row["text"], row["label"], _CHOICES)  # noqa: E731
    datasets.register(
        datasets.Dataset("amounts", to_example, rows=_examples, choices=_CHOICES, embedded=True)
    )
    datasets.prepare("amounts", data_dir=folder)
    bindings = [
        f"MODEL_DIR = {str(folder / 'run')!r}",
        "MIXTURE_OR_TASK_NAME = 'amounts_label'",
        "TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 16}",
        "TRAIN_STEPS = 100",
        "EVAL_PERIOD = 100",
    ]
    launch.call("train", ["gin/dsbs_t5_micro.gin"], bindings, data_dir=folder)


def _examples(split: str) -> list[dict[str, str]]:
    start = {"train": 0, "validation": 600, "test": 800}[split]
    count = 600 if split == "train" else 200
    return [
        {"text": _question(number), "label": _CHOICES[number % 3]} for number in range(start, start + count)
    ]


def _question(number: int) -> str:
    return f"Mia has {number % 1000} {_WORDS[number // 7 % len(_WORDS)]}, number {number}."


def _write_table(path: Path, rows: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "question", "note"))
        writer.writerows(
            (n, _question(n), 'a "quoted", ü\nnote' if n % 100 == 0 else "") for n in range(rows)
        )


def _followed(command: list[str], journal: Path, *, kill_at: int | None) -> int:
    """Runs the command, and prints its memory at every tenth reading of some; gives the rows that it had kept at the end."""
    begin, start_rows, kept, sizes = time.perf_counter(), _rows_in(journal), 0, []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            kept = _rows_in(journal) or kept
            if (resident := _resident_bytes(process.pid)) and kept > start_rows:
                sizes.append((kept, resident / 1e6))
            if kill_at is not None and kept >= kill_at:
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.5)
    seconds = time.perf_counter() - begin
    shown = itertools.islice(sizes, 0, None, max(1, len(sizes) // 10))
    print("  rows: MB  " + "  ".join(f"{rows:,}: {size:,.0f}" for rows, size in shown))
    print(
        f"  {kept - start_rows:,} rows seen kept in {seconds:,.0f} s, start and compilation included ({(kept - start_rows) / seconds:,.0f} a "
        f"second); most {max(size for _, size in sizes):,.0f} MB"
    )
    assert process.returncode == (0 if kill_at is None else -signal.SIGKILL)
    return kept


def _rows_in(journal: Path) -> int:
    try:
        return json.loads(journal.read_text())["num_rows"]
    except FileNotFoundError:
        return 0


def _resident_bytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) * 1024 if found else 0


def _compare(table: Path, output: Path) -> None:
    """Every row of the table, in its order, and a label of the choices behind it."""

    def rows(path: Path) -> Iterator[list[str]]:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.reader(file)

    count = 0
    for asked, answered in zip(rows(table), rows(output), strict=True):
        assert answered[: len(asked)] == asked, (asked, answered)
        assert count == 0 or answered[3] in _CHOICES, answered
        count += 1
    print(f"  {count - 1:,} rows compared: the same, in order, each with a label")


if __name__ == "__main__":
    main()
