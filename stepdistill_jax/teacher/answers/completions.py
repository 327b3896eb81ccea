"""What a teacher is: anything that answers examples in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stepdistill_jax.teacher.answers.parsing import ParsedCompletion

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Example


@dataclass(frozen=True)
class Completion:
    """One answer of a teacher. Numbers of tokens are -1 where unknown.

    parsed: rationale and label from a teacher whose answers come in parts; None lets the job parse `text`.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    prompt_hash: str = ""
    sampling: str = "{}"
    parsed: ParsedCompletion | None = None


@dataclass(frozen=True)
class Skipped:
    """No answer to this example, and why; the job counts it and writes no record."""

    why: str


class Teacher(Protocol):
    """Answers examples. The job parses, counts and writes; a teacher only has to answer.

    name: of the folder under DATA/<dataset>/rationales/.
    """

    name: str

    def complete(self, examples: Sequence["Example"]) -> Iterator[Completion | Skipped]:
        """One answer per example, in the order of `examples` (all of one split)."""
        ...

    def sources(self) -> dict[str, str]:
        """Path -> sha256 of the files that the answers come from; {} where there are none."""
        ...
