"""A PostgreSQL of the bench's own, and what it uses. It is the tests': nothing of it has to outlive a power cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.postgres import Cluster, NotInstalled

from bench.data_plane.meter import Meter
from bench.processes import NotReadyError


class Server(Meter):
    """PostgreSQL's processes, to the microsecond: a letter costs it less than the hundredths that are counted else.

    The first figure of /proc/PID/schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
    """

    def cpu(self) -> float:
        """As `Meter.cpu`; who is gone does not count, so nobody may leave meanwhile."""
        return sum(_on_processor(process.pid) for process in self._family())


def _on_processor(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1e9


@asynccontextmanager
async def postgres() -> AsyncIterator[tuple[Cluster, Meter]]:
    """One that runs.

    Raises:
        NotReadyError: it is not installed.
    """
    try:
        cluster = await asyncio.to_thread(Cluster)
    except NotInstalled as error:
        raise NotReadyError(str(error)) from error
    try:
        yield cluster, Server(cluster.pid)
    finally:
        await asyncio.to_thread(cluster.close)
