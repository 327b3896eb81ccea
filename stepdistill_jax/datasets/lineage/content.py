"""What records say, told by hashes: the same for the same content, whoever wrote it, in which files and on which machine.

An example says its id, inputs and label; an answer to it also the teacher's label and rationale, and why it is not used. Each
has a digest, and a split's identity is the SHA-256 over its digests, sorted: the order of its rows is told apart from it.
"""

import dataclasses
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from stepdistill_jax.base.visible import look

SHOWN = 12  # hexadecimal digits of an identity, where people read it
EXAMPLE_FEATURES = ("example_id", "inputs", "label", "has_label")
ANSWER_FEATURES = ("teacher_label", "rationale", "unparsed_reason", "dropped_reason")
_MOST_ESCAPES = 3  # of a text that was escaped again and again: &amp;#39;

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a split says, in short.

    Attributes:
      sha256: over the sorted digests of its records, in hex: the same for the same content.
      order: over the digests as they stand, 16 hexadecimal digits: the same for the same rows in the same order.
      count: of its records.
    """

    sha256: str
    order: str
    count: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `read` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> "Identity":
        """From what a manifest or run.json says, which may say more."""
        return cls(said["sha256"], said["order"], said["count"])

    def __str__(self) -> str:
        return f"{self.sha256[:SHOWN]}, {self.count:,} records"


class Identifying:
    """Takes a split's records as they pass by, and then gives its identity."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def passing(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each taken account of once its taker, who may refuse it, asks for the next."""
        for record in records:
            yield record
            self._digests.append(digest(record))

    @property
    def identity(self) -> Identity:
        return identity_of(self._digests)


def identity_of(digests: list[bytes]) -> Identity:
    """Of a split, from the digests of its records in their order."""
    return Identity(
        sha256=hashlib.sha256(b"".join(sorted(digests))).hexdigest(),
        order=hashlib.sha256(b"".join(digests)).hexdigest()[:16],
        count=len(digests),
    )


def digest(record: Record) -> bytes:
    """16 bytes that tell a record: of an example all that it says, of an answer what the teacher says, too."""
    if "rationale" not in record:
        return example_digest(record)
    return _hash([*_example(record), *(record.get(name, "") for name in ANSWER_FEATURES)])


def example_digest(record: Record) -> bytes:
    """16 bytes that tell the example that a record is, or answers."""
    return _hash(_example(record))


def id_hash(example_id: str) -> int:
    """64 bits that tell an example's id."""
    return int.from_bytes(hashlib.blake2b(example_id.encode(), digest_size=8).digest(), "little")


def question_hash(inputs: str) -> int:
    """64 bits that tell a question, however it is written (`normalized`)."""
    return id_hash(normalized(inputs))


def normalized(inputs: str) -> str:
    """A text without what makes no other question of it: its `look`, whatever characters are named as HTML names them."""
    for _ in range(_MOST_ESCAPES):
        inputs = html.unescape(inputs) if "&" in inputs else inputs
    return look(inputs)


def _example(record: Record) -> list[str | None]:
    return [record["example_id"], record["inputs"], record["label"] if record["has_label"] else None]


def _hash(parts: list[str | None]) -> bytes:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).digest()[:16]


@dataclasses.dataclass(frozen=True)
class ContentIndex:
    """A split's records by their hashes: enough to compare it with another without reading either.

    Attributes:
      identity: of the split.
      ids: uint64 [records], `id_hash` of each, in their order.
      examples: uint64 [records, 2], `example_digest` of each, in their order.
      questions: uint64 [records], `question_hash` of each, sorted.
    """

    identity: Identity
    ids: np.ndarray
    examples: np.ndarray
    questions: np.ndarray


def index_of(records: Iterable[Record]) -> ContentIndex:
    """The index of a split's records, which need EXAMPLE_FEATURES, and of answers ANSWER_FEATURES."""
    ids, examples, questions, digests = [], [], [], []
    for record in records:
        ids.append(id_hash(record["example_id"]))
        examples.append(example_digest(record))
        questions.append(question_hash(record["inputs"]))
        digests.append(digest(record))
    return ContentIndex(
        identity=identity_of(digests),
        ids=np.array(ids, np.uint64),
        examples=np.frombuffer(b"".join(examples), np.uint64).reshape(-1, 2),
        questions=np.sort(np.array(questions, np.uint64)),
    )


def shared_hashes(few: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Those of `few` that `many` has, too; both sorted."""
    if not len(many):
        return few[:0]
    places = np.minimum(np.searchsorted(many, few), len(many) - 1)
    return few[many[places] == few]


@dataclasses.dataclass(frozen=True)
class Difference:
    """How one split differs from another.

    Attributes:
      new: examples, by id, that only the later one has.
      gone: those that only the earlier one has.
      changed: those whose inputs or label differ.
    """

    new: int
    gone: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed)

    def __str__(self) -> str:
        return f"{self.changed:,} changed, {self.new:,} new, {self.gone:,} gone"


def difference(earlier: ContentIndex, later: ContentIndex) -> Difference:
    """By the examples' ids, and what each says."""
    if np.array_equal(earlier.ids, later.ids) and np.array_equal(earlier.examples, later.examples):
        return Difference(0, 0, 0)
    then, now = _by_id(earlier), _by_id(later)
    common = np.intersect1d(then["id"], now["id"], assume_unique=True)
    before = then[np.searchsorted(then["id"], common)]
    after = now[np.searchsorted(now["id"], common)]
    return Difference(
        new=len(now) - len(common), gone=len(then) - len(common), changed=int((before != after).sum())
    )


def _by_id(index: ContentIndex) -> np.ndarray:
    """The examples sorted by id, each id once."""
    rows = np.zeros(len(index.ids), [("id", np.uint64), ("low", np.uint64), ("high", np.uint64)])
    rows["id"], rows["low"], rows["high"] = index.ids, index.examples[:, 0], index.examples[:, 1]
    return rows[np.unique(rows["id"], return_index=True)[1]]
