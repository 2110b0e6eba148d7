"""Figures at hand, whatever the driver does (requirement D4: collecting them blocks nothing)."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from llm_router.contract import Gpu
from llm_router.node.hardware.sampler import Device, Sampler, unchanging

CARD = Gpu("card", backend="cuda")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Each test ends what it began."""
    yield
    for thread in threading.enumerate():
        if thread.name == "gpus":
            thread.join(10)
            assert not thread.is_alive()


async def test_figures_are_there_from_the_start() -> None:
    """Who starts it has the first figures when that returns, so that a registration can carry them (A3)."""
    sampler = Sampler(lambda: [unchanging(CARD)])
    await sampler.start()
    assert sampler.latest == [CARD]
    sampler.stop()


async def test_figures_stay_fresh() -> None:
    """They are read again and again, all of a moment, until it is stopped."""
    loop, thrice, numbers = asyncio.get_running_loop(), asyncio.Event(), count(1)

    def read() -> Gpu:
        number = next(numbers)
        if number == 3:
            loop.call_soon_threadsafe(thrice.set)
        return Gpu("card", utilization=number)

    sampler = Sampler(lambda: [read], every=0.01)
    await sampler.start()
    assert sampler.latest[0].utilization >= 1
    async with asyncio.timeout(10):
        await thrice.wait()
    assert sampler.latest[0].utilization >= 2
    sampler.stop()


async def test_a_slow_driver_is_not_waited_for() -> None:
    """The agent goes on without its GPU, and has it when the driver answers (issue: registered within 5 s)."""
    loop, answered, released = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def read() -> Gpu:
        loop.call_soon_threadsafe(answered.set)
        return CARD

    def find() -> list[Device]:
        released.wait(10)
        return [read]

    sampler = Sampler(find, every=0.01, within=0.01)
    await sampler.start()
    assert sampler.latest == []
    released.set()
    async with asyncio.timeout(10):
        while not sampler.latest:
            await answered.wait()
            answered.clear()
    assert sampler.latest == [CARD]
    sampler.stop()


async def test_a_driver_that_breaks() -> None:
    """A node whose GPU cannot be read starts all the same, as one without."""

    def find() -> list[Device]:
        raise OSError("the driver is of another version than its library")

    sampler = Sampler(find)
    await sampler.start()
    assert sampler.latest == []


async def test_without_gpus_there_is_no_thread() -> None:
    """A machine without one pays nothing for this."""
    await Sampler(list).start()
    for thread in threading.enumerate():
        if thread.name == "gpus":
            thread.join(10)
            assert not thread.is_alive()


async def test_a_driver_that_hangs_does_not_hold_the_agent() -> None:
    """A process ends though its driver never answers."""
    program = (
        "import asyncio, threading\n"
        "from llm_router.node.hardware.sampler import Sampler\n"
        "asyncio.run(Sampler(lambda: threading.Event().wait() and [], within=0.01).start())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
