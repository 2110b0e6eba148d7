"""The live stream: what `feed` has to say, as server-sent events, to everybody who watches.

Rule 1: a message is written out once; all who watch are sent the same bytes.
Rule 2: nobody has a queue. The last messages stand in one `Ring`, each stream knows how far it is, and one that fell
out of the ring is cut: it comes back, and is told everything anew.
Rule 3: while nobody watches, nothing is gathered.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import islice
from time import monotonic, time

import structlog

from llm_router.router.feed import Feed, Message
from llm_router.router.following.history import HistoryElsewhere
from llm_router.router.ledger import Ledger
from llm_router.router.publisher import Publisher
from llm_router.router.store.queries import Event

log = structlog.get_logger()

LOOK_EVERY = 0.25  # seconds between two looks at what there is to say: at once, to a person
READ_EVERY = 1.0  # seconds between two looks at what other replicas have written
FIRST_READING = 2.0  # seconds that who comes first waits for the first of them: no longer for a database that hangs
LINGER = (
    30.0  # seconds for which everything is gathered on though nobody watches: a browser that comes back misses nothing
)
COMMENT_EVERY = 15.0  # seconds: what proxies and clients wait for at least (the HTML standard's own advice)
# Seconds until a stream ends; its reader comes back at once and misses nothing. So a key that was revoked, or a session
# that has ended, does not watch on for ever.
STREAM_FOR = 600.0
COMMENT = b": \n\n"
RETRY = b"retry: 500\n\n"  # milliseconds until a browser comes back; several seconds would be the browser's own choice
RING_BYTES = 4 << 20  # a thousand nodes that report every 5 s fill it in 13 s, a small fleet in an hour
FAILED_FOR = 5.0  # seconds: so that a fault of ours fills no log
PIECE = 64 * 1024  # bytes of all nodes that are sent at once: what a connection buffers before it asks to wait
SLICE = 32  # messages that are made between two turns of the loop: 1 ms


class Ring:
    """The last messages, up to RING_BYTES, each with a number of its own, which grows by one."""

    def __init__(self, epoch: str) -> None:
        """`epoch` tells the numbers of this run from those of others."""
        self._epoch = epoch
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._joined = (0, 0, b"")  # the answer of `after` that was given last: most who watch are equally far
        self.end = 0  # the number of the last message

    def add(self, message: Message) -> None:
        """One more."""
        self.end += 1
        written = self.write(message)
        self._messages.append(written)
        self._bytes += len(written)
        while self._bytes > RING_BYTES:
            self._bytes -= len(self._messages.popleft())

    def write(self, message: Message) -> bytes:
        """A message of its own, for one who watches, who then is as far as the last of all."""
        name, data = message
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._epoch.encode(), self.end, name, data)

    def place(self, id_: str) -> int | None:
        """The number in an id that was given out; None: it is none of this run's that can be gone on from."""
        epoch, _, number = id_.rpartition("-")
        if epoch != self._epoch or not number.isdecimal() or len(number) > len(str(self.end)):
            return None
        place = int(number)
        return place if self.has(place) else None

    def has(self, place: int) -> bool:
        """Whether everything after this number is still here."""
        return 0 <= self.end - place <= len(self._messages)

    def after(self, place: int) -> bytes:
        """All messages after this number, in their order; only for one that `has` it."""
        if self._joined[:2] != (place, self.end):
            last = list(islice(reversed(self._messages), self.end - place))
            self._joined = (place, self.end, b"".join(reversed(last)))
        return self._joined[2]

    def clear(self) -> None:
        """Nobody can go on from what was before."""
        self._messages.clear()
        self._bytes = 0
        self.end += 1


class Live:
    """Everybody's stream. `start` before use, `stop` after."""

    def __init__(
        self, feed: Feed, ledger: Ledger, publisher: Publisher, elsewhere: HistoryElsewhere | None = None
    ) -> None:
        """`elsewhere`: what other replicas have answered, where there are any."""
        self._feed = feed
        self._elsewhere = elsewhere
        self._ledger = ledger
        self._ring = Ring(str(int(time() * 1000)))
        self._streams = 0
        self._left = 0.0  # when the last stream ended
        self._wanted = asyncio.Event()  # somebody watches
        self._ready = asyncio.Event()  # everything there is has been told once
        self._news = asyncio.Event()  # set, and replaced, at each look that found something
        self._door = asyncio.Lock()
        self._nodes = (-1, b"")  # what all newcomers are told, and the number of the last message before it
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        publisher.show(self._event, self._touch)

    # -- for those who watch

    async def stream(self, hello: bytes, last: str = "") -> AsyncIterator[bytes]:
        """Server-sent events: on from the id `last` where that is possible, else from `hello` and all nodes."""
        self._streams += 1
        self._wanted.set()
        try:
            await self._ready.wait()
            place = self._ring.place(last)
            yield RETRY
            if place is None:
                await self._in_turn()
                place = self._ring.end
                everything = self._everything(hello)
                for start in range(0, len(everything), PIECE):
                    yield everything[start : start + PIECE]
                    await asyncio.sleep(0)  # noqa: TID251 - no pause: whoever has left meanwhile is sent no more
            ends = monotonic() + STREAM_FOR
            while not self._stopped and self._ring.has(place) and monotonic() < ends:
                if place < self._ring.end:
                    written, place = self._ring.after(place), self._ring.end
                    yield written
                elif not await _set_within(self._news, COMMENT_EVERY):
                    yield COMMENT
        finally:
            self._streams -= 1
            self._left = monotonic()

    async def _in_turn(self) -> None:
        """One newcomer at each turn of the loop: a thousand nodes are a megabyte, which is 2 ms for each of them."""
        async with self._door:
            await asyncio.sleep(0)  # noqa: TID251 - no pause: a turn for everybody else

    def _everything(self, hello: bytes) -> bytes:
        ring, feed = self._ring, self._feed
        if self._nodes[0] != ring.end:  # else nothing was told since
            both = ring.write((b"nodes", feed.nodes())), ring.write((b"rates", feed.counts()))
            self._nodes = ring.end, b"".join(both)
        return ring.write((b"hello", hello)) + self._nodes[1]

    # -- for those who tell

    def start(self) -> None:
        """Gather from now on, while somebody watches."""
        self._task = asyncio.create_task(self._gather_on())

    async def stop(self) -> None:
        """End every stream."""
        self._stopped = True
        self._ready.set()
        self._tell()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _event(self, event: Event) -> None:
        if self._wanted.is_set():
            self._feed.event(event)

    def _touch(self, node_id: str) -> None:
        if self._wanted.is_set():
            self._feed.touch(node_id)

    async def _gather_on(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._gather_while_wanted()
            except Exception:
                log.exception("live.failed")  # streams are beside the point of a router: they never end it
                await asyncio.sleep(FAILED_FOR)  # noqa: TID251 - the pause before another try
            self._start_over()

    def _start_over(self) -> None:
        if not self._streams:
            self._wanted.clear()
        self._ready.clear()
        self._feed.forget()
        self._ring.clear()
        self._nodes = (-1, b"")
        self._tell()  # a stream that is open though something failed is cut

    async def _gather_while_wanted(self) -> None:
        self._ledger.watch(self._feed.requests)
        begun = asyncio.Event()
        reading = asyncio.create_task(self._read_on(begun))
        try:
            await self._look(lambda _told: None)  # whoever comes now is sent the nodes as a whole
            await _set_within(begun, FIRST_READING)
            self._ready.set()
            while self._streams or monotonic() - self._left < LINGER:
                await asyncio.sleep(LOOK_EVERY)  # noqa: TID251 - the pause in which changes are gathered
                self._ledger.show()
                end = self._ring.end
                await self._look(self._ring.add)
                if self._ring.end != end:
                    self._tell()
        finally:
            self._ledger.unwatch(self._feed.requests)
            reading.cancel()

    async def _read_on(self, begun: asyncio.Event) -> None:
        """Take in what other replicas have answered; when it is `begun`, nothing will be missed."""
        if self._elsewhere is None:
            begun.set()
            return
        self._elsewhere.forget()
        while True:
            self._feed.requests(await self._elsewhere.fresh())
            begun.set()
            await asyncio.sleep(READ_EVERY)  # noqa: TID251 - they write once a second

    async def _look(self, told: Callable[[Message], None]) -> None:
        for number, message in enumerate(self._feed.gather(monotonic())):
            told(message)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)  # noqa: TID251 - no pause: a turn for everybody else

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
