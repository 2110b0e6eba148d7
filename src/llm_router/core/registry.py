"""The nodes, and which of them can run what.

Rule 1: all state about nodes lives here, and only the methods below change it; leases are the scheduler's.
Rule 2: `online`, `offered`, `suspects`, `excluded` and `warm` are indexes by model, kept up to date by every change; a
        request looks up, never scans. A node that lists a model, is online or suspect and not drained is in one of the
        first four; in `offered` while it would have to fetch the model first and nobody has asked it to.
Rule 3: what a change means to others (log, database, dashboard) is said by the `Change`s that a method returns.

On a router a node is an agent or an attached server; on an agent it is a runtime (one llama.cpp process, one Ollama).
The gateway of both asks the same registry.
"""

from collections.abc import Iterable, Iterator

import msgspec

from llm_router.contract import (
    Address,
    Backend,
    Gpu,
    Heartbeat,
    ModelEntry,
    NodeSettings,
    Registration,
    RuntimeFacts,
)
from llm_router.core.exclusions import Exclusion
from llm_router.core.health import Signal, State, after
from llm_router.core.node import DEFAULT_SLOTS, EVERY_DIALECT, Node

IN_ROTATION = frozenset({State.ONLINE, State.SUSPECT})


class Change(msgspec.Struct, frozen=True):
    """Something happened to a node: `event` is past tense and dotted, `detail` says why or what."""

    event: str
    node_id: str
    name: str
    detail: str = ""


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is known by once it has registered, with whichever replica. `access`: see `Node.token`.

    `slots`: 0 where only its runtimes tell.
    """

    own_name: str
    address: Address
    local: bool
    runtimes: tuple[RuntimeFacts, ...]
    os: str
    version: str
    backend: Backend
    models_version: int
    access: str
    settings: NodeSettings
    gpus: list[Gpu] = []
    slots: int = 0


class Registry:
    """All nodes, and the index of models over them."""

    def __init__(self, *, silence: float = 20.0, trial_after: float = 30.0) -> None:
        """Seconds, both.

        Args:
            silence: without a heartbeat, after which an agent is offline (requirement A5).
            trial_after: from an exclusion to its first trial (requirement C7).
        """
        self.nodes: dict[str, Node] = {}
        self.online: dict[str, list[Node]] = {}
        self.offered: dict[str, list[Node]] = {}
        self.suspects: dict[str, list[Node]] = {}
        self.excluded: dict[str, list[Node]] = {}
        self.warm: dict[str, list[Node]] = {}
        self._known: dict[str, int] = {}  # model -> how many nodes list it, in whatever state
        self._silence = silence
        self._trial_after = trial_after

    # -- what is there

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __contains__(self, model: object) -> bool:
        """Whether any node lists this model, online or not."""
        return model in self._known

    def available(self) -> dict[str, list[Node]]:
        """Every model that can be asked for now, with the nodes that have it, sorted by name (requirement C8)."""
        indexes = (self.online, self.offered, self.suspects)
        names = sorted({name for index in indexes for name in index})
        return {name: [node for index in indexes for node in index.get(name, ())] for name in names}

    def fetcher(self, model: str) -> Node | None:
        """The node that everybody waits for who wants this model, since it fetches it; None: nobody does."""
        nodes = self.online.get(model, ())
        return nodes[0] if nodes and all(model in node.fetching for node in nodes) else None

    # -- what happens

    def add(self, node: Node, now: float) -> list[Change]:
        """Take in a node that is not known yet: from the database, an attached server, an agent's own runtime."""
        if node.id in self.nodes:
            raise ValueError(f"node {node.id} is known already")
        node.last_seen = now
        self.nodes[node.id] = node
        self._list(node)
        return [Change("node.added", node.id, node.name, node.address.url if node.address else "")]

    def relocate(self, node_id: str, address: Address | None) -> None:
        """The node now answers at `address`; None: it has to be woken first."""
        self.nodes[node_id].address = address

    def register(
        self, node_id: str, message: Registration, address: Address, *, local: bool, now: float, pending: bool = False
    ) -> list[Change]:
        """An agent introduced itself: known again under its id, or new. Its models are to be pulled next.

        `pending`: it waits for approval if it is new, and its models are nobody's business until then.
        Of its copy of the settings and ours, the one changed last counts.
        """
        node = self.nodes.get(node_id)
        if node is None:
            state = State.PENDING if pending else State.REGISTERING
            node = Node(node_id, message.machine_name, "agent", address, dialects=EVERY_DIALECT, state=state)
            self.nodes[node_id] = node
        return self._introduced(node, _introduction(message, address, local=local), now)

    def reintroduce(self, node_id: str, facts: Introduction, now: float) -> list[Change]:
        """A known agent introduced itself to another replica. No changes: it is not known here."""
        node = self.nodes.get(node_id)
        return self._introduced(node, facts, now) if node is not None else []

    def _introduced(self, node: Node, facts: Introduction, now: float) -> list[Change]:
        node.address = facts.address
        node.own_name = facts.own_name
        node.configure(node.settings)
        node.runtimes = facts.runtimes
        node.resize(facts.slots or sum(r.slots for r in facts.runtimes) or DEFAULT_SLOTS)
        node.os = facts.os
        node.version = facts.version
        node.backend = facts.backend
        node.local = facts.local
        node.models_version = facts.models_version
        node.report = Heartbeat(gpus=facts.gpus)
        node.let_in_by(facts.access)
        node.last_seen = now
        settings = max(node.settings, facts.settings, key=lambda s: s.changed)
        changes = self.configure(node.id, settings)
        event = "node.pending" if node.state is State.PENDING else "node.registered"
        return [
            Change(event, node.id, node.name, facts.address.url),
            *changes,
            *self.signal(node.id, Signal.REGISTERED, now),
        ]

    def configure(self, node_id: str, settings: NodeSettings) -> list[Change]:
        """These are the node's settings now. A drained one is asked for nothing; what it is answering goes on."""
        node = self.nodes.get(node_id)
        if node is None or settings == node.settings:
            return []
        what = _difference(node.settings, settings)
        self._unlist(node)
        node.configure(settings)
        self._list(node)
        return [Change("node.changed", node.id, node.name, what)]

    def remove(self, node_id: str) -> list[Change]:
        """Forget a node. A request that it is answering goes on."""
        node = self.nodes.pop(node_id, None)
        if node is None:
            return []
        self._unlist(node)
        self._cool(node, list(node.warm))
        return [Change("node.removed", node.id, node.name)]

    def list_models(
        self, node_id: str, models: Iterable[str], now: float, entries: Iterable[ModelEntry] = ()
    ) -> list[Change]:
        """The node's list was pulled: it is online with exactly these models. `entries`: what it told of them."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        new = tuple(dict.fromkeys(models))
        told = {entry.id: entry for entry in entries}
        changes = []
        if new != node.models or told != node.entries:
            self._unlist(node)
            if new != node.models:
                changes.append(Change("node.models_changed", node.id, node.name, f"{len(new)} models"))
            node.models, node.entries = new, told
            node.absent = frozenset(entry.id for entry in told.values() if entry.stored is False)
            node.fetching &= node.absent
            node.excluded = {model: e for model, e in node.excluded.items() if model in new}
            self._list(node)
        return [*changes, *self.signal(node_id, Signal.MODELS_PULLED, now)]

    def fetch(self, node: Node, model: str) -> None:
        """The node is about to fetch a model, or does: who wants it waits for this node instead of asking another."""
        if model in node.absent and model not in node.fetching:
            self._leave(node, model)
            node.fetching.add(model)
            self._enter(node, model)

    def arrived(self, node: Node, model: str) -> None:
        """The node has a model that it had to fetch: it answered with it."""
        if model in node.absent:
            self._leave(node, model)
            node.absent -= {model}
            node.fetching.discard(model)
            self._enter(node, model)

    def heartbeat(self, node_id: str, report: Heartbeat, now: float) -> list[Change]:
        """An agent reported. The caller pulls its models if `models_version` moved, or it is REGISTERING after this.

        It moves when a runtime was started again, too: what failed before may well work now.
        """
        node = self.nodes.get(node_id)
        if node is None:
            return []
        if node.state is State.PENDING:  # what it has and does counts once it is approved
            node.last_seen = now
            return []
        moved = report.models_version != node.models_version
        lifted = [c for m in list(node.excluded) if moved for c in self.lift(node_id, m, "its runtime is another one")]
        before, node.report = set(node.report.loaded), report
        node.change()
        node.models_version = report.models_version
        node.resize(report.slots or node.slots)
        if report.runtimes:  # one may have come up, or be another version now
            node.runtimes, node.backend = tuple(report.runtimes), report.backend
        node.last_seen = now
        self._settle_warm(node, before, set(report.loaded))
        if node.absent:
            self._settle_fetching(node)
        return lifted + self.signal(node_id, Signal.HEARTBEAT, now)

    def pending(self) -> list[Node]:
        """Those that wait for approval; who was not heard of for longest comes first."""
        waiting = (node for node in self.nodes.values() if node.state is State.PENDING)
        return sorted(waiting, key=lambda node: node.last_seen)

    def signal(self, node_id: str, signal: Signal, now: float, detail: str = "") -> list[Change]:
        """Something was learned about a node's health; the table says what follows."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        if signal is Signal.PROBE_OK or signal is Signal.MODELS_PULLED:
            node.last_seen = now
        state = after(node.state, signal)
        if state is node.state:
            return []
        self._unlist(node)
        before, node.state = node.state, state
        if state is State.REGISTERING:  # it restarted, or is back: what failed before may well work now (C7)
            node.excluded.clear()
        elif state is State.OFFLINE:
            self._cool(node, list(node.warm))
        elif state is State.ONLINE and before is not State.SUSPECT:
            node.since = now
        self._list(node)
        why = f"{signal.value}: {detail}" if detail else signal.value
        return [Change(f"node.{state.value}", node.id, node.name, why)]

    def exclude(self, node_id: str, model: str, reason: str, now: float, *, trial: bool = False) -> list[Change]:
        """The model failed on this node: new requests go elsewhere (requirement C6). `trial`: it was being tried.

        A node out of rotation has nothing to be excluded from: what failed there began before it restarted or left.
        """
        node = self.nodes.get(node_id)
        if node is None or model not in node.models or node.state not in IN_ROTATION:
            return []
        exclusion = node.excluded.get(model)
        if exclusion is None:
            self._leave(node, model)
            node.fetching.discard(model)
            exclusion = node.excluded[model] = Exclusion(reason, now, self._trial_after)
            self._enter(node, model)
        elif trial:
            exclusion.again(reason, now)
        else:  # one of those that were under way when the first one failed
            return []
        why = f"{model}: {reason}; tried again after {exclusion.delay:g} s"
        return [Change("node.model_excluded", node.id, node.name, why)]

    def lift(self, node_id: str, model: str, reason: str) -> list[Change]:
        """The model may be asked of this node again (requirement C7). No changes: it was not excluded."""
        node = self.nodes.get(node_id)
        if node is None or model not in node.excluded:
            return []
        self._leave(node, model)
        del node.excluded[model]
        self._enter(node, model)
        return [Change("node.model_restored", node.id, node.name, f"{model}: {reason}")]

    def warm_up(self, node: Node, model: str, ready: float) -> None:
        """The model is in the node's memory, or on its way there until `ready`."""
        if model not in node.warm:
            self.warm.setdefault(model, []).append(node)
        node.warm_up(model, ready)

    def tick(self, now: float) -> list[Change]:
        """Once a second: agents that fell silent go offline."""
        changes: list[Change] = []
        for node in self.nodes.values():
            if node.kind == "agent" and node.state is not State.OFFLINE and now - node.last_seen > self._silence:
                changes += self.signal(node.id, Signal.SILENT, now, f"for {now - node.last_seen:.0f} s")
        return changes

    # -- the indexes

    def _settle_warm(self, node: Node, before: set[str], loaded: set[str]) -> None:
        """What the node says is in its memory. What it is being asked for now may be on its way there.

        A model that went when another one came had to make room: then its memory holds so many, and no more.
        """
        for model in loaded:
            self.warm_up(node, model, 0.0)
        if len(node.warm) > len(loaded):
            asked = {lease.model for lease in node.leases}
            self._cool(node, [m for m in node.warm if m not in loaded and m not in asked])
        if before - loaded and node.warm.keys() - before:
            node.holds = len(node.warm)
        elif len(loaded) > node.holds:
            node.holds = len(loaded)

    def _settle_fetching(self, node: Node) -> None:
        """What the node says that it fetches; and what it has given up, since nobody is waiting for it there either."""
        under_way = {step.name for step in node.report.progress if step.kind == "model"}
        for model in under_way:
            self.fetch(node, model)
        for model in node.fetching - under_way - {lease.model for lease in node.leases}:
            self._leave(node, model)
            node.fetching.discard(model)
            self._enter(node, model)

    def _cool(self, node: Node, models: Iterable[str]) -> None:
        for model in models:
            node.cool(model)
            _take_out(self.warm, model, node)

    def _list(self, node: Node) -> None:
        for model in node.models:
            self._known[model] = self._known.get(model, 0) + 1
            self._enter(node, model)

    def _unlist(self, node: Node) -> None:
        for model in node.models:
            _count_down(self._known, model)
            self._leave(node, model)

    def _enter(self, node: Node, model: str) -> None:
        index = self._index_of(node, model)
        if index is not None:
            index.setdefault(model, []).append(node)
            node.change()

    def _leave(self, node: Node, model: str) -> None:
        index = self._index_of(node, model)
        if index is not None:
            _take_out(index, model, node)

    def _index_of(self, node: Node, model: str) -> dict[str, list[Node]] | None:
        if node.state not in IN_ROTATION or node.settings.drain:
            return None
        if model in node.excluded:
            return self.excluded
        if node.state is State.SUSPECT:
            return self.suspects
        return self.offered if model in node.absent and model not in node.fetching else self.online


def _introduction(message: Registration, address: Address, *, local: bool) -> Introduction:
    return Introduction(
        own_name=message.machine_name,
        address=address,
        local=local,
        runtimes=tuple(message.runtimes),
        os=message.os,
        version=message.version,
        backend=message.backend,
        models_version=message.models_version,
        access=message.access,
        settings=message.settings,
        gpus=message.gpus,
    )


def _difference(old: NodeSettings, new: NodeSettings) -> str:
    """What is other, in words."""
    said = {
        "name": f"name '{new.name}'" if new.name else "its own name",
        "tags": f"tags {', '.join(new.tags)}" if new.tags else "no tags",
        "notes": "notes",
        "drain": "drained" if new.drain else "no longer drained",
    }
    return "; ".join(words for field, words in said.items() if getattr(old, field) != getattr(new, field))


def _take_out(index: dict[str, list[Node]], model: str, node: Node) -> None:
    index[model].remove(node)
    if not index[model]:
        del index[model]


def _count_down(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
