"""What a language model is asked, what it answers, and how asking can fail."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal


@dataclass(frozen=True)
class Message:
    """One turn of a chat; `role` is 'system', 'user' or 'assistant'."""

    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How the model continues a prompt; everything that changes what comes out.

    Attributes:
      temperature: 0.0 is greedy.
      max_tokens: the longest answer, in the model's own tokens.
      top_p: nucleus sampling; 1.0 keeps all tokens.
      stop: strings that end the answer, which doesn't contain them.
      seed: of this one request; None leaves it to the model.
      extra: JSON object of further fields, such as '{"min_p": 0.1}', for servers that know them; null is for a field that
        the server is not to be sent.
    """

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; without `extra` where there is none."""
        fields = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "top_p": self.top_p,
            "stop": list(self.stop),
            "seed": self.seed,
        }
        return {**fields, "extra": json.loads(self.extra)} if self.extra else fields


@dataclass(frozen=True)
class Request:
    """One question to a language model.

    Attributes:
      example_id: of the example that it is about.
      model: the model's name, as its server knows it.
      prompt: a text to be continued, or the messages of a chat.
      sampling: see Sampling.
      sample: the how-manieth answer to the same prompt this is, from 0.
    """

    example_id: str
    model: str
    prompt: str | tuple[Message, ...]
    sampling: Sampling = Sampling()
    sample: int = 0

    @cached_property
    def key(self) -> str:
        """SHA-256 over all fields, in hex: the same question again is the same key, and is not paid for again."""
        prompt = self.prompt if isinstance(self.prompt, str) else [[m.role, m.content] for m in self.prompt]
        parts = [self.example_id, self.model, prompt, self.sampling.as_dict(), self.sample]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def with_max_tokens(self, max_tokens: int) -> "Request":
        """The same question with another budget."""
        return dataclasses.replace(self, sampling=dataclasses.replace(self.sampling, max_tokens=max_tokens))

    @property
    def prompt_text(self) -> str:
        """The prompt as one text, to show and to count; a chat's turns are headed by their roles."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(f"[{message.role}]\n{message.content}" for message in self.prompt)


# Finish reasons that mean something to us; the first two are OpenAI's words.
CUT, FILTERED, REFUSAL = "length", "content_filter", "refusal"


@dataclass(frozen=True)
class Answer:
    """What came back, unparsed. Numbers of tokens are -1 where the server doesn't say.

    Attributes:
      text: raw; of a refusal that comes in a field of its own, its words.
      finish_reason: 'stop', 'length' where `max_tokens` cut it, 'content_filter', or REFUSAL.
      model: as the server names it; may be more exact than what was asked for.
      thoughts: raw, where the server sends reasoning in a field of its own; those within `text` stay there.
      num_hidden: places where a key that the server sent back was replaced; is counted, not kept.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    model: str = ""
    thoughts: str = ""
    num_hidden: int = field(default=0, compare=False)

    @property
    def is_cut(self) -> bool:
        """Whether the budget of tokens ended it, rather than the model."""
        return self.finish_reason == CUT


# Whether trying again can help: 'retry', 'give_up' (this request only), or 'stop' (no request can succeed: wrong key).
Mend = Literal["retry", "give_up", "stop"]
# What a failure says of the server: it 'answers' (though not as wanted); it 'fails' (a status of 5xx), which may be this
# request's fault or everyone's; it is 'silent' until the time is up; it was 'lost' while it had the request; it is 'gone':
# there is no connection to be had.
ServerState = Literal["answers", "fails", "silent", "lost", "gone"]


class RequestError(Exception):
    """A request that was not answered.

    Attributes:
      kind: what happened, as the manifest counts it: 'rate limited', 'timeout', 'HTTP 500', …
      mend: 'retry', 'give_up' or 'stop'; see Mend.
      overload: whether the server has too much to do: the job then asks for less at once.
      retry_after_seconds: what the server asked for, or None.
      server: what that says of the server; see ServerState.
    """

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        mend: Mend = "give_up",
        overload: bool = False,
        retry_after_seconds: float | None = None,
        server: ServerState = "answers",
    ):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail
        self.mend = mend
        self.overload = overload
        self.retry_after_seconds = retry_after_seconds
        self.server = server


@dataclass(frozen=True)
class Failure:
    """A request that was given up, as it is stored: its kind, and the last error's text.

    may_mend: whether it was tried to the end of patience rather than refused; the next run of the job asks again then.
    """

    kind: str
    detail: str = ""
    may_mend: bool = False


Reply = Answer | Failure
