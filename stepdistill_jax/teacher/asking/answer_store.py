"""Every answer that was ever paid for, raw, in an SQLite file: DATA/<dataset>/answers/<teacher>/answers.sqlite.

    answers   key (of the Request) -> text, finish reason, token counts, model, and thoughts that came in a field of their
              own; never changed, never deleted. Stores of earlier versions, which have no thoughts, are given the column
    failures  key -> kind and last error of a request that was given up; an answer to the same request takes its place
    budgets   each max_tokens that answers were asked for with; stores of earlier versions don't say
    asked     identity of each split whose examples were asked for (`datasets.lineage`); earlier versions don't say
    counters  what was asked, answered and retried over all runs of the job

A commit hands the bytes to the operating system before an answer counts as done, so a killed process loses none;
`sync`, which the job calls every second, brings them to the disk, so a power cut loses at most that second. Inspect with
`sqlite3 answers.sqlite "select example_id, text from answers limit 3"`.
"""

import contextlib
import errno
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stepdistill_jax.teacher.answers.requests import Answer, Failure, Reply, Request, Sampling

_SCHEMA = """
create table if not exists answers (
  key blob primary key, example_id text not null, sample integer not null, text text not null,
  finish_reason text not null, prompt_tokens integer not null, completion_tokens integer not null, model text not null,
  thoughts text not null default ''
) without rowid;
create table if not exists failures (
  key blob primary key, example_id text not null, kind text not null, detail text not null, may_mend integer not null
) without rowid;
create table if not exists budgets (max_tokens integer primary key);
create table if not exists asked (split text, sha256 text, primary key (split, sha256)) without rowid;
create table if not exists counters (name text primary key, value integer not null) without rowid;
"""
_ANSWER = "text, finish_reason, prompt_tokens, completion_tokens, model"
_INSERT_ANSWER = "insert or ignore into answers values (?,?,?,?,?,?,?,?,?)"
_LOOKUP = 500  # keys of one query, below SQLite's limit of variables


Table = Literal["answers", "failures", "asked", "counters"]


class StoreDamaged(ValueError):
    """A store that can't be read, or not to its end; `damaged_store.salvage` takes over what can be."""


@dataclass
class Batch:
    """What is written with the next commit."""

    answers: list[tuple[Request, Answer]] = field(default_factory=list)
    failures: list[tuple[Request, Failure]] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)


class AnswerStore:
    """One file, one writing process. Its methods may be called from several threads.

    Raises:
      StoreDamaged: if the file is damaged, or is not an answer store.
      ValueError: if another process writes to the file.
      OSError: if the disk is full or fails; from all methods.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False):
        self.path = Path(path)
        self._budgets: set[int] = set()
        self._lock = threading.Lock()
        self._connection = _connect(self.path, read_only=read_only)
        try:
            with _errors_explained(self.path):
                self._open(read_only=read_only)
        except Exception:
            self._connection.close()
            raise

    def _open(self, *, read_only: bool) -> None:
        if read_only:
            self._connection.execute("select count(*) from counters")
            self._thoughts = "thoughts" if self._holds_thoughts() else "''"
            self._budgets = self._read_budgets()
            return
        # Exclusive: refuses a second job on the same file, and works on network file systems, as WAL's shared memory
        # is not needed then.
        self._connection.execute("pragma locking_mode = exclusive")
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(f"begin immediate; {_SCHEMA} commit;")
        if not self._holds_thoughts():
            self._connection.execute("alter table answers add column thoughts text not null default ''")
        self._thoughts = "thoughts"
        self._budgets = self._read_budgets()

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def check(self) -> None:
        """Reads everything once: what damage there is shows now, and not in the middle of a job.

        Raises:
          StoreDamaged: for a page that SQLite can't follow, or a text that is none.
        """
        [[said]] = self._all("pragma quick_check(1)")
        if said != "ok":
            raise StoreDamaged(f"{self.path} is damaged ({said})")
        for query in (
            f"select example_id, text, finish_reason, model, {self._thoughts} from answers",
            "select example_id, kind, detail from failures",
            "select name from counters",
        ):
            for _ in self._chunks(query):
                pass

    def note_asked(self, identities: Mapping[str, str]) -> None:
        """Notes which examples are asked for: split -> identity."""
        self._insert("insert or ignore into asked values (?,?)", list(identities.items()))

    def asked(self) -> set[tuple[str, str]]:
        """(split, identity) of all examples that were ever asked for; none where an earlier version wrote the store."""
        known = self._all("select 1 from sqlite_master where type = 'table' and name = 'asked'")
        return set(self._all("select split, sha256 from asked")) if known else set()

    def restore(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        """Takes over rows of a damaged store, in any order and more than once; answers of earlier versions have no thoughts."""
        if table == "answers":
            self._insert(_INSERT_ANSWER, [(*row, "")[:9] for row in rows])
            self._insert("delete from failures where key = ?", [row[:1] for row in rows])
        elif table == "failures":
            unknown = "where not exists (select 1 from answers where key = ?)"
            self._insert(
                f"insert or replace into failures select ?,?,?,?,? {unknown}",
                [(*row, row[0]) for row in rows],
            )
        elif table == "asked":
            self._insert("insert or ignore into asked values (?,?)", rows)
        else:
            largest = "on conflict do update set value = max(value, excluded.value)"
            self._insert(f"insert into counters values (?,?) {largest}", rows)

    def commit(self, batch: Batch) -> None:
        """Writes a batch whole, or not at all."""
        answers = [_answer_row(request, answer) for request, answer in batch.answers]
        failures = [_failure_row(request, failure) for request, failure in batch.failures]
        budgets = {request.sampling.max_tokens for request, _ in batch.answers} - self._budgets
        with self._lock:
            connection = self._connection
            with _transaction(connection, self.path):
                connection.executemany(_INSERT_ANSWER, answers)
                if answers:
                    connection.executemany(
                        "delete from failures where key = ?", [(row[0],) for row in answers]
                    )
                connection.executemany("insert or replace into failures values (?,?,?,?,?)", failures)
                _insert_budgets(connection, budgets)
                connection.executemany(
                    "insert into counters values (?,?) on conflict do update set value = value + excluded.value",
                    batch.counters.items(),
                )
        self._budgets |= budgets

    def sync(self) -> None:
        """Brings to the disk what was committed."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.path}-wal", "rb") as wal:
            os.fsync(wal.fileno())

    def replies(
        self, keys: Sequence[str], *, failures: Literal["none", "final", "all"] = "all"
    ) -> dict[str, Reply]:
        """Key -> the answer, or the failure; 'final' failures are those that trying again can't mend."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), _LOOKUP):
            wanted = [bytes.fromhex(key) for key in keys[start : start + _LOOKUP]]
            marks = ",".join("?" * len(wanted))
            for key, *fields in self._all(
                f"select key, {_ANSWER}, {self._thoughts} from answers where key in ({marks})", wanted
            ):
                found[key.hex()] = Answer(*fields)
            if len(found) < len(keys) and failures != "none":
                rows = self._all(
                    f"select key, kind, detail, may_mend from failures where key in ({marks})", wanted
                )
                found.update(
                    (key.hex(), Failure(kind, detail, bool(may_mend)))
                    for key, kind, detail, may_mend in rows
                    if failures == "all" or not may_mend
                )
        return found

    def budgets(self) -> set[int]:
        """Every max_tokens that answers were asked for with; of answers of earlier versions the default is assumed."""
        return self._budgets | {Sampling.max_tokens}

    def note_budget(self, max_tokens: int) -> None:
        """Adds one to `budgets`, such as the one that the records of an earlier version were made with."""
        with self._lock, _transaction(self._connection, self.path):
            _insert_budgets(self._connection, {max_tokens})
        self._budgets.add(max_tokens)

    def num_answers(self) -> int:
        [[number]] = self._all("select count(*) from answers")
        return number

    def counters(self) -> Counter[str]:
        return Counter(dict(self._all("select name, value from counters")))

    def answered(self) -> Iterator[tuple[str, str]]:
        """(key, example id) of every answer, in the order of keys."""
        for rows in self._chunks("select key, example_id from answers order by key"):
            yield from ((key.hex(), example_id) for key, example_id in rows)

    def copy_from(self, other: "AnswerStore") -> None:
        """Takes over all answers and failures of another store; doing so again changes nothing.

        Raises:
          ValueError: if the two hold different answers to the same request.
        """
        columns = f"key, example_id, sample, {_ANSWER}, {other._thoughts}"
        for rows in other._chunks(f"select {columns} from answers order by key"):
            known = self.replies([row[0].hex() for row in rows], failures="none")
            for key, example_id, _, text, *_ in rows:
                if key.hex() in known and known[key.hex()].text != text:
                    raise ValueError(
                        f"{other.path} answers {example_id} otherwise than {self.path}: two jobs asked for it. Move one of "
                        f"the files away."
                    )
            self._insert(_INSERT_ANSWER, rows)
        for budget in other.budgets():
            self.note_budget(budget)
        for rows in other._chunks("select * from failures order by key"):
            self._insert("insert or replace into failures values (?,?,?,?,?)", rows)
        self._insert(
            "delete from failures where key in (select key from answers where key = ?)", self._failed()
        )

    def _holds_thoughts(self) -> bool:
        return any(
            name == "thoughts" for _, name, *_ in self._connection.execute("pragma table_info(answers)")
        )

    def _read_budgets(self) -> set[int]:
        if not self._all("select 1 from sqlite_master where name = 'budgets'"):
            return set()
        return {budget for (budget,) in self._all("select max_tokens from budgets")}

    def _failed(self) -> list[tuple[bytes]]:
        return self._all("select key from failures")

    def _chunks(self, query: str) -> Iterator[list[tuple]]:
        """The rows of a query, some at a time; the lock is not held between two chunks."""
        with self._lock, _errors_explained(self.path):
            cursor = self._connection.execute(query)
            rows = cursor.fetchmany(_LOOKUP)
        while rows:
            yield rows
            with self._lock, _errors_explained(self.path):
                rows = cursor.fetchmany(_LOOKUP)

    def _insert(self, statement: str, rows: Sequence[tuple]) -> None:
        with self._lock, _transaction(self._connection, self.path):
            self._connection.executemany(statement, rows)

    def _all(self, query: str, values: Iterable[object] = ()) -> list[tuple]:
        with self._lock, _errors_explained(self.path):
            return self._connection.execute(query, tuple(values)).fetchall()


def _insert_budgets(connection: sqlite3.Connection, budgets: Iterable[int]) -> None:
    connection.executemany("insert or ignore into budgets values (?)", [(budget,) for budget in budgets])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All of what is written inside, or nothing."""
    with _errors_explained(path):
        connection.execute("begin immediate")
    try:
        with _errors_explained(path):
            yield
            connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already, and its error is the one to be seen
            connection.execute("rollback")
        raise


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}",
            uri=True,
            timeout=0.5,
            check_same_thread=False,
            isolation_level=None,
        )
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _answer_row(request: Request, answer: Answer) -> tuple[object, ...]:
    return (
        bytes.fromhex(request.key),
        request.example_id,
        request.sample,
        answer.text,
        answer.finish_reason,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.model,
        answer.thoughts,
    )


def _failure_row(request: Request, failure: Failure) -> tuple[object, ...]:
    key = bytes.fromhex(request.key)
    return (key, request.example_id, failure.kind, failure.detail, int(failure.may_mend))


@contextlib.contextmanager
def _errors_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: sqlite3.Error) -> Exception:
    """SQLite's error as one that says what to do."""
    # The lower byte is the kind; a text that is no UTF-8 has no code.
    kind = getattr(error, "sqlite_errorcode", None) or 0
    kind &= 0xFF
    if kind == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}; {_KEPT}", str(path))
    if kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return OSError(errno.EIO, f"{error}; {_KEPT}", str(path))
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ValueError(
            f"{path} is in use by another job; wait for its end, or give each worker its --shard i/n."
        )
    if kind == sqlite3.SQLITE_NOTADB:
        return StoreDamaged(f"{path} is not a readable answer store ({error}); move it away to begin anew.")
    return StoreDamaged(
        f"{path} is damaged ({error}). Start the job that writes it again: it takes over what can be read."
    )


_KEPT = "what was answered before is kept, and the same command goes on once that is mended"
