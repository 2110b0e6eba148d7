"""How late the event loop is."""

import asyncio
import time

from llm_router.gateway.lag import BOUNDS, EVERY, LoopLag


def test_a_sample_falls_into_the_bucket_whose_end_it_does_not_pass() -> None:
    """Prometheus' buckets are "less or equal"; the last one has no end."""
    lag = LoopLag()
    for late in (0.0, BOUNDS[0], BOUNDS[1], 2 * BOUNDS[-1]):
        lag.add(late)
    assert lag.counts == [2, 1, *[0] * (len(BOUNDS) - 2), 1]
    assert lag.total == sum((BOUNDS[0], BOUNDS[1], 2 * BOUNDS[-1]))
    assert lag.longest == 2 * BOUNDS[-1]


async def test_a_loop_that_is_blocked_is_late() -> None:
    """What blocks the loop for a while is seen, at its length but for what was left until the next sample."""
    lag, sampled, blocked = LoopLag(), asyncio.Event(), 4 * EVERY
    lag.start()
    time.sleep(blocked)  # noqa: ASYNC251 - what is measured
    asyncio.get_running_loop().call_later(EVERY, sampled.set)
    await sampled.wait()
    lag.stop()
    assert lag.longest >= blocked - EVERY - 0.002  # timers are exact to a millisecond
    assert sum(lag.counts) >= 1


async def test_it_stops() -> None:
    """Nothing is sampled after `stop`."""
    lag, over = LoopLag(), asyncio.Event()
    lag.start()
    lag.stop()
    asyncio.get_running_loop().call_later(2 * EVERY, over.set)
    await over.wait()
    assert sum(lag.counts) == 0
