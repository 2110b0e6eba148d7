"""What is to be remembered: taken at once, written a little later.

Rule 1: taking never waits and never fails; a request does not know that there is a database.
Rule 2: what cannot be written is kept and tried again, up to PENDING_LIMIT entries; what comes then is only counted.
Rule 3: nodes are written as they are when the batch is, however often they changed before.
Rule 4: an entry that can never be written takes at most its own batch along.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec
import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from llm_router.core.registry import Change
from llm_router.core.usage import RequestRecord
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Batch, Event, StoredNode

log = structlog.get_logger()

FLUSH_EVERY = 1.0  # seconds: what a killed router loses at most
# Entries at which a batch does not wait for its second, and the most requests that one transaction takes: 10 ms of the
# database's thread. Half as many cost a tenth more each, twice as many no less. `bulk`'s largest statement divides it.
BATCH = 1024
# Entries, 20 MB at half a kB each: two seconds of 20,000 requests per second in which the database is busy with
# something else (a long query, a slow disk), or most of a minute without it at a thousand.
PENDING_LIMIT = 40_000
COMPLAIN_EVERY = 60.0  # seconds between two log lines about one trouble


class Ledger:
    """Takes requests, events and changed nodes, and writes them in batches. `start` before use, `stop` after."""

    def __init__(self, database: Database, snapshot: Callable[[str], StoredNode | None]) -> None:
        """`snapshot`: a node as it is now, None if there is no such node any more."""
        self._database = database
        self._snapshot = snapshot
        self._requests: list[RequestRecord] = []
        self._events: list[Event] = []
        self._touched: dict[str, None] = {}  # ids, in the order in which they changed
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._complained: float | None = None
        self.dropped = 0

    # -- taking

    def request(self, record: RequestRecord) -> None:
        """A request is complete."""
        if self._has_room():
            self._requests.append(record)

    def change(self, change: Change) -> None:
        """Something happened to a node: an event to keep, and the node is to be written."""
        if self._has_room():
            self._events.append(Event(time.time(), change.event, change.node_id, change.name, change.detail))
        self.touch(change.node_id)

    def touch(self, node_id: str) -> None:
        """Something of a node changed that is no event of its own."""
        self._touched[node_id] = None

    def _has_room(self) -> bool:
        pending = self._pending()
        if pending == BATCH:
            self._wake.set()
        if pending < PENDING_LIMIT:
            return True
        self.dropped += 1
        return False

    def _pending(self) -> int:
        return len(self._requests) + len(self._events)

    # -- writing

    def start(self) -> None:
        """Write from now on, every FLUSH_EVERY seconds or BATCH entries."""
        self._task = asyncio.create_task(self._write_on())

    async def stop(self) -> None:
        """Write what is left, and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _write_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_EVERY)
            self._wake.clear()
            last = self._stopping
            await self.flush()
            if last:
                return

    async def flush(self) -> None:
        """Write everything that was taken before this call; on trouble it is kept for the next one."""
        async with self._writing:
            left = len(self._requests)
            while (written := await self._write_batch()) and left > BATCH:
                left -= BATCH
            if written and self._pending() >= BATCH:  # came meanwhile, and nothing would wake us for it
                self._wake.set()

    async def _write_batch(self) -> bool:
        """Whether the database took what it was given."""
        batch = self._take()
        if not any(msgspec.structs.astuple(batch)):
            return True
        try:
            await self._database.run(queries.write, batch)
        except (OperationalError, InterfaceError) as error:  # the database's trouble: disk full, locked, gone
            self._give_back(batch)
            self._complain("ledger.delayed", error)
            return False
        except Exception as error:  # noqa: BLE001 - a batch that can never be written must not block those after it
            self.dropped += len(batch.requests) + len(batch.events)
            self._complain("ledger.batch_lost", error)
        return True

    def _take(self) -> Batch:
        batch = Batch(self._requests[:BATCH], self._events)
        for node_id in self._touched:
            node = self._snapshot(node_id)
            if node is None:
                batch.removed.append(node_id)
            else:
                batch.nodes.append(node)
        del self._requests[:BATCH]
        self._events, self._touched = [], {}
        return batch

    def _give_back(self, batch: Batch) -> None:
        self._requests[:0] = batch.requests
        self._events[:0] = batch.events
        self._touched = dict.fromkeys([*(n.id for n in batch.nodes), *batch.removed]) | self._touched

    def _complain(self, event: str, error: Exception) -> None:
        now = time.monotonic()
        if self._complained is None or now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.error(event, error=str(error), pending=self._pending(), dropped=self.dropped)
