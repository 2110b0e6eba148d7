"""Tells everybody of what happened to nodes: the log, the ledger, and those who wait for one."""

from collections.abc import Callable

import structlog

from llm_router.core.registry import Change
from llm_router.router.ledger import Ledger

log = structlog.get_logger()

# What an operator should see among the rest.
TROUBLE = frozenset({"node.suspect", "node.offline", "node.refused", "node.model_excluded"})


class Publisher:
    """Called with changes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._then: Callable[[], None] | None = None

    def also(self, then: Callable[[], None]) -> None:
        """`then` is called after changes."""
        self._then = then

    def __call__(self, changes: list[Change]) -> None:
        """Tell of these."""
        for change in changes:
            write = log.warning if change.event in TROUBLE else log.info
            write(change.event, node=change.name, node_id=change.node_id, detail=change.detail)
            self._ledger.change(change)
        if changes and self._then is not None:
            self._then()
