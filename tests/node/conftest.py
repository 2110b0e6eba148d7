"""What the tests of the agent share: settings with a home of their own, a client session, a log that can be awaited."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
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

    async def entry(self, event: str) -> EventDict:
        """The first entry of this kind, once it is there."""
        async with asyncio.timeout(30):
            while not self.find(event):
                self._news.clear()
                await self._news.wait()
        return self.find(event)[0]

    def _take(self, _logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
        self.entries.append(entry)
        self._news.set()
        raise structlog.DropEvent


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
