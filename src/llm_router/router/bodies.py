"""Prompts and answers on their way into the database, for who runs with `--log-bodies`.

Rule 1: taking never waits and never fails. What the database cannot take is kept up to LIMIT bytes; what comes then is
        only counted.
Rule 2: a body is cut before it comes here (`gateway.remembered`).
"""

import asyncio
import contextlib
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from llm_router.router.store.bodies import Body, add_bodies
from llm_router.router.store.database import Database
from llm_router.router.store.troubles import NotNow

log = structlog.get_logger()

WRITE_EVERY = 1.0  # seconds: what a killed router loses at most, as of the ledger
LIMIT = 32_000_000  # bytes that wait: 250 requests of the greatest length, some thousand of the usual
BATCH = 64  # in one transaction: 8 MB at most, and 50 ms of a disk that is not the fastest


class BodyLog:
    """Takes bodies and writes them in batches. `start` before use, `stop` after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bodies: list[Body] = []
        self._bytes = 0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    def __call__(self, request_id: str, prompt: bytes, answer: bytes) -> None:
        """A request is complete."""
        size = len(prompt) + len(answer)
        if self._bytes + size > LIMIT:
            self.lost += 1
            return
        self._bytes += size
        self._bodies.append(Body(request_id, time.time(), _text(prompt), _text(answer)))

    def start(self) -> None:
        """Write from now on, every WRITE_EVERY seconds."""
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Write what is left, and end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _go_on(self) -> None:
        last = False
        while not last:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY):
                    await self._stopping.wait()
            last = self._stopping.is_set()
            await self.flush()

    async def flush(self) -> None:
        """Write everything that was taken before this call; on trouble it is kept for the next one."""
        for _ in range(0, len(self._bodies), BATCH):
            batch = self._bodies[:BATCH]
            try:
                await self._database.run(add_bodies, batch)
            except NotNow as error:
                log.warning("bodies.delayed", error=str(error), pending=len(self._bodies))
                return
            except SQLAlchemyError as error:  # never its text, which would quote what was to be written
                log.error("bodies.batch_lost", error=str(getattr(error, "orig", "")))  # noqa: TRY400 - as above
                self.lost += len(batch)
            del self._bodies[: len(batch)]
            self._bytes -= sum(len(b.prompt) + len(b.answer) for b in batch)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
