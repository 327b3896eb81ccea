"""A table in, the same table with the student's answers out: in flat memory, and gone on with where it was interrupted.

    answers.csv                  appears when all rows are answered
    answers.csv.partial          rows that are answered
    answers.csv.partial.json     how many of them, and bytes, are whole; and for what: other settings don't go on with it

A kill at any moment loses the rows of one portion at most, a few seconds' worth.
"""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.folder_lock import lock_beside
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.whole_files import file_sha256, write_atomically
from stepdistill_jax.prediction.description import STUDENT
from stepdistill_jax.prediction.exported import EXPORT
from stepdistill_jax.prediction.misfits import Misfits
from stepdistill_jax.prediction.predictor import Prediction, Predictor, check_abstain_below
from stepdistill_jax.tables import Inputs, Row, RowWriter, Table, TableError, check_cells

_FIRST_PORTION, _LARGEST_PORTION = 256, 8192  # rows that are held in memory, and written together
_PORTION_SECONDS = 4.0
_DECIMALS = 6  # of a probability
_CHECKSUMS = "checksums.txt"  # of a checkpoint's files


@dataclasses.dataclass(frozen=True)
class Answered:
    """What became of a table.

    Attributes:
      num_rows: of it, all of which are in the output.
      num_blank: whose text is blank: their cells are empty.
      num_abstained: whose label is left out, as its probability is too small.
      columns: that were added, in order.
      misfits: sentences about texts that do not fit the student, of the rows that this call has answered.
    """

    num_rows: int
    num_blank: int
    num_abstained: int
    columns: tuple[str, ...]
    misfits: tuple[str, ...]


@dataclasses.dataclass
class _Journal:
    """How far a table has come, and with what."""

    settings: Mapping[str, Any]
    num_rows: int = 0
    num_bytes: int = 0
    num_blank: int = 0
    num_abstained: int = 0


def answer_table(
    predictor: Predictor,
    table: Table,
    output: Path,
    *,
    inputs: Inputs,
    rationale: bool = False,
    abstain_below: float = 0.0,
) -> Answered:
    """Writes the table with columns `label`, `probability` and, if asked for, `rationale` behind its own.

    Where the table has such a column, the new one is called `predicted_label` and so on. All rows are read once before the first is
    answered, so that a malformed one is named at once.

    Args:
      output: .csv, .tsv or .jsonl, not there yet.
      inputs: what the student reads of a row.
      rationale: whether it writes its rationale, too.
      abstain_below: labels of a smaller probability are left out.

    Raises:
      TableError: names file and line of a row that can't be read, or a column that there is not.
      FileExistsError: if the output is there.
      ValueError: if what is there of the output was begun with another input, student or settings.
      FolderInUse: if another process is writing it.
    """
    check_abstain_below(abstain_below)
    if rationale:
        predictor.check_writes_rationales()
    with lock_beside(output, f"{output} (stepdistill predict)").held():
        format = check_files(table, output, inputs=inputs)
        num_rows, columns = _look_through(table, inputs, format)
        added = _names_beside(columns, ("label", "probability", *(("rationale",) if rationale else ())))
        settings = {
            "input": file_sha256(table.path),
            "student": _identity(predictor),
            "inputs": inputs.template,
            "rationale": rationale,
            "abstain_below": abstain_below,
            "columns": [*columns, *added],
            "format": format,
        }
        journal_path = output.with_name(f"{output.name}.partial.json")
        journal = _journal(output, journal_path, settings)
        misfits = Misfits(predictor)
        with _opened(output, journal, num_rows) as (file, progress):
            write = _row_writer(file, columns, added, format, delimiter=table.delimiter)
            for rows in _portions(itertools.islice(table, journal.num_rows, None)):
                texts = [inputs.text(row) for row in rows]
                predictions = predictor(texts, rationale=rationale, abstain_below=abstain_below)
                misfits.add(texts, predictions)
                for row, prediction in zip(rows, predictions, strict=True):
                    write(row, _cells(prediction))
                _keep(file, journal, journal_path, predictions)
                progress.update(len(rows))
        _partial(output).replace(output)
        journal_path.unlink()
    return Answered(num_rows, journal.num_blank, journal.num_abstained, added, tuple(misfits.sentences()))


def check_files(table: Table, output: Path, *, inputs: Inputs) -> str:
    """Checks what can be seen without a student, and gives the output's format.

    Raises:
      TableError: if the table lacks a column of the template, or the output is of no kind that is written.
      FileExistsError: if the output is there.
    """
    table.check_columns(dict.fromkeys(inputs.columns, "--inputs"))
    if output.exists():
        raise FileExistsError(f"{output} exists; name another file, or move it away.")
    return RowWriter.format_of(output)


def _look_through(table: Table, inputs: Inputs, format: str) -> tuple[int, tuple[str, ...]]:
    """(number of rows, columns of all rows); raises what is wrong with a row, the first of such."""
    num_rows, columns = 0, dict.fromkeys(table.columns)
    may_hold_anything = table.delimiter is None and format != "jsonl"
    for row in table:
        inputs.text(row)
        if may_hold_anything:
            check_cells(row)
        num_rows += 1
        if row.values.keys() - columns.keys():  # of JSON objects alone
            columns.update(dict.fromkeys(row.values))
    if not num_rows:
        raise TableError(f"{table.path}: no rows, so there is nothing to answer.")
    return num_rows, tuple(columns)


def _names_beside(columns: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the new columns."""
    found = []
    for name in names:
        new = name
        while new in columns:
            new = f"predicted_{new}"
        if new != name:
            say_once(f"the table has a column {name!r}: the student's is {new!r}.")
        found.append(new)
    return tuple(found)


def _identity(predictor: Predictor) -> str:
    """Changes with whatever changes a student's answers: another training to the same step, too."""
    student = predictor.student
    said = [(student.folder / STUDENT).read_text(encoding="utf-8"), student.step, student.temperature]
    sums = [student.folder / EXPORT]
    if student.step is not None:
        sums.append(student.folder / checkpoint_folders.name_of(student.step) / _CHECKSUMS)
    said += [path.read_text(encoding="utf-8") for path in sums if path.is_file()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


def _journal(output: Path, path: Path, settings: Mapping[str, Any]) -> _Journal:
    """Where an interrupted call with the same settings had come to; else the beginning."""
    partial = _partial(output)
    if not (path.is_file() and partial.is_file()):
        return _Journal(settings)
    try:
        journal = _Journal(**json.loads(path.read_text(encoding="utf-8")))
        is_whole = partial.stat().st_size >= journal.num_bytes
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); take it and {partial} away to begin anew."
        ) from error
    different = [name for name, value in settings.items() if journal.settings.get(name) != value]
    if different or not is_whole:
        reason = f"with another {', '.join(different)}" if different else "and has lost rows since"
        raise ValueError(f"{partial} was begun {reason}; take it and {path} away to begin anew.")
    return journal


@contextlib.contextmanager
def _opened(output: Path, journal: _Journal, num_rows: int) -> Iterator[tuple[io.TextIOWrapper, tqdm]]:
    """(the partial file, cut to what is whole and ready to go on; a progress bar)."""
    partial = _partial(output)
    partial.parent.mkdir(parents=True, exist_ok=True)
    if journal.num_rows:
        say_once(f"{partial} has {journal.num_rows:,} of {num_rows:,} rows: going on behind them.")
    try:
        with (
            partial.open("r+" if journal.num_bytes else "w", encoding="utf-8", newline="") as file,
            tqdm(
                total=num_rows, initial=journal.num_rows, unit=" rows", desc="predict", disable=None
            ) as progress,
        ):
            file.truncate(journal.num_bytes)
            file.seek(journal.num_bytes)
            yield file, progress
    except BaseException:
        if not journal.num_rows:  # nothing to go on with
            partial.unlink(missing_ok=True)
        raise


def _row_writer(
    file: io.TextIOWrapper, columns: Sequence[str], added: Sequence[str], format: str, delimiter: str | None
) -> Any:
    """A function that writes a row and the new cells; the header is written where the file is empty."""
    delimiter = delimiter if format == "csv" and delimiter != "\t" else None
    writer = RowWriter(file, [*columns, *added], format=format, delimiter=delimiter)
    if file.tell() == 0:
        writer.write_header()
    lacking = dict.fromkeys(columns)

    def write(row: Row, cells: Sequence[Any]) -> None:
        new = dict(zip(added, cells[: len(added)], strict=True))
        if format == "jsonl":  # an object keeps its own keys
            RowWriter(file, [*row.values, *added], format=format).write({**row.values, **new})
        else:
            writer.write({**lacking, **row.values, **new})

    return write


def _portions(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """The rows in portions that take some seconds each: a larger one has more texts of like length, a kill loses one."""
    size, begin = _FIRST_PORTION, time.monotonic()
    while portion := list(itertools.islice(rows, size)):
        yield portion
        if time.monotonic() - begin < _PORTION_SECONDS:
            size = min(2 * size, _LARGEST_PORTION)
        begin = time.monotonic()


def _cells(prediction: Prediction) -> tuple[Any, ...]:
    probability = None if prediction.probability is None else round(prediction.probability, _DECIMALS)
    return prediction.label, probability, prediction.rationale


def _keep(file: io.TextIOWrapper, journal: _Journal, path: Path, predictions: Sequence[Prediction]) -> None:
    """The rows are on the disk first, then the journal says so."""
    file.flush()
    os.fsync(file.fileno())
    journal.num_rows += len(predictions)
    journal.num_bytes = file.buffer.tell()
    journal.num_blank += sum(prediction.probability is None for prediction in predictions)
    journal.num_abstained += sum(
        prediction.label is None and prediction.probability is not None for prediction in predictions
    )
    write_atomically(path, json.dumps(dataclasses.asdict(journal)) + "\n")
