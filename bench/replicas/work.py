"""How a piece of work is measured: processor time of this process and of PostgreSQL's, by how often it was done."""

import time
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec

from bench.data_plane.meter import Meter

US = 1e6
SECONDS = 1.5  # of the wall for one measurement: the kernel counts a process' time in hundredths
REPEATS = 5  # measurements, of which the median counts

Work = Callable[[], Awaitable[object]]


class Used(msgspec.Struct, frozen=True):
    """µs of processor time, each time that it was done; `wall`: µs until it was."""

    here: float
    postgres: float
    wall: float


async def measured(postgres: Meter, work: Work, seconds: float = SECONDS) -> Used:
    """Do it again and again for so long."""
    await work()
    here, there, began = time.process_time(), postgres.cpu(), time.monotonic()
    count = 0
    while (passed := time.monotonic() - began) < seconds:
        await work()
        count += 1
    here, there = time.process_time() - here, postgres.cpu() - there
    return Used(here * US / count, there * US / count, passed * US / count)


def middle(found: list[Used]) -> Used:
    """The median of each figure."""
    return Used(
        median(one.here for one in found), median(one.postgres for one in found), median(one.wall for one in found)
    )


def timed(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """µs of this process' time for a plain function."""
    work()
    began, count, start = time.monotonic(), 0, time.process_time()
    while time.monotonic() - began < seconds:
        work()
        count += 1
    return (time.process_time() - start) * US / count
