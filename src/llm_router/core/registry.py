"""The nodes, and which of them can run what.

Rule 1: all state about nodes lives here, and only the methods below change it.
Rule 2: `online` and `suspects` are indexes by model, kept up to date by every change; a request looks up, never scans.
Rule 3: what a change means to others (log, database, dashboard) is said by the `Change`s that a method returns.

On a router a node is an agent or an attached server; on an agent it is a runtime (one llama.cpp process, one Ollama).
The gateway of both asks the same registry.
"""

from collections.abc import Iterable, Iterator

import msgspec

from llm_router.contract import Address, Gpu, Heartbeat, NodeKind, NodeView, Registration, RuntimeFacts
from llm_router.core.health import Signal, State, after

DEFAULT_SLOTS = 4  # what a node is taken to run at once when it does not say (design.md §5)

EVERY_DIALECT = frozenset({"ollama", "openai", "anthropic"})

# What each kind of node is asked in; the gateway translates the rest. An agent's own gateway translates what its
# runtimes do not speak. Ollama serves /v1/chat/completions and /v1/messages too, and so do the OpenAI-compatible
# servers of today; one that does not says so itself, with 404.
DIALECTS: dict[NodeKind, frozenset[str]] = {
    "agent": EVERY_DIALECT,
    "ollama": EVERY_DIALECT,
    "openai": frozenset({"openai", "anthropic"}),
    "llamacpp": frozenset({"openai", "anthropic"}),
}


class Change(msgspec.Struct, frozen=True):
    """Something happened to a node: `event` is past tense and dotted, `detail` says why or what."""

    event: str
    node_id: str
    name: str
    detail: str = ""


class Node:
    """One place where models run. Others read it; only the registry and the scheduler write."""

    __slots__ = (
        "address",
        "dialects",
        "done",
        "failed",
        "id",
        "in_flight",
        "kind",
        "last_chosen",
        "last_seen",
        "local",
        "models",
        "models_version",
        "name",
        "os",
        "report",
        "runtimes",
        "slots",
        "state",
    )

    def __init__(  # noqa: PLR0913 - a node has this many facts, and all but four go by name
        self,
        id: str,  # noqa: A002 - the field's name everywhere else
        name: str,
        kind: NodeKind,
        address: Address | None,
        *,
        dialects: frozenset[str],
        runtimes: Iterable[RuntimeFacts] = (),
        slots: int = 0,
        os: str = "",
        local: bool = False,
        state: State = State.REGISTERING,
        models: Iterable[str] = (),
    ) -> None:
        self.id = id
        self.name = name
        self.kind: NodeKind = kind
        self.address = address
        self.dialects = dialects
        self.runtimes = tuple(runtimes)
        self.slots = slots or sum(r.slots for r in self.runtimes) or DEFAULT_SLOTS
        self.os = os
        self.local = local
        self.state = state
        self.models = tuple(models)
        self.models_version = 0
        self.report = Heartbeat()
        self.in_flight = 0
        self.done = 0
        self.failed = 0
        self.last_chosen = 0.0
        self.last_seen = 0.0

    def view(self) -> NodeView:
        """What `GET /v0/nodes` shows."""
        gpus: list[Gpu] = self.report.gpus
        return NodeView(
            id=self.id,
            name=self.name,
            kind=self.kind,
            state=self.state.value,
            url=self.address.url if self.address else "",
            local=self.local,
            runtimes=list(self.runtimes),
            models=list(self.models),
            loaded=self.report.loaded,
            excluded=[],
            slots=self.slots,
            in_flight=self.in_flight,
            done=self.done,
            failed=self.failed,
            cpu=self.report.cpu,
            memory=self.report.memory,
            gpus=gpus,
            os=self.os,
            last_seen=self.last_seen,
        )


class Registry:
    """All nodes, and the index of models over them."""

    def __init__(self, *, silence: float = 20.0) -> None:
        """`silence`: seconds without a heartbeat after which an agent is offline (requirement A5)."""
        self.nodes: dict[str, Node] = {}
        self.online: dict[str, list[Node]] = {}
        self.suspects: dict[str, list[Node]] = {}
        self._known: dict[str, int] = {}  # model -> how many nodes list it, in whatever state
        self._silence = silence

    # -- what is there

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __contains__(self, model: object) -> bool:
        """Whether any node lists this model, online or not."""
        return model in self._known

    def available(self) -> dict[str, list[Node]]:
        """Every model that can be asked for now, with the nodes that have it, sorted by name (requirement C8)."""
        both = {m: [*self.online.get(m, ()), *self.suspects.get(m, ())] for m in {*self.online, *self.suspects}}
        return dict(sorted(both.items()))

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
        self, node_id: str, message: Registration, address: Address, *, local: bool, now: float
    ) -> list[Change]:
        """An agent introduced itself: known again under its id, or new. Its models are to be pulled next."""
        node = self.nodes.get(node_id)
        if node is None:
            node = Node(node_id, message.machine_name, "agent", address, dialects=EVERY_DIALECT)
            self.nodes[node_id] = node
        node.address = address
        node.name = message.machine_name
        node.runtimes = tuple(message.runtimes)
        node.slots = sum(r.slots for r in node.runtimes) or DEFAULT_SLOTS
        node.os = message.os
        node.local = local
        node.models_version = message.models_version
        node.report = Heartbeat(gpus=message.gpus)
        node.last_seen = now
        return [
            Change("node.registered", node.id, node.name, address.url),
            *self.signal(node_id, Signal.REGISTERED, now),
        ]

    def remove(self, node_id: str) -> list[Change]:
        """Forget a node. A request that it is answering goes on."""
        node = self.nodes.pop(node_id, None)
        if node is None:
            return []
        self._unlist(node)
        return [Change("node.removed", node.id, node.name)]

    def list_models(self, node_id: str, models: Iterable[str], now: float) -> list[Change]:
        """The node's list was pulled: it is online with exactly these models."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        new = tuple(dict.fromkeys(models))
        changes = []
        if new != node.models:
            self._unlist(node)
            node.models = new
            self._list(node)
            changes.append(Change("node.models_changed", node.id, node.name, f"{len(new)} models"))
        return [*changes, *self.signal(node_id, Signal.MODELS_PULLED, now)]

    def heartbeat(self, node_id: str, report: Heartbeat, now: float) -> list[Change]:
        """An agent reported. The caller pulls its models if `models_version` moved, or it is REGISTERING after this."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        node.report = report
        node.models_version = report.models_version
        node.last_seen = now
        return self.signal(node_id, Signal.HEARTBEAT, now)

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
        node.state = state
        self._list(node)
        why = f"{signal.value}: {detail}" if detail else signal.value
        return [Change(f"node.{state.value}", node.id, node.name, why)]

    def tick(self, now: float) -> list[Change]:
        """Once a second: agents that fell silent go offline."""
        changes: list[Change] = []
        for node in self.nodes.values():
            if node.kind == "agent" and node.state is not State.OFFLINE and now - node.last_seen > self._silence:
                changes += self.signal(node.id, Signal.SILENT, now, f"for {now - node.last_seen:.0f} s")
        return changes

    # -- the index

    def _list(self, node: Node) -> None:
        for model in node.models:
            self._known[model] = self._known.get(model, 0) + 1
        index = self._index_of(node)
        if index is not None:
            for model in node.models:
                index.setdefault(model, []).append(node)

    def _unlist(self, node: Node) -> None:
        for model in node.models:
            _count_down(self._known, model)
        index = self._index_of(node)
        if index is not None:
            for model in node.models:
                index[model].remove(node)
                if not index[model]:
                    del index[model]

    def _index_of(self, node: Node) -> dict[str, list[Node]] | None:
        if node.state is State.ONLINE:
            return self.online
        return self.suspects if node.state is State.SUSPECT else None


def _count_down(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
