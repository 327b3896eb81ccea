"""Asks a language model what is not in the store yet: many at once, paced, patient, stoppable.

    feeder (a thread reads examples and looks them up) -> queue -> workers -> model -> store -> next

The queue is bounded, so memory doesn't grow with the dataset; a worker's place is free again once its answer is stored.
"""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from stepdistill_jax.teacher.answers.language_model import LanguageModel, Prompting
from stepdistill_jax.teacher.answers.requests import Answer, Failure, Reply, Request, RequestError
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Batch
from stepdistill_jax.teacher.asking.display import duration
from stepdistill_jax.teacher.asking.job_settings import JobSettings
from stepdistill_jax.teacher.asking.meter import Meter
from stepdistill_jax.teacher.asking.outages import Outages, ServerGone
from stepdistill_jax.teacher.asking.pacing import (
    AdaptiveConcurrency,
    MinuteLimit,
    Pause,
    backoff_seconds,
)
from stepdistill_jax.teacher.asking.pending import CHUNK, Lookup, Pending, count_done, wants_more

_SYNC_SECONDS = 1.0
_LEAST_FAILED = 20  # examples, before a job is stopped for them; a share of few examples says little
CHARACTERS_A_TOKEN = 4.0  # English text in today's vocabularies, for estimates


class Asking:
    """One run of asking. `stop` may be called at any time, from the event loop's thread."""

    def __init__(
        self,
        model: LanguageModel,
        prompting: Prompting,
        store: AnswerStore,
        *,
        lookup: Lookup,
        settings: JobSettings,
        meter: Meter,
    ):
        self._model, self._prompting, self._store, self._lookup = model, prompting, store, lookup
        self._settings, self.meter = settings, meter
        batch = getattr(model, "max_batch", 0)  # an engine in this process is fed two batches at once
        most = max(settings.concurrency, 2 * batch)
        self.places = AdaptiveConcurrency(most, first=most if batch else 16)
        self._request_limit = MinuteLimit(settings.requests_per_minute)
        self._token_limit = MinuteLimit(settings.tokens_per_minute)
        self._pause = Pause()
        self._outages = Outages(
            model,
            self.places,
            longest_seconds=settings.max_outage_seconds,
            max_tries=settings.max_tries,
            witness=lambda: meter.witness,
            count_asked=lambda: self._writer.count("asked"),
            end=self._fail,
        )
        self._writer = _Writer(store)
        self._queue: asyncio.Queue[Pending | None] = asyncio.Queue(maxsize=2 * CHUNK)
        self._interruptible: set[asyncio.Task] = set()  # those that wait, and have nothing under way
        self._tasks: set[asyncio.Task] = set()
        self._error: Exception | None = None
        self.stopping = False

    async def run(self, chunks: Iterator[list[Pending]]) -> None:
        """Asks for what the examples in the chunks lack. Returns early, without an error, if it is stopped.

        Raises:
          ValueError: too many examples failed, or an error that no request can escape (a wrong key).
          ServerGone: an outage, or a wait that the server asks for, longer than the settings allow.
          OSError, sqlite3.Error: if answers can't be stored.
        """
        gc.collect()
        gc.freeze()  # TensorFlow's objects, which the collector would otherwise go through again and again
        workers = [self._work() for _ in range(self.places.most)]
        self._tasks = {asyncio.create_task(each) for each in (self._feed(chunks, len(workers)), *workers)}
        syncing = asyncio.create_task(self._writer.sync_regularly(_SYNC_SECONDS))
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._outages.close()
            for task in (*self._tasks, syncing):
                task.cancel()
            await asyncio.gather(*self._tasks, syncing, return_exceptions=True)
            gc.unfreeze()
            self._writer.flush()
            self._store.sync()
        if self._error is not None:
            raise self._error

    async def check_server(self) -> None:
        """Sees whether there is a server at all, before anything is asked or counted.

        Raises:
          ServerGone: if there is none.
          ValueError: if it sends whoever asks on to another server.
        """
        await self._outages.check_server()

    def notice(self) -> str:
        """Why nothing is asked at the moment, for the display; '' if it is."""
        return self._outages.notice() or self._pause.notice(self._model.name)

    def stop(self, *, within_seconds: float) -> None:
        """Starts nothing more, and ends what is under way after so many seconds."""
        if self.stopping:
            return
        self.stopping = True
        for task in self._interruptible:
            task.cancel()
        loop = asyncio.get_running_loop()
        loop.call_later(within_seconds, lambda: [task.cancel() for task in self._tasks])

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.stop(within_seconds=self._settings.stop_seconds)

    async def _feed(self, chunks: Iterator[list[Pending]], num_workers: int) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="examples") as thread, self._waiting():
            try:
                while not self.stopping:
                    chunk = await asyncio.get_running_loop().run_in_executor(thread, next, chunks, None)
                    if chunk is None:
                        break
                    for pending in chunk:
                        await self._queue.put(pending)
            except (
                Exception
            ) as error:  # unreadable records, a faulty prompting: the workers must not wait for ever
                self._fail(error)
            for _ in range(num_workers):
                await self._queue.put(None)

    async def _work(self) -> None:
        while not self.stopping:
            with self._waiting():
                pending = await self._queue.get()
            if pending is None:
                return
            try:
                await self._complete(pending)
            except Exception as error:
                self._fail(error)

    async def _complete(self, pending: Pending) -> None:
        while missing := pending.missing:
            if len(missing) == 1:
                replies = [await self._ask(missing[0])]
            else:
                replies = await self._ask_together(missing)
            pending.replies.update(
                (request.key, reply) for request, reply in zip(missing, replies, strict=True)
            )
            if not wants_more(pending, self._prompting):
                break
            pending.replies.update(self._lookup(pending.missing, failures="final"))
        count_done(self.meter, pending)
        if self.meter.failed_examples > max(_LEAST_FAILED, self._settings.max_failed * self.meter.total):
            raise ValueError(too_many_failed(self.meter, self._settings.max_failed))

    async def _ask_together(self, requests: list[Request]) -> list[Reply]:
        tasks = [asyncio.create_task(self._ask(request)) for request in requests]
        self._tasks.update(tasks)
        try:
            await asyncio.wait(tasks)
        finally:
            self._tasks.difference_update(tasks)
        return [task.result() for task in tasks]

    async def _ask(self, request: Request) -> Reply:
        """Asks until there is an answer, or none to be had; it is in the store when this returns.

        Raises:
          ValueError: for an error that stops the whole job.
        """
        tries, last = 0, None
        while True:
            with self._waiting():
                await self._outages.admit(request)
            if deadly := self._outages.set_aside(request):
                return await self._give_up(request, deadly)
            tries -= self._outages.uncounted(request)
            if tries >= self._settings.max_tries:  # it was not the server that failed
                return await self._give_up(request, last)
            try:
                answer = await self._ask_once(request)
                if answer is not None:
                    return answer
                continue
            except RequestError as error:
                tries, last = tries + 1, error
                if error.mend == "stop":
                    raise ValueError(
                        f"{self._model.name}: {error} (asking for {request.example_id}). "
                        f"No request can succeed until that is mended; the same command then goes on."
                    ) from None
                if self._outages.is_on and error.server != "answers":
                    self._count_retry("server away")
                    continue
                if error.mend == "give_up" or tries >= self._settings.max_tries:
                    return await self._give_up(request, error)
                wait = self._note_retry(error, tries)
            with self._waiting():
                await asyncio.sleep(wait)

    async def _ask_once(self, request: Request) -> Answer | None:
        """The answer, once it is stored; None if the server went while the request waited for its turn."""
        with self._waiting():
            number = await self.places.start()
        overloaded, taken = None, 0.0
        try:
            with self._waiting():
                taken = await self._pace(request)
            if not self._outages.start(request):
                self._token_limit.give_back(taken)
                return None
            self._writer.count("asked")
            answer = await self._answer(request)
            overloaded = False
            if taken and answer.completion_tokens >= 0:
                taken -= max(0, answer.prompt_tokens) + answer.completion_tokens
                self._token_limit.give_back(taken)
            await self._writer.write(request, answer)
            self.meter.count_answer(answer)
            self.meter.witness = request
            return answer
        except RequestError as error:
            overloaded = True if error.overload else None
            self._token_limit.give_back(taken)
            raise
        finally:
            self.places.end(number, overloaded=overloaded)

    async def _answer(self, request: Request) -> Answer:
        try:
            answer = await self._model.answer(request)
        except RequestError as error:
            self._outages.ended(request, error)
            raise
        except BaseException:
            self._outages.abandoned(request)
            raise
        self._outages.ended(request, None)
        return answer

    async def _pace(self, request: Request) -> float:
        """Waits as the limits want; gives the tokens that were taken from the limit."""
        taken = 0.0
        if self._settings.tokens_per_minute is not None:
            taken = len(request.prompt_text) / CHARACTERS_A_TOKEN + request.sampling.max_tokens
        wait = max(self._request_limit.wait_seconds(1), self._token_limit.wait_seconds(taken))
        while (wait := max(wait, self._pause.seconds)) > 0:
            await asyncio.sleep(wait)
            wait = 0.0
        return taken

    def _note_retry(self, error: RequestError, tries: int) -> float:
        """Counts it; gives the seconds to wait."""
        self._count_retry(error.kind)
        asked_for = error.retry_after_seconds
        if asked_for is not None:
            if asked_for > self._settings.max_outage_seconds:
                raise ServerGone(too_long_a_wait(self._model.name, asked_for, self._settings))
            if error.overload:
                self._pause.at_least(asked_for)
        return backoff_seconds(tries, retry_after=asked_for)

    def _count_retry(self, kind: str) -> None:
        self.meter.retried[kind] += 1
        self._writer.count(f"retried: {kind}")

    async def _give_up(self, request: Request, error: RequestError) -> Failure:
        self._outages.given_up(request)
        failure = Failure(error.kind, error.detail, may_mend=error.mend == "retry")
        await self._writer.write(request, failure)
        self.meter.count_failure(failure)
        return failure

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around a wait that `stop` may end at once, as nothing is under way."""
        task = asyncio.current_task()
        if self.stopping:
            raise asyncio.CancelledError
        self._interruptible.add(task)
        try:
            yield
        finally:
            self._interruptible.discard(task)


def too_many_failed(meter: Meter, max_failed: float) -> str:
    """The error of a job with more failures than are allowed."""
    kinds = ", ".join(f"{number:,} x {kind}" for kind, number in meter.failed.most_common())
    return (
        f"{meter.failed_examples:,} of {meter.total:,} examples failed ({kinds or 'in earlier runs'}), more than "
        f"--max_failed {max_failed:g} allows; last: {meter.last_failure or 'see the answer store'}. What was answered is "
        f"kept: mend the cause and start again, with --retry_failed for what was refused, or raise --max_failed."
    )


def too_long_a_wait(name: str, seconds: float, settings: JobSettings) -> str:
    """The error of a job whose server asks for a wait (Retry-After) longer than is allowed."""
    until = datetime.now() + timedelta(seconds=seconds)
    return (
        f"{name}: the server asks to wait until {until:%Y-%m-%d %H:%M} (Retry-After: {seconds:,.0f} s), longer than "
        f"--max_outage {duration(settings.max_outage_seconds)} allows. Every answer is kept; the same command goes on."
    )


class _Writer:
    """Gathers what arrives within one turn of the event loop into one commit."""

    def __init__(self, store: AnswerStore):
        self._store = store
        self._batch = Batch()
        self._written: list[asyncio.Future[None]] = []

    def count(self, name: str) -> None:
        self._batch.counters[name] += 1

    async def write(self, request: Request, reply: Reply) -> None:
        """Returns when the reply is stored."""
        loop = asyncio.get_running_loop()
        if isinstance(reply, Answer):
            self._batch.answers.append((request, reply))
            self._batch.counters["answered"] += 1
            if reply.num_hidden:
                self._batch.counters["altered"] += 1
            self._batch.counters["prompt tokens"] += max(0, reply.prompt_tokens)
            self._batch.counters["completion tokens"] += max(0, reply.completion_tokens)
        else:
            self._batch.failures.append((request, reply))
        if not self._written:
            loop.call_soon(self.flush)
        written = loop.create_future()
        self._written.append(written)
        await written

    def flush(self) -> None:
        batch, self._batch = self._batch, Batch()
        waiting, self._written = self._written, []
        try:
            self._store.commit(batch)
        except Exception as error:
            for written in waiting:
                if not written.done():
                    written.set_exception(error)
            if not waiting:
                raise
            return
        for written in waiting:
            if not written.done():
                written.set_result(None)

    async def sync_regularly(self, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            await asyncio.to_thread(self._store.sync)
