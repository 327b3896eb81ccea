"""How many requests at once, how many a minute, and how long to wait: no clock but the test's own."""

import asyncio
import math

import pytest

from stepdistill_jax.teacher.asking.pacing import AdaptiveConcurrency, MinuteLimit, backoff_seconds


def _rounds(places, *, server_bears, rounds):
    """Requests in rounds of as many as are allowed; those beyond what the server bears are refused. Gives the limits."""

    async def run():
        limits = []
        for _ in range(rounds):
            numbers = [await places.start() for _ in range(int(places.limit))]
            for place, number in enumerate(numbers):
                places.end(number, overloaded=place >= server_bears)
            limits.append(places.limit)
        return limits

    return asyncio.run(run())


def test_concurrency_doubles_until_the_most_that_is_allowed():
    limits = _rounds(AdaptiveConcurrency(64, first=8), server_bears=1000, rounds=12)
    assert limits[0] >= 11  # ends are not replaced within a round here, so half of them count
    assert limits[-1] == 64


def test_concurrency_settles_at_what_the_server_bears():
    limits = _rounds(AdaptiveConcurrency(512), server_bears=40, rounds=200)[50:]
    assert min(limits) >= 20
    assert max(limits) <= 42
    assert sum(limits) / len(limits) > 25


def test_failures_of_one_round_count_once():
    places = AdaptiveConcurrency(32, first=32)

    async def run():
        numbers = [await places.start() for _ in range(32)]
        for number in numbers:
            places.end(number, overloaded=True)

    asyncio.run(run())
    assert places.limit == 16


def test_those_who_wait_get_a_place_in_their_order_and_a_cancelled_one_leaves_none_taken():
    async def run():
        places = AdaptiveConcurrency(1)
        first = await places.start()
        waiting = [asyncio.create_task(places.start()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        places.end(first, overloaded=None)
        second = await waiting[1]
        assert not waiting[2].done()
        places.end(second, overloaded=None)
        places.end(await waiting[2], overloaded=None)
        return places.under_way

    assert asyncio.run(asyncio.wait_for(run(), 5)) == 0


@pytest.mark.parametrize("units", [1, 50])
def test_a_minutes_limit_is_kept(units):
    now = 0.0
    limit = MinuteLimit(600, clock=lambda: now)
    for _ in range(100):
        now += limit.wait_seconds(units)
    taken = 100 * units
    assert taken - 10 - units <= now * 10 <= taken  # ten a second, with one second's worth at the start


def test_an_estimate_that_was_too_high_is_given_back():
    limit = MinuteLimit(60, clock=lambda: 0.0)
    limit.wait_seconds(100)
    limit.give_back(100)
    assert limit.wait_seconds(1) == 0.0


def test_without_a_limit_nothing_waits():
    assert MinuteLimit(None).wait_seconds(math.inf) == 0.0


def test_backoff_grows_is_jittered_bounded_and_never_less_than_asked_for():
    waits = [[backoff_seconds(tries) for _ in range(300)] for tries in (1, 4, 50)]
    assert max(waits[0]) <= 0.5
    assert 2.0 < max(waits[1]) <= 4.0
    assert 30.0 < max(waits[2]) <= 60.0
    assert min(waits[2]) < 20.0
    assert all(7.0 <= backoff_seconds(1, retry_after=7.0) < 8.0 for _ in range(100))
