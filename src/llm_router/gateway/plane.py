"""What all exchanges of one gateway share: who can answer, the connections there, and who hears how it ended."""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable

from llm_router.contract import Address
from llm_router.core.registry import Node, Registry
from llm_router.core.scheduler import Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.errors import UpstreamFailed
from llm_router.gateway.upstream import Pool
from llm_router.wire.http1 import Request

ID_LENGTH = 128  # characters of a client's own x-request-id that are taken over


class DataPlane:
    """One per gateway. Exchanges read it and call it; only the gateway sets `draining`."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        pool: Pool,
        *,
        control: Address,
        control_headers: bytes = b"",
        record: Callable[[RequestRecord], None],
        failed: Callable[[Node, str], None],
        wake: Callable[[str], Awaitable[Address]] | None = None,
    ) -> None:
        """Say who does what.

        Args:
            registry: the nodes.
            scheduler: chooses among them.
            pool: connections to them and to the control app.
            control: where everything goes that is not inference.
            control_headers: header lines to add there (`ControlServer.headers`).
            record: told of every inference request, once; must be cheap.
            failed: told when a node failed a request for a reason of its own; must be cheap.
            wake: brings up a node that has no address; raises UpstreamError when it cannot.
        """
        self.registry = registry
        self.scheduler = scheduler
        self.pool = pool
        self.control = control
        self.control_headers = control_headers
        self.record = record
        self.failed = failed
        self.wake = wake or _nothing_to_wake
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.under_way = 0  # inference requests
        self._empty = asyncio.Event()
        self._empty.set()
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6).encode() + b"-"

    def inference_begun(self) -> None:
        """One more request that a drain waits for. It waits for no other: an event stream never ends by itself."""
        self.under_way += 1
        self._empty.clear()

    def inference_over(self) -> None:
        """One less."""
        self.under_way -= 1
        if not self.under_way:
            self._empty.set()

    async def empty(self) -> None:
        """Wait until no inference is under way."""
        await self._empty.wait()

    def request_id(self, request: Request) -> bytes:
        """The client's own x-request-id where it has a usable one, else a new one."""
        given = request.header(b"x-request-id")
        if given and len(given) <= ID_LENGTH and given.isascii() and given.decode("ascii").isprintable():
            return given
        return self._id_prefix + b"%d" % next(self._ids)


async def _nothing_to_wake(node_id: str) -> Address:
    raise UpstreamFailed(f"{node_id} has no address")
