"""What all exchanges of one gateway share: who can answer, the connections there, and who hears how it ended."""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Protocol, cast

from llm_router.contract import Address
from llm_router.core.node import Lease
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Decision, Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.errors import RouterError, UpstreamFailed
from llm_router.gateway.upstream import Pool
from llm_router.wire.wishes import Wishes

LOOK_EVERY = 0.1  # seconds between looks at the queue while anybody waits: time alone can change what is best


class Waiter(Protocol):
    """Whoever asked the scheduler for a place and was told to wait: the owner of an `Ask`."""

    def placed(self, decision: Lease | RouterError) -> None:
        """The wait is over."""


class DataPlane:
    """One per gateway. Exchanges read it and call it; only the gateway sets `draining`."""

    def __init__(  # noqa: PLR0913 - all but three go by name
        self,
        registry: Registry,
        scheduler: Scheduler,
        pool: Pool,
        *,
        control: Address,
        control_headers: bytes = b"",
        record: Callable[[RequestRecord], None],
        failed: Callable[[Lease, str, bool], None],
        restored: Callable[[Lease], None] | None = None,
        wake: Callable[[str], Awaitable[Address]] | None = None,
        prepare: Callable[[str, Wishes], None] | None = None,
        bodies: Callable[[str, bytes, bytes], None] | None = None,
        sign_every: float = 0.0,
        answer_timeout: float = 0.0,
        token_timeout: float = 0.0,
        fetch_timeout: float = 0.0,
        traced: bool = False,
        unloads: bool = False,
        shows: bool = False,
    ) -> None:
        """Say who does what.

        Args:
            registry: the nodes.
            scheduler: chooses among them.
            pool: connections to them and to the control app.
            control: where everything goes that is not inference.
            control_headers: header lines to add there (`ControlServer.headers`).
            record: told of every inference request, once; must be cheap.
            failed: told when a node failed a request for a reason of its own, why, and whether it may not be there at
                all; must be cheap.
            restored: told when a trial of an excluded model went well.
            wake: brings up a node that has no address; raises UpstreamError when it cannot, Unavailable when not now.
            prepare: told what a request that has been given a node, and is translated for it, asks for beside its
                answer; afterwards the node may have no address any more.
            bodies: told the id, the prompt and the answer of every inference request; None: nobody wants to know.
            sign_every: seconds between signs of life to a client that waits for its stream to begin; 0: none.
            answer_timeout: seconds that a node has to begin its answer; 0: as long as it is online.
            token_timeout: seconds that an answer which has begun may stand still; 0: any time.
            fetch_timeout: seconds that a request which is no stream waits for a node to fetch its model; 0: any time.
            unloads: whether the control app takes a model out of memory; else whoever has it there is asked.
            shows: whether the control app says what a model is (`/api/show`); else whoever has it is asked.
            traced: whether records shall say which trace of the client's a request belongs to.
        """
        self.registry = registry
        self.scheduler = scheduler
        self.pool = pool
        self.control = control
        self.control_headers = control_headers
        self.record = record
        self.failed = failed
        self.restored = restored or _nothing_to_tell
        self.wake = wake or _nothing_to_wake
        self.prepare = prepare or _nothing_to_prepare
        self.bodies = bodies
        self.sign_every = sign_every
        self.answer_timeout = answer_timeout
        self.token_timeout = token_timeout
        self.fetch_timeout = fetch_timeout
        self.traced = traced
        self.unloads = unloads
        self.shows = shows
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self.now = monotonic  # not the loop's time, which another clock may drive: the registry's times are of this one
        self.under_way = 0  # inference requests
        self._emptied = asyncio.Event()
        self.outbox: list[tuple[asyncio.WriteTransport, bytes]] = []  # what `flush` is to write
        self._look: asyncio.TimerHandle | None = None
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6).encode() + b"-"

    def one_less(self) -> None:
        """A request has ended, and somebody may wait for the last one."""
        if not self.under_way:
            self._emptied.set()

    async def empty(self) -> None:
        """Wait until no inference is under way. Nothing else is waited for: an event stream never ends by itself."""
        while self.under_way:
            self._emptied.clear()
            await self._emptied.wait()

    def look_after_queue(self) -> None:
        """Somebody waits: look again and again, until nobody does."""
        if self._look is None:
            self._look = self.loop.call_later(LOOK_EVERY, self._look_once)

    def changed(self) -> None:
        """The registry has changed: those who wait may have a chance."""
        if self.scheduler.waiting:
            self.deliver(self.scheduler.on_tick(self.now()))

    def deliver(self, decisions: Iterable[Decision]) -> None:
        """Tell those who waited. Not from within: what they do next may set the next one going."""
        for ask, decision in decisions:
            self.loop.call_soon(cast("Waiter", ask.owner).placed, decision)

    def _look_once(self) -> None:
        self._look = None
        self.changed()
        if self.scheduler.waiting:
            self.look_after_queue()

    def send(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Have it written when all that has come by now is seen to, in the order of the calls.

        For messages that are whole. One after another, the kernel's work and ours both find in the processor's caches
        what they need: a quarter less of its time for each request under load. For tokens it is no gain.
        """
        outbox = self.outbox
        if not outbox:
            self.loop.call_soon(self.flush)
        outbox.append((transport, data))

    def flush(self) -> None:
        """Write what waits; to be called before a transport is closed that something was sent to."""
        outbox, self.outbox = self.outbox, []
        for transport, data in outbox:
            if not transport.is_closing():
                transport.write(data)

    def new_id(self) -> bytes:
        """A request's x-request-id, where its client gave none."""
        return self._id_prefix + b"%d" % next(self._ids)


def _nothing_to_tell(lease: Lease) -> None:
    """Nothing is ever excluded here."""


def _nothing_to_prepare(node_id: str, wishes: Wishes) -> None:
    """Whoever runs the model there sees to it."""


async def _nothing_to_wake(node_id: str) -> Address:
    raise UpstreamFailed(f"{node_id} has no address")
