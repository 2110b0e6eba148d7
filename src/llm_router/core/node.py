"""A node, and the leases of requests that it is answering. Data only: the registry and the scheduler write it."""

import math
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from llm_router.contract import (
    Address,
    Backend,
    ExcludedModel,
    Heartbeat,
    ModelEntry,
    NodeKind,
    NodeSettings,
    NodeView,
    Progress,
    RuntimeFacts,
)
from llm_router.core.ask import Ask
from llm_router.core.health import State

if TYPE_CHECKING:
    from llm_router.core.exclusions import Exclusion
    from llm_router.core.rates import Rates

DEFAULT_SLOTS = 4  # what a node is taken to run at once when it does not say (design.md §5)
LATEST = 0.1  # what the latest answer counts in a node's `latency`: about the last twenty do
BUSY_CPU = 80.0  # percent; a machine above it is used only when no other can (requirement D1)

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


_changes = count(1)


class Node:
    """One place where models run.

    `own_name` is what it calls itself, or was attached as; `name` is what it is shown as, see `configure`.
    `leases` are the requests that it is answering; `claims` those that would rather wait for it than go elsewhere.
    `warm` are the models that are in its memory or on their way there: model -> when it is ready; `used`: model -> when
    it was asked for last, or answered; `holds`: how many fit into memory, infinity until it was seen to make room.
    `soonest`: when the first of the leases is expected to end; 0 where nobody has asked since they changed.
    `changed` is the number of the last change of what it is weighed by, counted over all nodes.
    `rates` is how fast it runs each, `pace` how it compares with the fastest node in prefill, decode and loads.
    `access` is the header line by which requests are let in there, `token` the word in it, which no view shows.
    `since`: when it came online last; `registered`: when it registered last, in seconds since the epoch, so that it is
    the same for every replica; `latency`: seconds that its answers take, see LATEST; `version`: its agent's.
    `entries`: what it told of its models, by id; `absent`: those that it would have to fetch first, `fetching`: those
    of them that it does fetch, or was asked for.
    `slots`: how many requests it runs at once, whoever asks; `places`: how many of these are ours, see `elsewhere.py`.
    `leases`, `done` and `failed` are of requests that came to this replica; what the others have there and had there is
    in `elsewhere`, `done_elsewhere` and `failed_elsewhere`.
    """

    __slots__ = (
        "_idle_since",
        "_idle_since_is_known",
        "_slots",
        "absent",
        "access",
        "address",
        "backend",
        "changed",
        "claims",
        "dialects",
        "done",
        "done_elsewhere",
        "elsewhere",
        "entries",
        "excluded",
        "failed",
        "failed_elsewhere",
        "fetching",
        "holds",
        "id",
        "kind",
        "last_chosen",
        "last_seen",
        "latency",
        "leases",
        "local",
        "models",
        "models_version",
        "name",
        "os",
        "own_name",
        "pace",
        "places",
        "rates",
        "registered",
        "report",
        "runtimes",
        "settings",
        "since",
        "soonest",
        "state",
        "token",
        "used",
        "version",
        "warm",
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
        self.own_name = self.name = name
        self.kind: NodeKind = kind
        self.address = address
        self.access = b""
        self.token = ""
        self.dialects = dialects
        self.runtimes = tuple(runtimes)
        self._slots = self.places = slots or sum(r.slots for r in self.runtimes) or DEFAULT_SLOTS
        self.elsewhere = self.done_elsewhere = self.failed_elsewhere = 0
        self.os = os
        self.local = local
        self.state = state
        self.models = tuple(models)
        self.entries: dict[str, ModelEntry] = {}
        self.absent: frozenset[str] = frozenset()
        self.fetching: set[str] = set()
        self.models_version = 0
        self.backend: Backend = "cpu"
        self.settings = NodeSettings()
        self.report = Heartbeat()
        self.leases: set[Lease] = set()
        self.excluded: dict[str, Exclusion] = {}
        self.warm: dict[str, float] = {}
        self.used: dict[str, float] = {}
        self.holds = math.inf
        self.soonest = 0.0
        self._idle_since: float | None = None
        self._idle_since_is_known = False
        self.changed = next(_changes)
        self.rates: dict[str, Rates] = {}
        self.pace = [1.0, 1.0, 1.0]
        self.claims: set[Ask] = set()
        self.done = 0
        self.failed = 0
        self.last_chosen = 0
        self.last_seen = 0.0
        self.since = 0.0
        self.registered = 0.0
        self.latency = 0.0
        self.version = ""

    @property
    def in_flight(self) -> int:
        """How many requests it is answering, whichever replica they came to."""
        return len(self.leases) + self.elsewhere

    @property
    def slots(self) -> int:
        """How many requests it runs at once."""
        return self._slots

    def resize(self, slots: int) -> None:
        """It runs so many requests at once from now on."""
        self.allot(self.places + slots - self._slots)
        self._slots = slots

    def allot(self, places: int) -> None:
        """We may have so many requests there at once: 0 or fewer while others fill it, `slots` where nobody else is."""
        self.places = places
        self.soonest = 0.0

    def has_room(self) -> bool:
        """Whether it can take one more request of ours now."""
        return len(self.leases) < self.places

    def counts(self) -> tuple[int, int, int]:
        """In flight, done, failed: of all replicas' requests."""
        return self.in_flight, self.done + self.done_elsewhere, self.failed + self.failed_elsewhere

    def fetch_of(self, model: str) -> Progress | None:
        """How far it is with fetching this model, as it reported last."""
        return next((p for p in self.report.progress if p.kind == "model" and p.name == model), None)

    def change(self) -> None:
        """Something is different that it is weighed by."""
        self.changed = next(_changes)

    def configure(self, settings: NodeSettings) -> None:
        """These are its settings; a name in them stands before its own (requirement F3)."""
        self.settings = settings
        self.name = settings.name or self.own_name
        self.change()

    def let_in_by(self, token: str) -> None:
        """Whoever shows this token is let in there; "": everybody is."""
        self.token = token
        self.access = b"authorization: Bearer %b\r\n" % token.encode() if token else b""

    def warm_up(self, model: str, ready: float) -> None:
        """The model is in memory, or on its way there until `ready`."""
        self.change()
        self.warm[model] = ready
        self._idle_since_is_known = False

    def cool(self, model: str) -> None:
        """The model has left the memory."""
        self.change()
        del self.warm[model]
        self._idle_since_is_known = False

    def touch(self, model: str, now: float) -> None:
        """The model was asked for, or has answered."""
        self.used[model] = now
        self.soonest = 0.0
        self._idle_since_is_known = False

    def idle_since(self) -> float | None:
        """Since when the model that one more would drive out of memory is unused; infinity: all are in use.

        None: there is room for one more. Which model goes is the runtime's to say; the one unused for longest is what
        they all say.
        """
        if not self._idle_since_is_known:
            self._idle_since_is_known = True
            self._idle_since = None
            if len(self.warm) >= self.holds:
                asked = {lease.model for lease in self.leases}
                self._idle_since = min((self.used.get(m, 0.0) for m in self.warm if m not in asked), default=math.inf)
        return self._idle_since

    def view(self) -> NodeView:
        """What `GET /v0/nodes` shows. Times are those of `now`."""
        in_flight, done, failed = self.counts()
        return NodeView(
            id=self.id,
            name=self.name,
            kind=self.kind,
            state=self.state.value,
            url=self.address.url if self.address else "",
            local=self.local,
            runtimes=list(self.runtimes),
            models=list(self.models),
            loaded=sorted(self.warm),
            excluded=sorted(self.excluded),
            exclusions=[ExcludedModel(m, e.reason, e.since, e.until) for m, e in sorted(self.excluded.items())],
            slots=self.slots,
            in_flight=in_flight,
            done=done,
            failed=failed,
            cpu=self.report.cpu,
            memory=self.report.memory,
            gpus=self.report.gpus,
            backend=self.backend,
            progress=self.report.progress,
            settings=self.settings,
            os=self.os,
            last_seen=self.last_seen,
            machine=self.own_name,
            version=self.version,
            since=self.since if self.state is State.ONLINE or self.state is State.SUSPECT else 0.0,
            latency=round(self.latency, 6),
            offered=sorted(self.absent),
        )


class Lease(msgspec.Struct, eq=False):
    """One request's place on one node. Give it back with `Scheduler.on_done`, whatever happens.

    `until`: when it is expected to end, 0 until somebody asked. `cold`: the model was not in the node's memory.
    `trial`: it tries an excluded model again. `fetches`: the node did not have the model's files.
    """

    node: Node
    ask: Ask
    since: float
    until: float = 0.0
    cold: bool = False
    trial: bool = False
    fetches: bool = False
    open: bool = True

    @property
    def model(self) -> str:
        """What was asked for."""
        return self.ask.model
