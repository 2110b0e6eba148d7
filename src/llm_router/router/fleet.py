"""Everything that happens to the router's nodes, with all that follows from it.

Rule 1: API, gateway and start of the router come here; only this file, the prober and, for what other replicas tell,
        `following.nodes` tell the registry anything.
Rule 2: who says that it is a node proves it first.
Rule 3: every change is published: to the log, the ledger, those who watch, and the other replicas.
"""

import re
import time
from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec
import structlog

from llm_router.contract import (
    Address,
    Attach,
    Heartbeat,
    NodeKind,
    NodeSettings,
    NodeView,
    Registered,
    Registration,
    RuntimeFacts,
    parse_address,
)
from llm_router.core.health import Signal, State
from llm_router.core.node import DIALECTS, Lease, Node
from llm_router.core.registry import Change, Registry
from llm_router.errors import BadRequest, NodeNotFound, NotExcluded, RegistrationRefused, RouterError, UpstreamFailed
from llm_router.gateway.probe import Listing
from llm_router.router.addresses import is_here, node_address
from llm_router.router.clock import epoch
from llm_router.router.credentials import Credential, Credentials
from llm_router.router.joining import PENDING_LIMIT, Door
from llm_router.router.ledger import Ledger
from llm_router.router.prober import Prober
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import Approved, Excluded, Left, Lifted, Reported, Suspected
from llm_router.router.rows import restored
from llm_router.router.settings import SettingsChange, changed, check
from llm_router.router.store.queries import StoredNode

log = structlog.get_logger()

_NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  # it stands in paths and on command lines
# RFC 6750, section 2.1, and no longer than a header should be: the router sends it with each request.
_ACCESS = re.compile(r"(?:[A-Za-z0-9._~+/-]{1,256}=*)?")


class Fleet:
    """The router's nodes, as the rest of the router deals with them."""

    def __init__(
        self,
        registry: Registry,
        credentials: Credentials,
        prober: Prober,
        publish: Callable[[list[Change]], None],
        *,
        ledger: Ledger,
        door: Door,
        replicas: Replicas,
    ) -> None:
        """`publish`: tell everybody of changes. The ledger is told of what is no change to tell of."""
        self._door = door
        self.registry = registry
        self._credentials = credentials
        self._prober = prober
        self._publish = publish
        self._ledger = ledger
        self._replicas = replicas

    # -- agents

    async def register(
        self, message: Registration, seen: str, secret: str, *, forwarded: bool = False
    ) -> tuple[Registered, bool]:
        """An agent at address `seen` introduces itself and shows `secret` if it has one. The bool: it is new here.

        `forwarded`: a proxy passed it on. Who may not come in waits for approval: its state is pending.

        Raises:
            BadRequest: its id, address or access token cannot be used.
            WrongSecret: it is known and did not prove that it is who it says.
            RegistrationRefused: its models cannot be fetched, or it has none (requirement A4).
        """
        address = _usable(message, seen)
        message = _within_limits(message)
        node_id, now = message.node_id, time.monotonic()
        invited = self._door.lets_in(message.join, seen, forwarded=forwarded)
        new = node_id not in self.registry.nodes
        secret = self._welcome(node_id, secret, invited=invited)
        local = is_here(seen)
        changes = self.registry.register(node_id, message, address, local=local, now=now, pending=not invited)
        node = self.node(node_id)
        node.registered = later(node.registered)
        self._replicas.reports_here(node_id)
        self._publish(changes)
        if invited:
            self._publish(self.registry.signal(node_id, Signal.APPROVED, now, "it may join"))
        if self.node(node_id).state is not State.PENDING:
            await self._take_models(message, address, secret, new=new)
        return Registered(node_id, self.node(node_id).state.value, secret), new

    def _welcome(self, node_id: str, secret: str, *, invited: bool) -> str:
        """The secret that this agent shall use; see the table in `joining`. Raises WrongSecret."""
        known = self.registry.nodes.get(node_id)
        if known is not None:
            return self._credentials.readmit(node_id, secret, invited=invited or known.state is State.PENDING)
        if not invited:
            waiting = self.registry.pending()
            for node in waiting[: max(0, len(waiting) + 1 - PENDING_LIMIT)]:
                self.remove(node.id)
        return self._credentials.issue(node_id)

    async def _take_models(self, message: Registration, address: Address, secret: str, *, new: bool) -> None:
        try:
            listing = await self._pull_some(address, message.access)
        except RegistrationRefused as refusal:
            self._refuse(message, secret, refusal, new=new)
            raise
        self._publish(self.registry.list_models(message.node_id, listing.models, time.monotonic(), listing.entries))

    async def _pull_some(self, address: Address, access: str) -> Listing:
        try:
            listing = await self._prober.pull("agent", address, access)
        except UpstreamFailed as error:
            raise RegistrationRefused(
                f"the list of models cannot be fetched: {error.message} (if it is elsewhere, --advertise says where)",
                "model_list_unavailable",
            ) from error
        if not listing.models:
            raise RegistrationRefused(f"{address.url}/v1/models lists no model", "no_executable_models")
        return listing

    def _refuse(self, message: Registration, secret: str, refusal: RouterError, *, new: bool) -> None:
        node_id = message.node_id
        self._publish([Change("node.refused", node_id, message.machine_name, refusal.message)])
        if not new:
            self._publish(self.registry.signal(node_id, Signal.PULL_FAILED, time.monotonic(), refusal.message))
        elif self._credentials.matches(node_id, secret):  # else it has registered once more since, and that one counts
            self.remove(node_id)

    def heartbeat(self, node_id: str, report: Heartbeat, secret: str) -> Node:
        """An agent reported; its models are pulled again if they changed or it was away.

        Raises:
            NodeNotFound: it has to register first.
            WrongSecret: as the name says.
        """
        node = self._proven(node_id, secret)
        moved = report.models_version != node.models_version
        self._replicas.reports_here(node_id)
        self._replicas.send(Reported(node_id, report))
        self._publish(self.registry.heartbeat(node_id, report, time.monotonic()))
        self._ledger.seen(node_id)
        if moved or node.state is State.REGISTERING:
            self._prober.look(node_id)  # which leaves those alone who wait for approval
        return node

    def goodbye(self, node_id: str, secret: str) -> None:
        """An agent is about to stop. Raises as `heartbeat` does."""
        self._proven(node_id, secret)
        self._replicas.send(Left(node_id))
        self._publish(self.registry.signal(node_id, Signal.GOODBYE, time.monotonic()))

    def _proven(self, node_id: str, secret: str) -> Node:
        node = self.node(node_id)
        if self._credentials.prove(node_id, secret):
            self._ledger.touch(node_id)
        return node

    # -- operators

    def approve(self, node_id: str, by: str = "") -> Node:
        """A node that waits may join: its models are pulled now. Any other stays as it is. `by`: who says so.

        Raises:
            NodeNotFound: there is none with this id.
        """
        node = self.node(node_id)
        changes = self.registry.signal(node_id, Signal.APPROVED, time.monotonic(), by)
        self._publish(changes)
        if changes:
            self._replicas.send(Approved(node_id))
            self._prober.look(node_id)
        return node

    async def attach(self, message: Attach, by: str = "") -> tuple[Node, bool]:
        """Take in a server without an agent. The bool: it was not known yet. `by`: as of `approve`.

        Raises:
            BadRequest: the URL is none, or there are no slots.
            RegistrationRefused: server_unreachable, or it does not answer as its kind does.
        """
        address = parse_address(message.url)
        if message.slots < 1:
            raise BadRequest(f"slots: {message.slots} requests at once are none; it is 1 or more")
        node_id = f"attached-{sha256(address.url.encode()).hexdigest()[:12]}"  # so one URL is one node
        if node_id not in self.registry.nodes:
            listing = await self._reach(message.kind, address)
            if node_id not in self.registry.nodes:  # nobody attached it meanwhile
                return self._take_in(node_id, message, address, listing, by), True
        return self.registry.nodes[node_id], False

    async def _reach(self, kind: NodeKind, address: Address) -> Listing:
        try:
            return await self._prober.pull(kind, address)
        except UpstreamFailed as error:
            raise RegistrationRefused(error.message, "server_unreachable") from error

    def _take_in(self, node_id: str, message: Attach, address: Address, listing: Listing, by: str) -> Node:
        now = time.monotonic()
        node = Node(
            node_id,
            message.name or f"{address.host}:{address.port}",
            message.kind,
            address,
            dialects=DIALECTS[message.kind],
            runtimes=[RuntimeFacts(message.kind, listing.version, message.slots)],
            local=is_here(address.host),
        )
        added = signed(self.registry.add(node, now), by)
        self._publish([*added, *self.registry.list_models(node_id, listing.models, now, listing.entries)])
        self.registry.heartbeat(node_id, Heartbeat(loaded=list(listing.loaded)), now)
        self._prober.watch(node_id)
        return node

    def remove(self, node_id: str, by: str = "") -> None:
        """Forget a node, its secret too. An agent that still runs registers again by itself. `by`: as of `approve`.

        Raises:
            NodeNotFound: there is none with this id.
        """
        self.node(node_id)
        self._prober.forget(node_id)
        self._credentials.forget(node_id)
        self._publish(signed(self.registry.remove(node_id), by))

    def change(self, node_id: str, change: SettingsChange, by: str = "") -> Node:
        """Set what operators set of a node. An agent hears of it with its next heartbeat. `by`: as of `approve`.

        Raises:
            NodeNotFound: there is none with this id.
            BadRequest: a value is over a limit.
        """
        node = self.node(node_id)
        changes = self.registry.configure(node_id, changed(node.settings, change, later(node.settings.changed)))
        self._publish(signed(changes, by))
        return node

    def lift(self, node_id: str, model: str, by: str = "by an operator") -> None:
        """The model may be asked of this node again. `by`: as of `approve`.

        Raises:
            NodeNotFound: there is no such node.
            NotExcluded: the model is not excluded there.
        """
        node = self.node(node_id)
        changes = self.registry.lift(node_id, model, f"lifted {by}")
        if not changes:
            raise NotExcluded(f"model '{model}' is not excluded on node '{node.name}'")
        self._lifted(node, model, f"lifted {by}", changes)

    # -- the router

    def request_failed(self, lease: Lease, reason: str, unreachable: bool) -> None:  # noqa: FBT001 - DataPlane's call
        """A request failed for a reason of the node's: its model is excluded there (requirement C6).

        A node that may not be there at all is under suspicion besides, and is looked at.
        """
        node, now = lease.node, time.monotonic()
        changes = self.registry.exclude(node.id, lease.model, reason, now, trial=lease.trial)
        suspicion = self.registry.signal(node.id, Signal.REQUEST_FAILED, now, reason) if unreachable else []
        if changes:
            self._replicas.send(Excluded(node.id, lease.model, reason, lease.trial))
        self._publish([*changes, *suspicion])
        if suspicion:
            self._replicas.send(Suspected(node.id, reason))
            self._prober.look(node.id)

    def trial_went_well(self, lease: Lease) -> None:
        """An excluded model was tried again, and answered (requirement C7)."""
        why = "a trial went well"
        self._lifted(lease.node, lease.model, why, self.registry.lift(lease.node.id, lease.model, why))

    def _lifted(self, node: Node, model: str, why: str, changes: list[Change]) -> None:
        if changes:
            self._replicas.send(Lifted(node.id, model, why))
        self._publish(changes)

    def restore(self, stored: Iterable[StoredNode]) -> None:
        """Take over the nodes of an earlier run: offline until the prober has seen them."""
        for row in stored:
            try:
                self.registry.add(restored(row), time.monotonic())
            except BadRequest as error:  # written by hand, or by a newer version
                log.warning("node.not_restored", node=row.id, error=error.message)
                continue
            self._credentials.restore(row.id, Credential(row.secret_hash, row.secret_proven))

    def node(self, node_id: str) -> Node:
        """The node with this id.

        Raises:
            NodeNotFound: there is none.
        """
        try:
            return self.registry.nodes[node_id]
        except KeyError:
            raise NodeNotFound(f"no node has the id {node_id}") from None


def later(moment: float) -> float:
    """Now, in seconds since the epoch; or past a moment that another replica's clock has put after that."""
    return max(time.time(), moment + 0.001)


def signed(changes: Iterable[Change], by: str) -> list[Change]:
    """The same, and who wanted them ("by key 'ci'") at the end of what they say."""
    return [msgspec.structs.replace(change, detail=", ".join(filter(None, (change.detail, by)))) for change in changes]


def view(node: Node) -> NodeView:
    """What the API shows of a node: times in seconds since the epoch."""
    shown = node.view()
    exclusions = [msgspec.structs.replace(e, since=epoch(e.since), until=epoch(e.until)) for e in shown.exclusions]
    since = shown.since and epoch(shown.since)
    return msgspec.structs.replace(shown, last_seen=epoch(node.last_seen), since=since, exclusions=exclusions)


def _usable(message: Registration, seen: str) -> Address:
    if not _NODE_ID.fullmatch(message.node_id):
        raise BadRequest("node_id: 1 to 128 letters, digits, dots, dashes and underscores are wanted")
    if not 0 < message.port < 65536:
        raise BadRequest(f"port: a node listens on one from 1 to 65535, not on {message.port}")
    if not _ACCESS.fullmatch(message.access):
        raise BadRequest("access: at most 256 characters of those that a bearer token may have are wanted")
    return node_address(message, seen)


def _within_limits(message: Registration) -> Registration:
    """With a copy of the settings that could have been set here, or none: a node is not turned away for that."""
    try:
        check(message.settings)
    except BadRequest as error:
        log.warning("node.settings_ignored", node_id=message.node_id, reason=error.message)
        return msgspec.structs.replace(message, settings=NodeSettings())
    return message
