"""Examples with what they want of a language model and what is known of that already, some at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepdistill_jax.teacher.answers.language_model import Prompting
from stepdistill_jax.teacher.answers.requests import Answer, Reply, Request
from stepdistill_jax.teacher.asking.meter import Meter

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Example

CHUNK = 256  # examples that are looked up together


@dataclass
class Pending:
    """An example with what it wants, and what is known of that."""

    example: "Example"
    requests: list[Request]
    replies: dict[str, Reply]

    @property
    def missing(self) -> list[Request]:
        """What it wants and has no reply to."""
        return [request for request in self.requests if request.key not in self.replies]


# Requests, and which failures count as known -> replies by the requests' keys; see `budgets.replies`.
Lookup = Callable[..., dict[str, Reply]]


def looked_up(
    examples: Iterable["Example"], prompting: Prompting, lookup: Lookup, *, failures: str
) -> Iterator[list[Pending]]:
    """Every example with what is known of it, chunk by chunk.

    Args:
      lookup: see Lookup.
      failures: 'none', 'final' or 'all' count as known; see AnswerStore.replies.
    """
    examples = iter(examples)
    while chunk := list(itertools.islice(examples, CHUNK)):
        wanted = [list(prompting.requests(example, {})) for example in chunk]
        known = lookup([request for requests in wanted for request in requests], failures=failures)
        found = []
        for example, requests in zip(chunk, wanted, strict=True):
            pending = Pending(example, requests, _known(requests, known))
            while not pending.missing and wants_more(pending, prompting):
                pending.replies.update(lookup(pending.missing, failures=failures))
            found.append(pending)
        yield found


def unanswered(chunks: Iterable[list[Pending]], meter: Meter) -> Iterator[list[Pending]]:
    """Of each chunk what still has to be asked for; counts the rest. A chunk may be empty."""
    for chunk in chunks:
        for pending in chunk:
            answered = [r for r in pending.requests if isinstance(pending.replies.get(r.key), Answer)]
            meter.reused += len(answered)
            if answered and meter.witness is None:
                meter.witness = answered[0]
            if not pending.missing:
                count_done(meter, pending)
                meter.known += 1
        yield [pending for pending in chunk if pending.missing]


def _known(requests: Iterable[Request], replies: Mapping[str, Reply]) -> dict[str, Reply]:
    return {request.key: replies[request.key] for request in requests if request.key in replies}


def wants_more(pending: Pending, prompting: Prompting) -> bool:
    """Asks the prompting what it wants, given all replies; whether that is more than before."""
    if not getattr(prompting, "follows_up", True):
        return False
    before = len(pending.requests)
    pending.requests = list(prompting.requests(pending.example, pending.replies))
    return len(pending.requests) > before


def count_done(meter: Meter, pending: Pending) -> None:
    meter.done += 1
    if not any(isinstance(reply, Answer) for reply in pending.replies.values()):
        meter.failed_examples += 1
