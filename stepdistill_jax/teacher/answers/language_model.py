"""What the job drives: a language model that answers requests, and a prompting that makes and reads them.

example --Prompting.requests--> requests --LanguageModel.answer--> answers --Prompting.read--> Verdict -> record
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stepdistill_jax.teacher.answers.parsing import ParsedCompletion
from stepdistill_jax.teacher.answers.requests import Answer, Reply, Request, RequestError

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Example


class LanguageModel(Protocol):
    """Answers one request at a time; the job calls `answer` many times at once, and does limits, retries and storing.

    A model that needs a server or a client started is also an async context manager: the job enters it before the first
    request, and leaves it at the end. It may have `count_tokens(text) -> int`; else --dry_run estimates. It may have
    `extra`, fields that its requests' `Sampling.extra` is to hold, and `response_format`, 'json' or 'json_schema', by which
    the prompt asks for JSON objects, too.

    name: of the folder under DATA/<dataset>/rationales/.
    model: what a Request's `model` is: the name that decides, with prompt and sampling, what comes out.
    chat: whether it takes a chat's messages rather than a text to continue.
    """

    name: str
    model: str
    chat: bool

    async def answer(self, request: Request) -> Answer:
        """The answer.

        Raises:
          RequestError: says of what kind the failure is, and whether trying again can help.
        """
        ...


class BatchEngine(Protocol):
    """Answers many requests in one call, as in-process engines do; `batching.Batched` makes a LanguageModel of it.

    All three methods are called from one and the same thread, which is not the main thread.
    """

    name: str
    model: str
    chat: bool
    max_batch: int

    def start(self) -> None:
        """Loads the model."""
        ...

    def answer_batch(self, requests: Sequence[Request]) -> Sequence[Answer | RequestError]:
        """An answer or an error for each of at most `max_batch` requests, in their order."""
        ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Verdict:
    """What the replies to an example's requests come to: a record.

    Attributes:
      parsed: rationale and label, or why there are none.
      answer: the one that `parsed` was read from, whose raw text the record keeps; None if every request was given up,
        in which case no record is written and the failure is counted.
      sampling: JSON of how it was sampled, and of whatever else is worth keeping (votes, whether it had a hint).
      dropped_reason: the quality rule that the answer does not meet, '' if it meets all. The record keeps label and
        rationale, and students don't learn from it.
      notes: whatever else the manifest should count.
    """

    parsed: ParsedCompletion
    answer: Answer | None
    sampling: str = "{}"
    dropped_reason: str = ""
    notes: tuple[str, ...] = ()


class Prompting(Protocol):
    """Makes an example's requests and reads the replies. Depends on nothing but its arguments and settings, but for `read`,
    which is called once an example and in the examples' order, so that it can tell duplicates.

    prompt_hash: SHA-256 of what prompts are made of, in hex (file, shots, chat or text).
    follows_up: whether replies can make it want more; True where it isn't said.
    settings: JSON-ready; goes into the manifest and, with prompt_hash, decides whether written records are up to date.
    """

    prompt_hash: str
    settings: Mapping[str, Any]

    def requests(self, example: "Example", replies: Mapping[str, Reply]) -> Sequence[Request]:
        """All requests that are wanted, given the replies known so far (key of a request -> reply).

        Called with {} first, and again when all that it wanted has been replied to: it may then want more (a hint for a
        wrong answer), and gives the former ones again before them. The example is done when nothing new is wanted.
        """
        ...

    def read(self, example: "Example", replies: Mapping[str, Reply]) -> Verdict:
        """What the replies come to, once everything wanted has been replied to."""
        ...
