"""What can still be read of a damaged answer store: its rows, page by page, whatever happened to the pages around them.

SQLite itself reads a table from its root down, and stops at the first page that makes no sense. Here every page is looked at for
itself, those of the write-ahead log included. Answers are never changed, so a row is right wherever it is found whole. Rows are
known by their form: a key of 32 bytes, then texts in UTF-8 and whole numbers, as many as the table has columns.

The format: https://www.sqlite.org/fileformat2.html, sections 1.5 to 2.1 and 4.1.
"""

import itertools
import mmap
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Table

_MAGIC = b"SQLite format 3\x00"
_LEAF, _INTERIOR = 0x0A, 0x02  # pages of tables without rowid
_KEY_BYTES = 32
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
# Types of the columns of each table, without those that later versions added.
_ANSWER = (bytes, str, int, str, str, int, int, str)
_FAILURE = (bytes, str, str, str, int)
_COUNTER = (str, int)
_ASKED = (str, str)

_CHUNK = 1000  # rows of one commit

Row = tuple[bytes | str | int, ...]


class DamagedFile:
    """A file that SQLite can't read, with its write-ahead log."""

    def __init__(self, path: Path):
        self._path = path
        self._file = _mapped(path)
        self._wal = _mapped(_with_ending(path, "-wal"))
        self.page_bytes = self._find_page_bytes()
        self._frames = {number: page for number, page in self._wal_pages()}  # the last of a number wins
        self.num_unreadable = 0  # rows that are there, but not whole

    @property
    def is_sqlite(self) -> bool:
        return self._file[:16] == _MAGIC or len(self._wal) > _WAL_HEADER_BYTES

    def budgets(self) -> set[int]:
        """Each max_tokens that the store knows of, where SQLite can still read them."""
        try:
            with AnswerStore(self._path, read_only=True) as store:
                return store.budgets()
        except (ValueError, OSError, sqlite3.Error):
            return set()

    def rows(self) -> Iterator[tuple[Table, Row]]:
        """(table, row) of each row that is found whole; some come more than once."""
        self.num_unreadable = 0
        count = len(self._file) // self.page_bytes
        pages = (self._file[n * self.page_bytes : (n + 1) * self.page_bytes] for n in range(count))
        for page in pages:
            yield from self._page_rows(page)
        for _, page in self._wal_pages():
            yield from self._page_rows(page)

    def _find_page_bytes(self) -> int:
        size = int.from_bytes(self._file[16:18]) or 0
        if self._file[:16] == _MAGIC and size >= 512 and size & (size - 1) == 0:
            return size
        size = int.from_bytes(self._wal[8:12])
        return size if 512 <= size <= 65536 and size & (size - 1) == 0 else 4096

    def _wal_pages(self) -> Iterator[tuple[int, bytes]]:
        """(page number, page) of the frames that are of the log's present round, in their order."""
        salts = self._wal[16:24]
        step = _FRAME_HEADER_BYTES + self.page_bytes
        for start in range(_WAL_HEADER_BYTES, len(self._wal) - step + 1, step):
            if self._wal[start + 8 : start + 16] == salts:
                body = start + _FRAME_HEADER_BYTES
                yield int.from_bytes(self._wal[start : start + 4]), self._wal[body : start + step]

    def _page(self, number: int) -> bytes:
        if number in self._frames:
            return self._frames[number]
        page = self._file[(number - 1) * self.page_bytes : number * self.page_bytes]
        if number < 1 or len(page) < self.page_bytes:
            raise ValueError(f"no page {number}")
        return page

    def _page_rows(self, page: bytes) -> Iterator[tuple[Table, Row]]:
        kind = page[0]
        if kind not in (_LEAF, _INTERIOR):
            return
        header = 8 if kind == _LEAF else 12
        count = int.from_bytes(page[3:5])
        if header + 2 * count > len(page):
            count = (len(page) - header) // 2
        for place in range(header, header + 2 * count, 2):
            cell = int.from_bytes(page[place : place + 2])
            try:
                found = self._row(page, cell if kind == _LEAF else cell + 4)
            except (ValueError, IndexError):  # UnicodeDecodeError is one of the former
                self.num_unreadable += 1
                continue
            if found is not None:
                yield found

    def _row(self, page: bytes, start: int) -> tuple[Table, Row] | None:
        length, start = _varint(page, start)
        return _table_of(_record(self._payload(page, start, length)))

    def _payload(self, page: bytes, start: int, length: int) -> bytes:
        """A cell's bytes, those on overflow pages included."""
        if not 2 <= length <= len(self._file) + len(self._wal):
            raise ValueError(f"a row of {length} bytes")
        usable = self.page_bytes
        most, least = (usable - 12) * 64 // 255 - 23, (usable - 12) * 32 // 255 - 23
        if length <= most:
            return _slice(page, start, length)
        here = least + (length - least) % (usable - 4)
        here = here if here <= most else least
        parts, left = [_slice(page, start, here)], length - here
        number = int.from_bytes(_slice(page, start + here, 4))
        while left > 0:
            overflow = self._page(number)
            parts.append(overflow[4 : 4 + min(left, usable - 4)])
            left -= len(parts[-1])
            number = int.from_bytes(overflow[:4])
        if number != 0:
            raise ValueError("a row goes on behind its end")
        return b"".join(parts)


def _mapped(path: Path) -> mmap.mmap | bytes:
    if not path.exists() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _slice(page: bytes, start: int, length: int) -> bytes:
    found = page[start : start + length]
    if len(found) < length:
        raise ValueError("a row goes on behind its page")
    return found


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    number = 0
    for place in range(start, start + 8):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    return number << 8 | data[start + 8], start + 9


def _record(payload: bytes) -> Row:
    """The values of a record in SQLite's format."""
    end, place = _varint(payload, 0)
    types = []
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
    if place != end:
        raise ValueError("a record's header ends elsewhere")
    values, place = [], end
    for kind in types:
        value, place = _value(payload, place, kind)
        values.append(value)
    if place != len(payload):
        raise ValueError("a record ends elsewhere")
    return tuple(values)


def _value(payload: bytes, place: int, kind: int) -> tuple[bytes | str | int, int]:
    if kind in (8, 9):
        return kind - 8, place
    if kind >= 12:
        data = _slice(payload, place, (kind - 12) // 2)
        return (data.decode() if kind % 2 else data), place + len(data)
    if not 1 <= kind <= 6:
        raise ValueError(f"a value of type {kind}")  # no table of ours has fractions or nulls
    data = _slice(payload, place, (1, 2, 3, 4, 6, 8)[kind - 1])
    return int.from_bytes(data, signed=True), place + len(data)


def _table_of(row: Row) -> tuple[Table, Row] | None:
    """The row with its table's name; None if it is of none that matters."""
    types = tuple(map(type, row))
    if types == _COUNTER:
        return "counters", row
    if types == _ASKED:
        return "asked", row
    if not (row and types[0] is bytes and len(row[0]) == _KEY_BYTES):
        return None
    if types == _FAILURE:
        return "failures", row
    later = types[len(_ANSWER) :]
    is_answer = types[: len(_ANSWER)] == _ANSWER and set(later) <= {str}
    return ("answers", row) if is_answer else None


def salvage(path: Path) -> str:
    """Puts a new store in the place of a damaged one, with all that can be read, and keeps the damaged one beside it.

    Returns:
      A line that says how many answers were read, how many are lost, and where the damaged file is.

    Raises:
      ValueError: if it is no store, or holds nothing of one.
    """
    damaged = DamagedFile(path)
    new = path.with_name(f".{path.name}.salvaged")
    _remove(new)
    with AnswerStore(new) as store:
        for table, rows in _chunks(damaged.rows()):
            store.restore(table, rows)
        for budget in damaged.budgets():
            store.note_budget(budget)
        num_answers, counters = store.num_answers(), store.counters()
    if not num_answers and not damaged.is_sqlite:
        _remove(new)
        raise ValueError(f"{path} is not an answer store; move it away to begin anew.")
    kept = path.with_name(f"{path.name}.damaged-{datetime.now():%Y%m%d-%H%M%S}")
    _second_name(path, kept)
    wal = _with_ending(path, "-wal")
    if wal.exists() and wal.stat().st_size:
        wal.replace(_with_ending(kept, "-wal"))
    for ending in ("-wal", "-shm"):  # they are of the damaged file
        _with_ending(path, ending).unlink(missing_ok=True)
    new.replace(path)
    # A job counts what it was answered; what a merge took over is counted elsewhere.
    lost = max(counters["answered"] - num_answers, 0) or damaged.num_unreadable
    return (
        f"{path} was damaged: {num_answers:,} answers were read out of it into a new one, and {lost:,} are lost, as far as "
        f"one can tell; what is missing is asked again. The damaged file is kept as {kept.name}."
    )


def _chunks(rows: Iterable[tuple[Table, Row]]) -> Iterator[tuple[Table, list[Row]]]:
    for table, found in itertools.groupby(rows, key=lambda pair: pair[0]):
        while chunk := [row for _, row in itertools.islice(found, _CHUNK)]:
            yield table, chunk


def _second_name(path: Path, kept: Path) -> None:
    """The same file under another name, too; a copy where the disk knows no second names."""
    try:
        os.link(path, kept)
    except OSError:
        shutil.copyfile(path, kept)


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        _with_ending(path, ending).unlink(missing_ok=True)


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
