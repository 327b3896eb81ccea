"""When the next request may start: as many at once as the server bears, within limits a minute, and after waits."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

Clock = Callable[[], float]


class AdaptiveConcurrency:
    """How many requests may be under way: TCP's congestion control over requests.

    Doubles each round while all goes well (slow start), halves when the server is overloaded, then grows by one a round.
    A round is as many requests as were allowed. Of the failures of one round only the first counts, as the others were
    under way already.
    """

    def __init__(self, most: int, *, first: int = 16):
        self.most = most
        self.limit = float(min(first, most))
        self.under_way = 0
        self._slow_start = True
        self._started = 0  # number of the last request that was started
        self._decreased_at = 0  # the value of _started at the last decrease
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def start(self) -> int:
        """Waits for a place; gives the request's number, which `end` wants."""
        if self._waiting or self.under_way >= int(self.limit):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._leave()  # the place had been given already
                raise
        else:
            self.under_way += 1
        self._started += 1
        return self._started

    def end(self, number: int, *, overloaded: bool | None) -> None:
        """A request ended; `overloaded` is None where it tells nothing of the server's load."""
        if overloaded:
            if number > self._decreased_at:
                self._decreased_at = self._started
                self._slow_start = False
                self.limit = max(1.0, self.limit / 2)
        elif overloaded is False and 2 * self.under_way >= self.limit:  # grows only while it is used
            self.limit = min(float(self.most), self.limit + (1.0 if self._slow_start else 1.0 / self.limit))
        self._leave()

    def _leave(self) -> None:
        self.under_way -= 1
        while self._waiting and self.under_way < int(self.limit):
            place = self._waiting.popleft()
            if not place.done():
                self.under_way += 1
                place.set_result(None)


class MinuteLimit:
    """At most so many units a minute, spread evenly; unlimited where `per_minute` is None.

    A bucket that fills steadily and holds one second's worth. What is spent may take it below zero; the next one waits.
    """

    def __init__(self, per_minute: float | None, *, clock: Clock | None = None):
        self._rate = None if per_minute is None else per_minute / 60.0  # units a second
        self._clock = clock
        self._level = self._burst = max(1.0, self._rate or 0.0)
        self._filled_at: float | None = None

    def wait_seconds(self, units: float) -> float:
        """Takes the units, and says after how many seconds that is allowed."""
        if self._rate is None:
            return 0.0
        self._fill()
        wait = max(0.0, -(self._level - min(units, self._burst)) / self._rate)
        self._level -= units
        return wait

    def give_back(self, units: float) -> None:
        """Corrects an estimate: units taken but not used (below zero: used but not taken)."""
        if self._rate is not None:
            self._level += units

    def _fill(self) -> None:
        now = self._clock() if self._clock else asyncio.get_running_loop().time()
        if self._filled_at is not None:
            self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now


_SHOWN_SECONDS = 5.0  # shorter pauses are not worth a word


class Pause:
    """A wait that holds for everyone: a server that says 'Retry-After' says it to the whole job."""

    def __init__(self) -> None:
        self._until = 0.0
        self._asked_for = 0.0

    def at_least(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        if until > self._until:
            self._until, self._asked_for = until, seconds

    def notice(self, name: str) -> str:
        """For the display: until when it holds, and who said so; '' if it doesn't, or not for long."""
        if self._asked_for < _SHOWN_SECONDS or self.seconds <= 0:
            return ""
        until = datetime.now() + timedelta(seconds=self.seconds)
        return (
            f"waits until {until:%Y-%m-%d %H:%M:%S}: {name} said so (Retry-After: {self._asked_for:,.0f} s)"
        )

    @property
    def seconds(self) -> float:
        return max(0.0, self._until - asyncio.get_running_loop().time())


def backoff_seconds(
    tries: int, *, first: float = 0.5, most: float = 60.0, retry_after: float | None = None
) -> float:
    """How long to wait after so many failed tries: exponential with full jitter, and never less than the server asks for.

    Full jitter (uniform from 0 to the exponential) spreads clients best; see Brooker, 'Exponential Backoff And Jitter',
    AWS Architecture Blog, 2015. On top of a Retry-After, jitter of a tenth keeps clients from coming back at once.
    """
    if retry_after is not None:
        return retry_after + random.uniform(0.0, 0.1 * retry_after + 0.05)
    return random.uniform(0.0, min(most, first * 2.0 ** min(tries - 1, 30)))
