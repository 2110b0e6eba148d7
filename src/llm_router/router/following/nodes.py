"""Nodes, as other replicas tell of them: applied to this one's registry.

Rule 1: nothing here is told on or put on record: who told it has done so.
Rule 2: whether a node can be reached is for each replica to see: a suspicion is shared, what follows from it is not.
"""

import time
from collections.abc import Collection

import structlog

from llm_router.contract import parse_address
from llm_router.core.health import Signal, State
from llm_router.core.registry import Introduction, Registry
from llm_router.errors import BadRequest, UpstreamFailed
from llm_router.gateway.probe import Listing
from llm_router.router.addresses import is_here
from llm_router.router.credentials import Credential, Credentials
from llm_router.router.ledger import Ledger
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.replicas.messages import Approved, Excluded, Fetching, Left, Lifted, Looked, Reported, Suspected
from llm_router.router.rows import restored
from llm_router.router.store.queries import StoredNode

log = structlog.get_logger()

ELSEWHERE = "at another replica"


class NodesElsewhere:
    """Told of what happened to nodes elsewhere."""

    def __init__(
        self,
        registry: Registry,
        credentials: Credentials,
        prober: Prober,
        publisher: Publisher,
        ledger: Ledger,
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._prober = prober
        self._tell = publisher.heard
        self._ledger = ledger

    # -- rows

    def rows(self, rows: list[StoredNode], ids: Collection[str]) -> None:
        """These are the rows of the nodes `ids`; who has none is gone."""
        known = {row.id for row in rows}
        for row in rows:
            if not self._ledger.unwritten(row.id):
                self._take_over(row)
        for node_id in ids:
            if node_id not in known and node_id in self._registry.nodes and not self._ledger.unwritten(node_id):
                self._forget(node_id)

    def _take_over(self, row: StoredNode) -> None:
        node = self._registry.nodes.get(row.id)
        if node is None:
            self._take_in(row)
            return
        if row.settings.changed > node.settings.changed:
            self._tell(self._registry.configure(row.id, row.settings))
        if row.registered < node.registered:  # written by one that had not heard of that yet
            self._ledger.touch(row.id)
            return
        self._credentials.restore(row.id, Credential(row.secret_hash, row.secret_proven))
        if row.registered > node.registered:
            self._come_again(row)
        if node.state is State.PENDING and row.state is not State.PENDING:
            self._approve(row.id)

    def _take_in(self, row: StoredNode) -> None:
        try:
            node = restored(row)
        except BadRequest as error:  # written by hand, or by a newer version
            log.warning("node.not_restored", node=row.id, error=error.message)
            return
        node.local = node.address is not None and is_here(node.address.host)
        self._credentials.restore(row.id, Credential(row.secret_hash, row.secret_proven))
        self._tell(self._registry.add(node, time.monotonic()))
        self._prober.take_up(node, ELSEWHERE)

    def _come_again(self, row: StoredNode) -> None:
        try:
            address = parse_address(row.url)
        except BadRequest:  # as of `_take_in`
            return
        facts = Introduction(
            own_name=row.name,
            address=address,
            local=is_here(address.host),
            runtimes=tuple(row.runtimes),
            os=row.os,
            version=row.version,
            backend=row.backend,
            models_version=row.models_version,
            access=row.access,
            settings=row.settings,
            slots=row.slots,
        )
        self._registry.nodes[row.id].registered = row.registered
        self._tell(self._registry.reintroduce(row.id, facts, time.monotonic()))
        self._prober.look(row.id)

    def _forget(self, node_id: str) -> None:
        self._prober.forget(node_id)
        self._credentials.forget(node_id)
        self._tell(self._registry.remove(node_id))

    def _approve(self, node_id: str) -> None:
        changes = self._registry.signal(node_id, Signal.APPROVED, time.monotonic(), ELSEWHERE)
        self._tell(changes)
        if changes:
            self._prober.look(node_id)

    # -- messages

    def reported(self, message: Reported) -> None:
        """A heartbeat."""
        node = self._registry.nodes.get(message.node)
        if node is not None:
            moved = message.report.models_version != node.models_version
            self._tell(self._registry.heartbeat(node.id, message.report, time.monotonic()))
            if moved or node.state is State.REGISTERING:
                self._prober.look(node.id)

    def left(self, message: Left) -> None:
        """A goodbye."""
        self._tell(self._registry.signal(message.node, Signal.GOODBYE, time.monotonic()))

    def approved(self, message: Approved) -> None:
        """An operator's word."""
        self._approve(message.node)

    def suspected(self, message: Suspected) -> None:
        """A failed request."""
        changes = self._registry.signal(message.node, Signal.REQUEST_FAILED, time.monotonic(), message.reason)
        self._tell(changes)
        if changes:
            self._prober.look(message.node)

    def excluded(self, message: Excluded) -> None:
        """A model that failed."""
        now = time.monotonic()
        self._tell(self._registry.exclude(message.node, message.model, message.reason, now, trial=message.trial))

    def lifted(self, message: Lifted) -> None:
        """A model that is good again."""
        self._tell(self._registry.lift(message.node, message.model, message.reason))

    def fetching(self, message: Fetching) -> None:
        """A model on its way."""
        node = self._registry.nodes.get(message.node)
        if node is not None:
            self._registry.fetch(node, message.model)

    def looked(self, message: Looked) -> None:
        """What was seen of an attached server."""
        node = self._registry.nodes.get(message.node)
        if node is not None:
            self._tell(self._prober.conclude(node, _seen(message)))


def _seen(message: Looked) -> Listing | UpstreamFailed:
    if message.error:
        return UpstreamFailed(message.error)
    return Listing(tuple(message.entries), tuple(message.loaded))
