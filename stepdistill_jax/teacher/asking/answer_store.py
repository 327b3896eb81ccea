"""Every answer that was ever paid for, raw, in an SQLite file: DATA/<dataset>/answers/<teacher>/answers.sqlite.

    answers   key (of the Request) -> text, finish reason, token counts, model; never changed, never deleted
    failures  key -> kind and last error of a request that was given up; an answer to the same request takes its place
    counters  what was asked, answered and retried over all runs of the job

A commit hands the bytes to the operating system before an answer counts as done, so a killed process loses none;
`sync`, which the job calls every second, brings them to the disk, so a power cut loses at most that second. Inspect with
`sqlite3 answers.sqlite "select example_id, text from answers limit 3"`.
"""

import contextlib
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stepdistill_jax.teacher.answers.requests import Answer, Failure, Reply, Request

_SCHEMA = """
create table if not exists answers (
  key blob primary key, example_id text not null, sample integer not null, text text not null,
  finish_reason text not null, prompt_tokens integer not null, completion_tokens integer not null, model text not null
) without rowid;
create table if not exists failures (
  key blob primary key, example_id text not null, kind text not null, detail text not null, may_mend integer not null
) without rowid;
create table if not exists counters (name text primary key, value integer not null) without rowid;
"""
_ANSWER = "text, finish_reason, prompt_tokens, completion_tokens, model"
_LOOKUP = 500  # keys of one query, below SQLite's limit of variables


@dataclass
class Batch:
    """What is written with the next commit."""

    answers: list[tuple[Request, Answer]] = field(default_factory=list)
    failures: list[tuple[Request, Failure]] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)


class AnswerStore:
    """One file, one writing process. Its methods may be called from several threads.

    Raises:
      ValueError: if another process writes to the file, or it is not an answer store.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection = _connect(self.path, read_only=read_only)
        try:
            if read_only:
                self._connection.execute("select count(*) from counters")
                return
            # Exclusive: refuses a second job on the same file, and works on network file systems, as WAL's shared memory
            # is not needed then.
            self._connection.execute("pragma locking_mode = exclusive")
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = normal")
            self._connection.executescript(f"begin immediate; {_SCHEMA} commit;")
        except sqlite3.Error as error:
            self._connection.close()
            raise ValueError(_opening_error(self.path, error)) from error

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def commit(self, batch: Batch) -> None:
        """Writes a batch whole, or not at all."""
        answers = [_answer_row(request, answer) for request, answer in batch.answers]
        failures = [_failure_row(request, failure) for request, failure in batch.failures]
        with self._lock:
            connection = self._connection
            with _transaction(connection):
                connection.executemany("insert or ignore into answers values (?,?,?,?,?,?,?,?)", answers)
                if answers:
                    connection.executemany(
                        "delete from failures where key = ?", [(row[0],) for row in answers]
                    )
                connection.executemany("insert or replace into failures values (?,?,?,?,?)", failures)
                connection.executemany(
                    "insert into counters values (?,?) on conflict do update set value = value + excluded.value",
                    batch.counters.items(),
                )

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
                f"select key, {_ANSWER} from answers where key in ({marks})", wanted
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
        for rows in other._chunks("select * from answers order by key"):
            known = self.replies([row[0].hex() for row in rows], failures="none")
            for key, example_id, _, text, *_ in rows:
                if key.hex() in known and known[key.hex()].text != text:
                    raise ValueError(
                        f"{other.path} answers {example_id} otherwise than {self.path}: two jobs asked for it. Move one of "
                        f"the files away."
                    )
            self._insert("insert or ignore into answers values (?,?,?,?,?,?,?,?)", rows)
        for rows in other._chunks("select * from failures order by key"):
            self._insert("insert or replace into failures values (?,?,?,?,?)", rows)
        self._insert(
            "delete from failures where key in (select key from answers where key = ?)", self._failed()
        )

    def _failed(self) -> list[tuple[bytes]]:
        return self._all("select key from failures")

    def _chunks(self, query: str) -> Iterator[list[tuple]]:
        """The rows of a query, some at a time; the lock is not held between two chunks."""
        with self._lock:
            cursor = self._connection.execute(query)
            rows = cursor.fetchmany(_LOOKUP)
        while rows:
            yield rows
            with self._lock:
                rows = cursor.fetchmany(_LOOKUP)

    def _insert(self, statement: str, rows: Sequence[tuple]) -> None:
        with self._lock, _transaction(self._connection):
            self._connection.executemany(statement, rows)

    def _all(self, query: str, values: Iterable[object] = ()) -> list[tuple]:
        with self._lock:
            return self._connection.execute(query, tuple(values)).fetchall()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written inside, or nothing."""
    connection.execute("begin immediate")
    try:
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
        raise ValueError(_opening_error(path, error)) from error


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
    )


def _failure_row(request: Request, failure: Failure) -> tuple[object, ...]:
    key = bytes.fromhex(request.key)
    return (key, request.example_id, failure.kind, failure.detail, int(failure.may_mend))


def _opening_error(path: Path, error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return f"{path} is in use by another job; wait for its end, or give each worker its --shard i/n."
    return f"{path} is not a readable answer store ({error}); move it away to begin anew."
