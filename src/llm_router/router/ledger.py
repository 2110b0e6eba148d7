"""What is to be remembered: taken at once, written a little later.

Rule 1: taking never waits and never fails; a request does not know that there is a database.
Rule 2: what cannot be written is kept and tried again, up to PENDING_LIMIT entries; what comes then is only counted.
Rule 3: nodes are written as they are when the batch is, however often they changed before: the whole row where somebody
        changed what it holds, only what the node reports where that is all.
Rule 4: an entry that can never be written takes at most its own batch along.
Rule 5: requests are written at least once: twice if the process that writes them dies before it can say that it has.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from llm_router.core.registry import Change
from llm_router.core.usage import RequestRecord
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Event, News, SeenNode, StoredNode
from llm_router.router.store.troubles import NotNow

log = structlog.get_logger()

FLUSH_EVERY = 1.0  # seconds: what a killed router loses at most
# Entries at which a batch does not wait for its second, and the most requests that one transaction takes: 8 ms of the
# process that writes. Half as many cost a tenth more each, twice as many no less.
BATCH = 1024
# Entries, 20 MB at half a kB each: two seconds of 20,000 requests per second in which the database is busy with
# something else (a long query, a slow disk), or most of a minute without it at a thousand.
PENDING_LIMIT = 40_000
COMPLAIN_EVERY = 60.0  # seconds between two log lines about one trouble

Watcher = Callable[[Sequence[RequestRecord]], None]  # told of requests, each once, in their order; must not fail

# Events by which more of a node's row changes than what it reports by itself.
_WHOLE = frozenset({"node.added", "node.registered", "node.pending", "node.changed", "node.removed"})


class Ledger:
    """Takes requests, events and changed nodes, and writes them in batches. `start` before use, `stop` after."""

    def __init__(self, database: Database, snapshot: Callable[[str], StoredNode | None]) -> None:
        """`snapshot`: a node as it is now, None if there is no such node any more."""
        self._database = database
        self._snapshot = snapshot
        self._requests: list[RequestRecord] = []
        self._events: list[Event] = []
        self._touched: dict[str, None] = {}  # ids of nodes whose rows are to be written, in the order of the changes
        self._seen: dict[str, None] = {}  # ids of those of which only what they report is
        self._under_way = frozenset[str]()  # ids of rows that are being written
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._complained: float | None = None
        self._watchers: list[Watcher] = []
        self._shown = 0  # of `_requests`, from the front
        self.dropped = 0
        self.trouble = ""  # why the database does not take what it is given; empty while it does
        self.tell: Callable[[Event], None] = _tell_nobody  # hears of events of the ledger's own
        # What is to be told with the transaction in which these nodes' rows are written, on a database that can.
        self.letters: Callable[[Iterable[str]], list[str]] = _no_letters

    # -- taking

    def request(self, record: RequestRecord) -> None:
        """A request is complete."""
        if len(self._requests) < BATCH or self._has_room():  # no further question for nearly every request
            self._requests.append(record)
        else:
            self._show_lost(record)

    def change(self, change: Change) -> Event:
        """Something happened to a node: an event to keep, and the node is to be written."""
        event = Event(time.time(), change.event, change.node_id, change.name, change.detail)
        if self._has_room():
            self._events.append(event)
        if change.event in _WHOLE:
            self.touch(change.node_id)
        elif change.node_id:
            self.seen(change.node_id)
        return event

    def touch(self, node_id: str) -> None:
        """A node's row has changed. Where others read it, it does not wait for its second."""
        self._touched[node_id] = None
        if self._database.shared:
            self._wake.set()

    def seen(self, node_id: str) -> None:
        """A node reported."""
        self._seen[node_id] = None

    def unwritten(self, node_id: str) -> bool:
        """Whether the node's row is not yet what it should be."""
        return node_id in self._touched or node_id in self._under_way

    def _has_room(self) -> bool:
        pending = self.pending
        if pending >= BATCH and not self.trouble:  # in trouble every second is often enough
            self._wake.set()
        if pending < PENDING_LIMIT:
            return True
        self.dropped += 1
        return False

    @property
    def pending(self) -> int:
        """Requests and events that are not written yet."""
        return len(self._requests) + len(self._events)

    # -- showing

    def watch(self, watcher: Watcher) -> None:
        """Have `watcher` told of requests from now on, when `show` is called or they are written: none pays for it."""
        self.show()
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers.remove(watcher)

    def show(self) -> None:
        """Tell those who watch of what was taken since the last time."""
        fresh = self._requests[self._shown :]
        self._shown += len(fresh)
        for watcher in self._watchers if fresh else ():
            watcher(fresh)

    def _show_lost(self, record: RequestRecord) -> None:
        """It will not be on record, but what it adds up to shall be right."""
        self.show()
        for watcher in self._watchers:
            watcher((record,))

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
                async with asyncio.timeout(FLUSH_EVERY):
                    await self._wake.wait()
            self._wake.clear()
            last = self._stopping
            await self.flush()
            if last:
                return

    async def flush(self) -> None:
        """Write everything that was taken before this call; on trouble it is kept for the next one.

        A caller that is cancelled leaves it under way.
        """
        await asyncio.shield(asyncio.create_task(self._flush()))

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """Nothing is being written within the block: what is read is what was written last."""
        async with self._writing:
            yield

    async def _flush(self) -> None:
        async with self._writing:
            left = len(self._requests)
            while (written := await self._write_batch()) and left > BATCH:
                left -= BATCH
            if written and self.pending >= BATCH:  # came meanwhile, and nothing would wake us for it
                self._wake.set()

    async def _write_batch(self) -> bool:
        """Whether the database took what it was given."""
        self.show()
        written = await self._write_news() and await self._write_requests()
        if written and self.trouble:
            self._caught_up()
        return written

    async def _write_news(self) -> bool:
        touched, seen = self._touched, self._seen
        if not (self._events or touched or seen):
            return True
        news = self._take_news()
        self._under_way = frozenset(touched)
        try:
            await self._database.run(queries.write, news)
        except NotNow as error:
            self._events[:0] = news.events
            self._touched, self._seen = touched | self._touched, seen | self._seen
            self._delayed(error)
            return False
        except Exception as error:  # noqa: BLE001 - a batch that can never be written must not block those after it
            self._lose(len(news.events), error)
        finally:
            self._under_way = frozenset()
        return True

    def _take_news(self) -> News:
        touched, seen, events = self._touched, self._seen, self._events
        self._touched, self._seen, self._events = {}, {}, []
        now = {node_id: self._snapshot(node_id) for node_id in touched | seen}
        return News(
            events,
            nodes=[node for node_id in touched if (node := now[node_id]) is not None],
            removed=[node_id for node_id in touched if now[node_id] is None],
            seen=[_report(node) for node_id in seen if node_id not in touched and (node := now[node_id]) is not None],
            messages=self.letters(touched) if touched else [],
        )

    async def _write_requests(self) -> bool:
        self.show()  # those that came while the news were written
        batch = self._requests[:BATCH]
        if not batch:
            return True
        del self._requests[:BATCH]
        self._shown -= len(batch)
        try:
            await self._database.append(batch)
        except NotNow as error:
            self._requests[:0] = batch
            self._shown += len(batch)
            self._delayed(error)
            return False
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(len(batch), error)
        return True

    def _delayed(self, error: Exception) -> None:
        self._complain("ledger.delayed", error)
        began, self.trouble = not self.trouble, _reason(error)
        if began:
            self._tell("ledger.delayed", self.trouble)

    def _caught_up(self) -> None:
        self.trouble = ""
        log.info("ledger.caught_up", dropped=self.dropped)
        self._tell("ledger.caught_up", f"{self.dropped} entries lost since the start" if self.dropped else "")

    def _tell(self, event: str, detail: str) -> None:
        told = Event(time.time(), event, "", "", detail)
        self._events.append(told)  # over the limit, too: there are two for each trouble
        self.tell(told)

    def _lose(self, entries: int, error: Exception) -> None:
        self.dropped += entries
        self._complain("ledger.batch_lost", error)

    def _complain(self, event: str, error: Exception) -> None:
        now = time.monotonic()
        if self._complained is None or now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.error(event, error=_reason(error), pending=self.pending, dropped=self.dropped)


def _reason(error: Exception) -> str:
    """The database's words alone: SQLAlchemy's text quotes what was to be written, and with it secrets."""
    return str(getattr(error, "orig", None) or error)


def _report(node: StoredNode) -> SeenNode:
    """What of a node's row it reports by itself."""
    return msgspec.convert(node, SeenNode, from_attributes=True)


def _tell_nobody(event: Event) -> None:
    """Nobody watches."""


def _no_letters(nodes: Iterable[str]) -> list[str]:  # noqa: ARG001 - the call's
    """Nobody reads along."""
    return []
