"""Tells everybody of what happened to nodes: the log, the ledger, those who watch live, and those who wait for one.

Among replicas, what happened is put on record once, and shown by all: by the one that it happened to (a call, a request
that failed); what all of them notice by themselves (silence, a look that failed) by the one that keeps the node.
"""

from collections.abc import Callable

import structlog

from llm_router.core.registry import Change
from llm_router.router.ledger import Ledger
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import Happened
from llm_router.router.store.queries import Event

log = structlog.get_logger()

# What an operator should see among the rest.
TROUBLE = frozenset(
    {"node.suspect", "node.offline", "node.refused", "node.pending", "node.model_excluded", "access.refused"}
)


class Publisher:
    """Called with changes."""

    def __init__(self, ledger: Ledger, replicas: Replicas) -> None:
        self._ledger = ledger
        self._replicas = replicas
        self._shows: list[Callable[[Event], None]] = []
        self._touches: list[Callable[[str], None]] = []
        self._then: Callable[[], None] | None = None
        ledger.tell = self.shown

    def show(self, to: Callable[[Event], None], touch: Callable[[str], None]) -> None:
        """`to` is called with each event; `touch` with the id of a node to which something happened without one."""
        self._shows.append(to)
        self._touches.append(touch)

    def also(self, then: Callable[[], None]) -> None:
        """`then` is called after changes."""
        self._then = then

    def tell(self, event: str, name: str, detail: str) -> None:
        """Of something that happened to none of the nodes: a key was made, somebody was refused."""
        self([Change(event, "", name, detail)])

    def __call__(self, changes: list[Change]) -> None:
        """Tell of these, which happened here."""
        for change in changes:
            write = log.warning if change.event in TROUBLE else log.info
            write(change.event, node=change.name, node_id=change.node_id, detail=change.detail)
            event = self._ledger.change(change)
            self._replicas.send(Happened(event))
            self.shown(event)
        self._go_on(changes)

    def noticed(self, changes: list[Change]) -> None:
        """Tell of these, which every replica notices by itself."""
        kept: list[Change] = []
        others: list[Change] = []
        for change in changes:
            (kept if self._replicas.keeps(change.node_id) else others).append(change)
        self(kept)
        self.heard(others)

    def heard(self, changes: list[Change]) -> None:
        """Tell of these within this process: another one has put them on record, and shows what it was."""
        for change in changes:
            log.debug(change.event, node=change.name, node_id=change.node_id, detail=change.detail)
            for touch in self._touches:
                touch(change.node_id)
        self._go_on(changes)

    def _go_on(self, changes: list[Change]) -> None:
        if changes and self._then is not None:
            self._then()

    def shown(self, event: Event) -> None:
        """Show this to those who watch; it is on record, or will be."""
        for show in self._shows:
            show(event)
