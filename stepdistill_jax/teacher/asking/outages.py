"""When the server is away: nothing is asked, nothing counts as failed, and a prompt that takes it down is found.

It is away if no connection comes about, or if request after request is lost or answered by a status of 5xx. Then all wait, and it
is probed, with growing waits. Once it is back, those that it went down with are asked first, apart from all others: one of them
may have been the cause. Whoever was there at two outages is asked alone, and at the third it is set aside.

    all ──outage──> those that were lost, together ──outage──> each alone ──outage──> set aside
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from stepdistill_jax.teacher.answers.requests import Request, RequestError
from stepdistill_jax.teacher.asking.display import duration
from stepdistill_jax.teacher.asking.pacing import AdaptiveConcurrency

EXIT_STATUS = 69  # EX_UNAVAILABLE of sysexits.h
_ENOUGH = 8  # requests that fail in a row, with no reply in between, are no accident
_DEADLY = 3  # outages
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_LEAST_PROBE_SECONDS = 10.0
_APART_SECONDS = 30.0  # how long others wait for those that were lost once


class ServerGone(Exception):
    """The server can't be asked, and the job ended for it in good order; `exit_status` is that of such a process."""

    exit_status = EXIT_STATUS


class Outages:
    """Whether requests may be sent. Used from one event loop."""

    def __init__(
        self,
        model: Any,
        places: AdaptiveConcurrency,
        *,
        longest_seconds: float,
        max_tries: int,
        witness: Callable[[], Request | None],
        count_asked: Callable[[], None],
        end: Callable[[Exception], None],
    ):
        """Nothing is away yet.

        Args:
          model: a LanguageModel. Its `reach`, where it has one, says whether there is a server without asking it anything.
          places: get back, after an outage, the limit that they had.
          longest_seconds: of an outage.
          max_tries: of a request. One that has failed so often, the last times with no reply to anyone in between, is not
            given up before a witness has been asked whether the server fails for everyone.
          witness: gives a request that was answered before; where a server fails for everyone it is asked again, so that bad
            prompts alone do not look like an outage.
          count_asked: is called before each request to a witness.
          end: is called with a ServerGone after an outage that was too long.
        """
        self._model, self._places, self._longest_seconds = model, places, longest_seconds
        self._max_tries = max_tries
        self._witness, self._count_asked, self._end = witness, count_asked, end
        self._can_reach = False
        self.is_on = False
        self._is_confirmed = False  # a witness has failed, too
        self._is_down = False  # lost or gone, rather than answering everyone with failures
        self._since: float | None = None  # the first outage since the last reply
        self._wait = _FIRST_WAIT_SECONDS
        self._under_way: set[str] = set()
        self._failures: Counter[str] = Counter()  # by request without a reply; none that was an outage's
        self._streak: Counter[str] = Counter()  # those with no reply to anyone in between
        self._went_down: set[str] = set()  # of those the ones that the server had when it went
        self._uncounted: Counter[str] = Counter()  # failures that were an outage's, by request
        self._times_lost: Counter[str] = Counter()  # outages, by request that has no reply since
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._scout: str | None = None
        self._probing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def check_server(self) -> None:
        """Sees whether there is a server, where the model can say so without asking it anything.

        Raises:
          ServerGone: if there is none.
          ValueError: if it sends whoever asks on to another server.
        """
        if not hasattr(self._model, "reach"):
            return
        try:
            await self._model.reach()
        except RequestError as error:
            if error.server == "gone":
                raise ServerGone(
                    f"{self._model.name}: {error}. Nothing was asked; start the server, or mend --base_url."
                ) from None
            if error.mend == "stop":
                raise ValueError(f"{self._model.name}: {error}. Nothing was asked.") from None
            return  # a server that does not answer this; requests will show how it is
        self._can_reach = True

    async def admit(self, request: Request) -> None:
        """Waits until the request may be sent, or is found to be one that takes its server down."""
        while not self._may_go(request.key):
            turn = self._turns[request.key] = asyncio.get_running_loop().create_future()
            try:
                await turn
            finally:
                self._turns.pop(request.key, None)

    def start(self, request: Request) -> bool:
        """Whether it may still go; it is under way then, until `ended`."""
        if not self._may_go(request.key):
            return False
        self._under_way.add(request.key)
        return True

    def ended(self, request: Request, error: RequestError | None) -> None:
        """Takes note of how a request ended; None is an answer."""
        key = request.key
        self._under_way.discard(key)
        if error is None or error.server == "answers":
            self._forget(key)
            if not self.is_on:  # else it is an answer from before
                self._note_reply()
        elif self.is_on:
            self._uncounted[key] += 1
            if key != self._scout:
                self._note_failure(key, error)
        elif error.server != "silent":
            self._begin_if_enough(key, error)
        if key == self._scout:
            self._scout = None
            if not self._scout_ended.done():  # the probe may have lost its patience
                self._scout_ended.set_result(error is None or error.server == "answers")
        self._wake()

    def abandoned(self, request: Request) -> None:
        """Takes note of a request that is under way no more, and whose end says nothing: the job is being stopped."""
        self._under_way.discard(request.key)

    def uncounted(self, request: Request) -> int:
        """How many of its tries since the last call failed for an outage, and are none of its own."""
        return self._uncounted.pop(request.key, 0)

    def set_aside(self, request: Request) -> RequestError | None:
        """Why the request is not to be asked again, if so."""
        if self._times_lost[request.key] < _DEADLY:
            return None
        return RequestError(
            "takes its server down", f"was under way at {_DEADLY} outages, at the last one alone"
        )

    def given_up(self, request: Request) -> None:
        """Takes note of a request that won't be asked again: nobody waits for it any longer."""
        self._forget(request.key)
        self._wake()

    def notice(self) -> str:
        """For the display: what is away, since when, and when it is tried again; '' if nothing is."""
        if not self.is_on:
            return ""
        now = asyncio.get_running_loop().time()
        return (
            f"{self._what()} since {self._since_clock:%H:%M:%S} ({duration(now - self._since)}), next try in "
            f"{max(0.0, self._next_try - now):.0f} s; the job ends after {duration(self._longest_seconds)} (--max_outage)"
        )

    def close(self) -> None:
        """Stops probing."""
        for task in (self._probing, self._looking):
            if task is not None:
                task.cancel()

    def _forget(self, key: str) -> None:
        self._failures.pop(key, None)
        self._times_lost.pop(key, None)
        self._went_down.discard(key)

    def _may_go(self, key: str) -> bool:
        if self.is_on:
            return key == self._scout
        if not self._times_lost:
            return True
        times = self._times_lost.get(key, 0)
        if times >= _DEADLY:
            return True  # to be set aside
        if times == 2:
            return not self._under_way
        if max(self._times_lost.values()) >= 2:
            return False
        return times == 1 or asyncio.get_running_loop().time() > self._apart_until

    def _wake(self) -> None:
        for key, turn in list(self._turns.items()):
            if not turn.done() and self._may_go(key):
                turn.set_result(None)

    def _begin_if_enough(self, key: str, error: RequestError) -> None:
        if not self._streak:
            self._limit_before = self._places.limit
        self._failures[key] += 1
        self._streak[key] += 1
        self._note_failure(key, error)
        # Where one request is asked at a time, and none was answered, the next one has to fail, too.
        witness = self._witness()
        fewest = min(_ENOUGH, max(self._places.most, 1 if witness else 2))
        in_a_row = len(self._streak) >= fewest and self._streak.total() >= 3
        # Late replies, of before an outage, may lie between its first failures.
        is_repeated = self._streak[key] >= min(2, self._max_tries)
        at_its_end = witness is not None and self._failures[key] >= self._max_tries and is_repeated
        is_suspect = error.server == "lost" and key in self._times_lost
        if error.server == "gone" or in_a_row or at_its_end or is_suspect:
            self._begin()
        elif error.server == "lost" and self._can_reach and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_at_once(key))

    async def _look_at_once(self, key: str) -> None:
        """Whether a request was lost because the server went: one that is soon back would not be missed else."""
        try:
            await self._model.reach()
        except RequestError as error:
            if error.server == "gone" and not self.is_on:
                self._note_failure(key, error)
                self._went_down.add(key)
                self._begin()

    def _note_failure(self, key: str, error: RequestError) -> None:
        self._error = error
        if error.server in ("lost", "fails", "silent"):
            self._went_down.add(key)
        if error.server in ("lost", "gone"):
            self._is_down = True

    def _note_reply(self) -> None:
        self._streak.clear()
        self._went_down.clear()
        self._since, self._is_down, self._wait = None, False, _FIRST_WAIT_SECONDS

    def _begin(self) -> None:
        self.is_on, self._is_confirmed = True, False
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since, self._since_clock = now, datetime.now()
        self._next_try = now + self._wait
        self._uncounted.update(self._streak)
        self._failures -= self._streak
        self._streak.clear()
        self._probing = asyncio.create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        loop, probes = asyncio.get_running_loop(), 0
        try:
            while self.is_on:
                left = self._since + self._longest_seconds - loop.time()
                if left <= 0:
                    raise ServerGone(self._gone_for_good())
                wait = min(self._wait, left)
                self._next_try = loop.time() + wait
                await asyncio.sleep(wait)
                # Grows until there is a reply: a server may be there again only to go at the next request.
                self._wait = min(_LONGEST_WAIT_SECONDS, 2 * self._wait)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(_LEAST_PROBE_SECONDS, left - wait)):
                        if await self._is_back(probes):
                            self._end_outage()
                probes += 1
        except Exception as error:  # whatever it is, the job must not wait for ever
            self._end(error)

    async def _is_back(self, probes: int) -> bool:
        """Whether the server is there again, or gives a reply to what it failed at."""
        try:
            if self._can_reach:
                await self._model.reach()
                if self._is_down:
                    return True
            witness = self._witness()
            # One that answers with failures is first asked what it had an answer to: it may be the prompts that it fails at.
            if witness is None or (self._turns and (probes % 2 == 0) == self._is_down):
                return await self._send_scout()
            return await self._ask_witness(witness)
        except RequestError as error:
            self._error = error
            return error.server == "answers"

    async def _ask_witness(self, witness: Request) -> bool:
        """Whether there is a reply. If it is the first that was asked for, what failed before has failed by itself."""
        self._count_asked()
        try:
            await self._model.answer(witness)
        except RequestError as error:
            self._is_confirmed = self._is_confirmed or error.server != "answers"
            raise
        if not self._is_confirmed:
            self._uncounted.clear()
        return True

    async def _send_scout(self) -> bool:
        """Lets one of those that wait go, another one each time; whether it got a reply."""
        if not self._turns:
            return False
        self._scout = min(self._turns, key=lambda key: (key in self._went_down, self._uncounted[key]))
        self._scout_ended = asyncio.get_running_loop().create_future()
        self._wake()
        return await self._scout_ended

    def _end_outage(self) -> None:
        if self._is_down:
            self._times_lost.update(self._went_down)
        self.is_on = self._is_down = False
        self._went_down.clear()
        self._places.limit = max(self._places.limit, self._limit_before)
        loop = asyncio.get_running_loop()
        self._apart_until = loop.time() + _APART_SECONDS
        loop.call_later(_APART_SECONDS + 0.1, self._wake)
        self._wake()

    def _what(self) -> str:
        where = getattr(self._model, "public_url", "") or self._model.name
        return f"no server at {where}" if self._is_down else f"the server at {where} fails for everyone"

    def _gone_for_good(self) -> str:
        return (
            f"{self._model.name}: {self._what()} since {self._since_clock:%H:%M:%S}, longer than --max_outage "
            f"{duration(self._longest_seconds)} allows ({self._error}). Every answer is kept, none of these counts as "
            f"failed; once it is back, the same command goes on."
        )
