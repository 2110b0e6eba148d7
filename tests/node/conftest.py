"""What the tests of the agent share: settings with a home of their own, a client session, a log that can be awaited."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import psutil
import pytest
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from llm_router.config import NodeConfig


class Journal:
    """What was logged through `log`."""

    def __init__(self) -> None:
        self.entries: list[EventDict] = []
        self._news = asyncio.Event()
        kind = structlog.make_filtering_bound_logger(0)
        self.log = cast("FilteringBoundLogger", structlog.wrap_logger(None, [self._take], kind))

    def find(self, event: str) -> list[EventDict]:
        """The entries of this kind."""
        return [entry for entry in self.entries if entry["event"] == event]

    async def entry(self, event: str, number: int = 1) -> EventDict:
        """The first entry of this kind, or the second and so on, once it is there."""
        async with asyncio.timeout(30):
            while len(self.find(event)) < number:
                self._news.clear()
                await self._news.wait()
        return self.find(event)[number - 1]

    def _take(self, _logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
        self.entries.append(entry)
        self._news.set()
        raise structlog.DropEvent


def runtimes_processes() -> list[psutil.Process]:
    """Processes that runtimes of this one have started; other tests may have others."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any(word.startswith("llm_router.node.runtimes.") for word in child.cmdline()):
                found.append(child)
    return found


def stop_in_its_tracks(pid: int) -> None:
    """SIGSTOP, and wait until it has reached every thread: until then one of them may still answer."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while any(stat.read_text().rsplit(")", 1)[1].split()[0] != "T" for stat in tasks.glob("*/stat")):
        time.sleep(0.01)


reads_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc whether every thread has stopped")


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig(home=tmp_path, port=0, threads=1, parallel=5, context=512)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def journal() -> Journal:
    return Journal()
