"""Tells everybody of what happened to nodes: the log, the ledger, those who watch live, and those who wait for one."""

from collections.abc import Callable

import structlog

from llm_router.core.registry import Change
from llm_router.router.ledger import Ledger
from llm_router.router.store.queries import Event

log = structlog.get_logger()

# What an operator should see among the rest.
TROUBLE = frozenset(
    {"node.suspect", "node.offline", "node.refused", "node.pending", "node.model_excluded", "access.refused"}
)


class Publisher:
    """Called with changes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shows: list[Callable[[Event], None]] = []
        self._then: Callable[[], None] | None = None
        ledger.tell = self._show

    def show(self, to: Callable[[Event], None]) -> None:
        """`to` is called with each change, as the event that is kept of it."""
        self._shows.append(to)

    def also(self, then: Callable[[], None]) -> None:
        """`then` is called after changes."""
        self._then = then

    def tell(self, event: str, name: str, detail: str) -> None:
        """Of something that happened to none of the nodes: a key was made, somebody was refused."""
        self([Change(event, "", name, detail)])

    def __call__(self, changes: list[Change]) -> None:
        """Tell of these."""
        for change in changes:
            write = log.warning if change.event in TROUBLE else log.info
            write(change.event, node=change.name, node_id=change.node_id, detail=change.detail)
            event = self._ledger.change(change)
            self._show(event)
        if changes and self._then is not None:
            self._then()

    def _show(self, event: Event) -> None:
        for show in self._shows:
            show(event)
