"""Dynamic batching: texts of many requests wait in one bounded queue, and the model is asked for those at hand together.

While the model computes a batch, the next one gathers. A text leaves the queue when its request is gone or too late: it is never
computed then. Where a batch fails, its texts are tried one by one, so that one bad text fails alone.
"""

import asyncio
import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

from stepdistill_jax.serving.limits import Limits
from stepdistill_jax.serving.metrics import Metrics


class Predictor(Protocol):
    """What is served: `stepdistill_jax.Predictor`, or whatever answers as it does. It is asked from one thread only."""

    choices: tuple[str, ...]
    max_input_tokens: int

    def __call__(
        self, texts: Sequence[str], *, rationale: bool = False, abstain_below: float = 0.0
    ) -> list[Any]: ...

    def num_tokens(self, texts: Sequence[str]) -> list[int]: ...

    def lost_characters(self, texts: Sequence[str]) -> list[str]: ...

    def check_writes_rationales(self) -> None: ...

    def warm_up(self) -> None: ...


class QueueFull(Exception):
    """There is no room for a request's texts; `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclasses.dataclass(eq=False)
class _Row:
    """Attributes:
    num_tokens: as the model reads it, cut at the most it reads.
    prediction: what its request waits for.
    """

    text: str
    rationale: bool
    num_tokens: int
    prediction: asyncio.Future


class Batcher:
    """The queue, and the loop that empties it; made and used in one event loop."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self._predictor, self._limits, self._metrics = predictor, limits, metrics
        self._waiting: dict[_Row, None] = {}  # in order of arrival
        self._arrived = asyncio.Event()
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="model")
        self._computing: concurrent.futures.Future | None = None
        self._computing_since = 0.0
        self._rows_per_second = 0.0
        self._loop = asyncio.create_task(self._run(), name="batches")

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether the model is at a batch, also one that nobody waits for any more."""
        return self._computing is not None and not self._computing.done()

    def problem(self) -> str | None:
        """Why nothing will be answered any more, or None."""
        if self._loop.done():
            return "the loop that asks the model has ended"
        seconds = time.monotonic() - self._computing_since
        if self.is_busy and seconds > self._limits.stalled_seconds:
            return f"the model has been at one batch for {seconds:.0f} s"
        return None

    async def predict(self, texts: Sequence[str], num_tokens: Sequence[int], *, rationale: bool) -> list[Any]:
        """The prediction, or the exception, of each text. Texts that are not computed yet are dropped on cancellation.

        Raises:
          QueueFull: if not all of them have room.
        """
        if len(self._waiting) + len(texts) > self._limits.queue_rows:
            self._metrics.rows.labels("refused").inc(len(texts))
            raise QueueFull(self.seconds_until_room(len(texts)))
        loop, longest = asyncio.get_running_loop(), self._predictor.max_input_tokens
        rows = [
            _Row(text, rationale, min(tokens, longest), loop.create_future())
            for text, tokens in zip(texts, num_tokens, strict=True)
        ]
        self._waiting.update(dict.fromkeys(rows))
        self._arrived.set()
        try:
            return await asyncio.gather(*(row.prediction for row in rows))
        finally:
            for row in rows:
                self._waiting.pop(row, None)

    def seconds_until_room(self, num_rows: int) -> int:
        """A guess, from the model's last batches, of how long so many texts more will have to wait for room."""
        if not self._rows_per_second:
            return 1
        return max(1, min(60, math.ceil(num_rows / self._rows_per_second)))

    async def close(self) -> None:
        """Ends the loop; a batch that the model is at is not waited for."""
        self._loop.cancel()
        await asyncio.wait([self._loop])
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                if self._limits.max_wait_ms and len(self._waiting) < self._limits.batch_rows:
                    await asyncio.sleep(self._limits.max_wait_ms / 1000)
            if batch := self._take():
                await self._answer(batch)

    def _take(self) -> list[_Row]:
        """The text that has waited longest, and those behind it that fit into its batch and ask for the same."""
        batch: list[_Row] = []
        longest = 0
        for row in self._waiting:
            if len(batch) == self._limits.batch_rows:
                break
            with_row = max(longest, row.num_tokens)
            if batch and (
                row.rationale != batch[0].rationale or with_row * (len(batch) + 1) > self._limits.batch_tokens
            ):
                continue
            batch.append(row)
            longest = with_row
        for row in batch:
            del self._waiting[row]
        return batch

    async def _answer(self, batch: list[_Row]) -> None:
        self._computing_since = time.monotonic()
        self._computing = self._worker.submit(self._compute, batch)
        results = await asyncio.wrap_future(self._computing)
        seconds = time.monotonic() - self._computing_since
        rate = len(batch) / max(seconds, 1e-6)
        self._rows_per_second = (
            rate if not self._rows_per_second else 0.8 * self._rows_per_second + 0.2 * rate
        )
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.batch_rows.observe(len(batch))
        self._metrics.batch_tokens.observe(len(batch) * max(row.num_tokens for row in batch))
        for row, result in zip(batch, results, strict=True):
            if not row.prediction.done():  # its request may be gone by now
                row.prediction.set_result(result)

    def _compute(self, batch: list[_Row]) -> list[Any]:
        texts = [row.text for row in batch]
        try:
            return self._ask(texts, batch[0].rationale)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [result for row in batch for result in self._compute([row])]

    def _ask(self, texts: list[str], rationale: bool) -> list[Any]:
        predictions = self._predictor(texts, rationale=rationale)
        if len(predictions) != len(texts):
            raise RuntimeError(f"the model gave {len(predictions)} answers to {len(texts)} texts")
        return predictions
