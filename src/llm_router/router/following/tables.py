"""Reads again what other replicas have written: what they said they did; everything, where something may be missed.

Rule 1: what is read is applied before anything else happens, and not where this replica has something to write itself.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from llm_router.errors import Unavailable
from llm_router.router.ledger import Ledger
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import StoredNode

log = structlog.get_logger()

# Seconds between two readings of everything: what a lost message costs at most. A thousand nodes are 20 ms of a core.
EVERY = 30.0
REST = 1.0  # seconds until another try when the database does not answer

PAGE = 200  # nodes that are read in one go: 7 ms of the event loop

Apply = Callable[[list[StoredNode], Collection[str]], None]  # rows, and the ids that were asked for


class Tables:
    """`start` before use, `stop` after."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        apply: Apply,
        known: Callable[[], Iterable[str]],
        others: Mapping[str, Callable[[], Awaitable[None]]],
    ) -> None:
        """`apply`: takes over nodes' rows; `known`: the ids of those that this replica knows.

        `others`: what else there is to read, each by a name.
        """
        self._database = database
        self._ledger = ledger
        self._apply = apply
        self._known = known
        self._others = others
        self._nodes: set[str] = set()
        self._all_nodes = False
        self._names: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read what is asked for from now on, and everything every EVERY seconds."""
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def nodes(self, ids: Collection[str]) -> None:
        """These nodes' rows have changed."""
        self._nodes.update(ids)
        self._wanted.set()

    def other(self, name: str) -> None:
        """So has what is known by this name."""
        self._names.add(name)
        self._wanted.set()

    def everything(self) -> None:
        """Anything may have changed."""
        self._all_nodes = True
        self._names.update(self._others)
        self._wanted.set()

    async def _go_on(self) -> None:
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._wanted.wait()
            except TimeoutError:
                self.everything()
            try:
                await self._read()
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("replicas.not_read", error=str(getattr(error, "orig", None) or error))
                self.everything()
                await asyncio.sleep(REST)  # noqa: TID251 - the pause before another try

    async def _read(self) -> None:
        self._wanted.clear()
        names, self._names = self._names, set()
        if self._all_nodes:
            self._all_nodes = False
            self._nodes.update(self._known(), await self._database.run(queries.node_ids))
        while self._nodes:
            some = frozenset(islice(self._nodes, PAGE))
            self._nodes -= some
            await _part(self._page(some))
        for name in sorted(names):
            await _part(self._others[name]())

    async def _page(self, ids: Collection[str]) -> None:
        async with self._ledger.settled():
            self._apply(await self._database.run(queries.load_nodes, ids), ids)


async def _part(reading: Awaitable[None]) -> None:
    """One part of what is read; the others are read though nobody understands it. Raises what may pass."""
    try:
        await reading
    except (SQLAlchemyError, Unavailable):
        raise
    except Exception:
        log.exception("replicas.not_understood")  # a row of a newer version, in the middle of an upgrade
