"""A LanguageModel out of an engine that answers batches."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from stepdistill_jax.teacher.answers.language_model import BatchEngine
from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError

_Waiting = tuple[Request, "asyncio.Future[Answer]"]


class Batched:
    """Gathers what is asked at once into batches of the engine; the engine works in a thread of its own.

    While a batch is worked on, the next one gathers: with a concurrency of twice `max_batch` the engine never waits.
    """

    def __init__(self, engine: BatchEngine):
        self.name, self.model, self.chat = engine.name, engine.model, engine.chat
        self.max_batch = engine.max_batch
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batched":
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.start)
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.stop)
        self._thread.shutdown()

    async def answer(self, request: Request) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, answered))
        return await answered

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(0)  # lets everyone who is about to ask do so
            while len(batch) < self.max_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(request, answered) for request, answered in batch if not answered.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        requests = [request for request, _ in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._engine.answer_batch, requests
            )
        except Exception as error:  # whatever an engine raises, those who wait must hear of it
            answers = [
                RequestError("engine error", f"{type(error).__name__}: {error}", mend="stop") for _ in batch
            ]
        for (_, answered), answer in zip(batch, answers, strict=True):
            if answered.done():
                continue
            if isinstance(answer, RequestError):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)
