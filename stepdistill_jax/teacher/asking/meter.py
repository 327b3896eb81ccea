"""What a running job counts, and the rates and costs that follow."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stepdistill_jax.teacher.answers.requests import Answer, Failure, Request
from stepdistill_jax.teacher.asking.job_settings import Prices

_WINDOW_SECONDS = 30.0


@dataclass
class Meter:
    """Counts of this run. Examples are done when all that they want is answered or given up.

    total: examples of this worker; known: those that were done already; reused: requests that were answered in an earlier run.
    witness: a request that was answered, in this run or an earlier one; None before there is one.
    earlier_tokens: (prompt, completion) tokens of earlier runs, for the cost so far.
    """

    total: int
    prices: Prices | None = None
    earlier_tokens: tuple[int, int] = (0, 0)
    done: int = 0
    known: int = 0
    reused: int = 0
    answered: int = 0
    failed_examples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    last_failure: str = ""
    witness: Request | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._window: deque[tuple[float, int, int, int]] = deque([(self._started, 0, 0, 0)])

    def count_answer(self, answer: Answer) -> None:
        self.answered += 1
        self.prompt_tokens += max(0, answer.prompt_tokens)
        self.completion_tokens += max(0, answer.completion_tokens)

    def count_failure(self, failure: Failure) -> None:
        self.failed[failure.kind] += 1
        self.last_failure = f"{failure.kind}: {failure.detail}" if failure.detail else failure.kind

    def rates(self) -> tuple[float, float, float]:
        """Answers, tokens and examples a second over the last half minute."""
        now = self.clock()
        tokens = self.prompt_tokens + self.completion_tokens
        self._window.append((now, self.answered, tokens, self.done - self.known))
        while len(self._window) > 2 and self._window[0][0] < now - _WINDOW_SECONDS:
            self._window.popleft()
        then, answered, old_tokens, done = self._window[0]
        seconds = now - then
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return (
            (self.answered - answered) / seconds,
            (tokens - old_tokens) / seconds,
            (self.done - self.known - done) / seconds,
        )

    @property
    def seconds(self) -> float:
        return self.clock() - self._started

    @property
    def cost(self) -> float | None:
        """So far, earlier runs included, in US dollars."""
        if self.prices is None:
            return None
        prompt, completion = self.earlier_tokens
        return self.prices.cost(prompt + self.prompt_tokens, completion + self.completion_tokens)

    @property
    def projected_cost(self) -> float | None:
        """Of the whole job, if the rest costs what was done so far."""
        return None if self.cost is None or not self.done else self.cost * self.total / self.done
