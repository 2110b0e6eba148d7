"""A server that somebody else runs, reached through this agent: Ollama, or anything that speaks the OpenAI API.

It is looked at every 5 seconds, and at once when a request to it failed; the looks say which models it has, which of
them are in memory, and whether it is online. After a look in vain comes a second one at once, and if that is in vain
too, it is offline: a server that takes connections and answers nothing is out of use after 12 s at most. A server that
is not there yet is waited for.

The agent's own Ollama is looked at in the same way (`ollama.py`); its address comes and goes with its process.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Literal

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.contract import Address, RuntimeFacts
from llm_router.core.health import Signal, State
from llm_router.core.node import DEFAULT_SLOTS, DIALECTS, Node
from llm_router.core.registry import Change, Registry
from llm_router.errors import UpstreamFailed
from llm_router.gateway.probe import Listing, pull_models
from llm_router.node.runtimes.base import Runtime

LOOK_EVERY = 5.0  # seconds, as the router looks at servers attached to it (requirement F1's interval)
LOOK_WITHIN = 5.0  # seconds (requirement A4)
SURE_WITHIN = 2.0  # seconds for the second look: to be offline by mistake lasts until the next look only

NOT_RUNNING = "it does not run"


class Attached(Runtime):
    """The runtimes `ollama=URL` and `openai=URL`. See `base.Runtime`."""

    def __init__(
        self,
        kind: Literal["ollama", "openai"],
        address: Address | None,
        registry: Registry,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        changed: Callable[[], None],
        *,
        slots: int = DEFAULT_SLOTS,
    ) -> None:
        """Say where it is, and whom to tell.

        Args:
            kind: what it speaks.
            address: where it is; None: not yet known, `moved` will tell.
            registry: where its models are listed.
            session: for looks at it.
            log: for what they show.
            changed: called when the server went, came, or has other models, stored or in memory.
            slots: how many requests it runs at once.
        """
        self._kind: Literal["ollama", "openai"] = kind
        self._address = address
        self._registry = registry
        self._session = session
        self._log = log.bind(runtime=kind, url=address.url) if address else log.bind(runtime=kind)
        self.id = f"{kind}/{address.url}" if address else kind
        self._changed = changed
        self._slots = slots
        self._last = Listing(())
        self._look_now = asyncio.Event()
        self._one_look = asyncio.Lock()  # so that what an earlier one saw is not taken for news
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, so that models are listed when this returns if the server is there; then keep looking."""
        name = self._address.url if self._address else self.id
        kind = self._kind
        node = Node(self.id, name, kind, self._address, dialects=DIALECTS[kind], slots=self._slots)
        self._registry.add(node, time.monotonic())
        if self._address is not None:
            await self._look()
            self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Stop looking; the server is not ours to end."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    def moved(self, address: Address | None) -> None:
        """The server is at this address now, or nowhere for the moment: looks begin anew.

        Without an address it is under suspicion until the next look is due, and offline if it has none by then.
        """
        self._address = address
        self._registry.relocate(self.id, address)
        if self._looking is not None:
            self._looking.cancel()
        if address is not None:
            self._look_now.set()
        elif self._registry.nodes[self.id].state is State.ONLINE:
            self._tell(self._on_failure(NOT_RUNNING))
            self._changed()
        self._looking = asyncio.create_task(self._keep_looking())

    def facts(self) -> RuntimeFacts:
        """`version` as of the last look."""
        return RuntimeFacts(self._kind, self._last.version, self._slots)

    def loaded(self) -> list[str]:
        """What the server held in memory at the last look, where it tells."""
        return list(self._last.loaded)

    async def wake(self, upstream_id: str) -> Address | None:
        """An attached server always has an address."""
        return self._address if upstream_id == self.id else None

    async def check(self, upstream_id: str) -> None:
        """Look now instead of in a few seconds."""
        if upstream_id == self.id:
            self._look_now.set()

    async def rescan(self) -> None:
        """Look once, now."""
        await self._look_once(LOOK_WITHIN)

    async def _keep_looking(self) -> None:
        while True:
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._look_now.wait()
            self._look_now.clear()
            await self._look()

    async def _look(self) -> None:
        await self._look_once(LOOK_WITHIN)
        if self._registry.nodes[self.id].state is State.SUSPECT:
            await self._look_once(SURE_WITHIN)

    async def _look_once(self, seconds: float) -> None:
        async with self._one_look:
            await self._look_alone(seconds)

    async def _look_alone(self, seconds: float) -> None:
        before = set(self._last.loaded)
        try:
            listing = await self._list(seconds)
        except UpstreamFailed as error:
            changes = self._on_failure(error.message)
        else:
            changes = self._on_listing(listing)
        if changes or set(self._last.loaded) != before:
            self._changed()
        self._tell(changes)

    async def _list(self, seconds: float) -> Listing:
        if self._address is None:
            raise UpstreamFailed(NOT_RUNNING)
        return await pull_models(self._session, self._kind, self._address, seconds)

    def _on_listing(self, listing: Listing) -> list[Change]:
        self._last = listing
        now = time.monotonic()
        answered = self._registry.signal(self.id, Signal.PROBE_OK, now)
        return [*answered, *self._registry.list_models(self.id, listing.models, now, listing.entries)]

    def _on_failure(self, reason: str) -> list[Change]:
        """A first look that fails is a list that could not be pulled; a later one, a probe that failed."""
        self._last = Listing((), version=self._last.version)
        registering = self._registry.nodes[self.id].state is State.REGISTERING
        signal = Signal.PULL_FAILED if registering else Signal.PROBE_FAILED
        return self._registry.signal(self.id, signal, time.monotonic(), reason)

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            write = self._log.warning if change.event in ("node.offline", "node.suspect") else self._log.info
            write(change.event.replace("node.", "runtime."), detail=change.detail)
