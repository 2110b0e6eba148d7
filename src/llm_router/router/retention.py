"""Old requests, events and bodies go, at the start and then every hour."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Table
from sqlalchemy.exc import SQLAlchemyError

from llm_router.router.store import bulletins
from llm_router.router.store.database import Database
from llm_router.router.store.retention import TRIMMED, trim, trim_blocks

log = structlog.get_logger()

EVERY = 3600.0  # seconds
LOOK_EVERY = 60.0  # seconds between two looks at the clock, and at who is on duty
DAY = 86400.0  # seconds
BULLETINS_FOR = 600.0  # seconds: whoever has not read a message by then reads the tables it was about
# Seconds between two slices. The process that writes requests looks for its turn every 1 to 100 ms (SQLite's busy
# handler); at this pace 10,000 rows go per second, which is faster than they come.
REST = 0.05


class Retention:
    """`start` before use, `stop` after."""

    def __init__(self, database: Database, days: float, on_duty: Callable[[], bool]) -> None:
        """`days`: how long things are kept; 0: for ever. `on_duty`: whether this process does it, of several."""
        self._database = database
        self._days = days
        self._on_duty = on_duty
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Delete what is old from now on."""
        if self._days:
            self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """End after the slice that is under way."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _go_on(self) -> None:
        done = -EVERY
        while not self._stopping.is_set():
            if self._on_duty() and time.monotonic() - done >= EVERY:
                done = time.monotonic()
                await self._try()
            await self._rest(LOOK_EVERY)

    async def _try(self) -> None:
        try:
            await self.run(time.time())
        except SQLAlchemyError as error:  # the database's trouble, which the ledger tells of too
            log.warning("retention.failed", error=str(getattr(error, "orig", error)))

    async def run(self, now: float) -> None:
        """Delete what is old at this moment, in seconds since the epoch.

        Raises:
            SQLAlchemyError: the database cannot; what is left is for the next time.
        """
        before = now - self._days * DAY
        for table in TRIMMED:
            await self._trim(table, before, now)
        if self._database.shared:
            await self._database.run(bulletins.trim, now - BULLETINS_FOR)
        key: tuple[str, str] | None = ("", "")
        while key is not None and not self._stopping.is_set():
            key = await self._database.run(trim_blocks, key)
            await self._rest(REST)

    async def _trim(self, table: Table, before: float, now: float) -> None:
        seq: int | None = -1
        while seq is not None and not self._stopping.is_set():
            seq = await self._database.run(trim, table, before, now, seq)
            await self._rest(REST)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
