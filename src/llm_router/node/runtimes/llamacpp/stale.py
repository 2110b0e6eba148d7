"""A shared model whose files have changed: when it can be made of the new ones (requirement H2).

Each request for a shared model has its files looked at. Where they are others than before, it waits, with all who come
after it, for those requests that still use what they were; then the model is made anew, once.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from llm_router.core.node import Node
from llm_router.node.models.store import StoredModel
from llm_router.node.runtimes.llamacpp.loader import heard

LOOK_EVERY = 1.0  # seconds between looks whether its old users are done; the end of a request is heard of at once


class Stale:
    """Who waits for what."""

    def __init__(self, renew: Callable[[], Awaitable[None]]) -> None:
        """`renew` looks at the files anew, and has what is unused made of them."""
        self._renew = renew
        self._waiting: Counter[str] = Counter()  # requests, by upstream
        self._renewals: dict[str, asyncio.Task[None]] = {}  # by upstream
        self._ended = asyncio.Event()

    def is_unused(self, upstream: Node) -> bool:
        """Nobody uses it but those who wait for it to be made anew."""
        return upstream.in_flight <= self._waiting[upstream.id]

    def served(self) -> None:
        """A request has ended."""
        self._ended.set()

    async def see_to(self, stored: StoredModel, upstream: Node) -> None:
        """Return when the model is made of its files as they are now; it, or the upstream, may be gone then."""
        if await asyncio.to_thread(stored.is_unchanged):
            return
        self._waiting[upstream.id] += 1
        self._ended.set()
        try:
            await asyncio.wait({self._renewals.get(upstream.id) or self._begin(upstream)})
        finally:
            self._waiting[upstream.id] -= 1

    def stop(self) -> None:
        """Nobody is waited for any more."""
        for task in self._renewals.values():
            task.cancel()

    def _begin(self, upstream: Node) -> asyncio.Task[None]:
        task = self._renewals[upstream.id] = asyncio.create_task(self._when_unused(upstream))
        task.add_done_callback(lambda _: self._renewals.pop(upstream.id))
        return task

    async def _when_unused(self, upstream: Node) -> None:
        while not self.is_unused(upstream):
            await heard(self._ended, LOOK_EVERY)
        await self._renew()
