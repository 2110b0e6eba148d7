"""Tells the other replicas, four times a second, what this one has on which nodes; and does what time brings."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

import structlog

from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.router.models.offers import Offers
from llm_router.router.replicas.among import Among
from llm_router.router.replicas.messages import Counted, Fetching, Placed

log = structlog.get_logger()

EVERY = 0.25  # seconds between two messages: by so much nodes can be asked for more than they have slots (design.md §1)
WHOLE_EVERY = 20  # messages, of which one tells of all nodes: what is lost is wrong for five seconds at most


class Counting:
    """`start` before use, `stop` after."""

    def __init__(
        self,
        registry: Registry,
        elsewhere: Elsewhere,
        among: Among,
        offers: Offers,
        roomier: Callable[[], None],
    ) -> None:
        """`roomier`: called when there is room for those who wait."""
        self._registry = registry
        self._elsewhere = elsewhere
        self._among = among
        self._offers = offers
        self._roomier = roomier
        self._fetching: set[tuple[str, str]] = set()
        self._placed: dict[str, list[str]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tell from now on."""
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Tell no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def heard(self, sender: str, counts: Counts) -> None:
        """Another one's counts."""
        if self._elsewhere.heard(sender, counts, time.monotonic()):
            self._roomier()

    def left(self, sender: str) -> None:
        """Another one has stopped."""
        if self._elsewhere.gone(sender, time.monotonic()):
            self._roomier()

    def tell_all(self) -> None:
        """Tell everything, to one who knows nothing."""
        self._send(self._elsewhere.own(whole=True))
        self._fetching.clear()
        self._placed = {}

    # -- time

    async def _go_on(self) -> None:
        number = 0
        while True:
            try:
                self._once(whole=number % WHOLE_EVERY == 0)
            except Exception:
                log.exception("replicas.not_counted")  # who does not count is not counted: better late than silent
            number += 1
            await asyncio.sleep(EVERY)  # noqa: TID251 - the pause between two messages

    def _once(self, *, whole: bool) -> None:
        if self._elsewhere.tick(time.monotonic()):
            self._roomier()
        self._send(self._elsewhere.own(whole=whole))
        if whole:
            self._among.keep_only(self._registry.nodes)
        self._tell_of_fetches()
        if self._among.on_duty:
            self._tell_of_placement()

    def _send(self, counts: Iterable[Counts]) -> None:
        for some in counts:
            self._among.send(Counted(some))

    def _tell_of_fetches(self) -> None:
        """Of nodes that have been asked here to fetch a model, so that nobody asks another one for it."""
        fetching = {(node.id, model) for node in self._registry for model in node.fetching if _is_asked(node, model)}
        for node_id, model in sorted(fetching - self._fetching):
            self._among.send(Fetching(node_id, model))
        self._fetching = fetching

    def _tell_of_placement(self) -> None:
        placed = self._offers.decided()
        if placed != self._placed:
            self._placed = placed
            self._among.send(Placed(placed))


def _is_asked(node: Node, model: str) -> bool:
    return any(lease.model == model for lease in node.leases)
