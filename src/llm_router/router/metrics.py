"""What Prometheus is told: of the requests, the nodes, the queue, the ledger and this process.

A picture is taken on the event loop, in 4 ms with a thousand nodes and as many combinations of labels; its text is
written by a thread.
Names and units follow Prometheus' "Metric and label naming": base units, ratios of 1, `_total` on what only grows.
docs/reference/metrics.md describes each.
"""

import asyncio
import platform
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice

import msgspec

from llm_router import __version__
from llm_router.contract import Gpu, Heartbeat, NodeKind
from llm_router.core.health import State
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.gateway.lag import BOUNDS as LAG_BOUNDS
from llm_router.gateway.lag import LoopLag
from llm_router.router.exposition import family, histograms, labels
from llm_router.router.ledger import Ledger
from llm_router.router.traffic import BOUNDS, LIMIT, Times, Traffic

Samples = Iterator[tuple[str, float]]

_BOUNDS = tuple(map(str, BOUNDS))
_LAG_BOUNDS = tuple(map(str, LAG_BOUNDS))


class NodeFacts(msgspec.Struct, frozen=True):
    """One node, at one moment; `models`, `loaded` and `excluded` are how many."""

    id: str
    name: str
    kind: NodeKind
    os: str
    version: str
    backend: str
    state: State
    slots: int
    in_flight: int
    models: int
    loaded: int
    excluded: int
    report: Heartbeat

    @property
    def labels(self) -> str:
        """Which one it is: names need not be unique."""
        return labels(node=self.name, node_id=self.id)


class Picture(msgspec.Struct, frozen=True):
    """Everything that is told, at one moment.

    `models`: on how many nodes each can be asked for, and is in memory; `lag`: counts and sum of `LoopLag`;
    `tasks`: those of the event loop that have not ended.
    """

    traffic: Traffic
    nodes: list[NodeFacts]
    models: dict[str, tuple[int, int]]
    queued: dict[str, int]
    pending: int
    lost: int
    writable: bool
    lag: tuple[tuple[int, ...], float]
    tasks: int


class Metrics:
    """Answers `GET /metrics`."""

    def __init__(self, registry: Registry, scheduler: Scheduler, ledger: Ledger, lag: LoopLag) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._ledger = ledger
        self._lag = lag
        self._traffic = Traffic(registry)
        ledger.watch(self._traffic)

    async def text(self) -> str:
        """All of it, as it is now."""
        picture = self.picture()
        return await asyncio.to_thread(write, picture)

    def picture(self) -> Picture:
        """What is to be told."""
        self._ledger.show()  # so that what is complete is counted
        registry, ledger = self._registry, self._ledger
        return Picture(
            traffic=copy(self._traffic),
            nodes=[_facts(node) for node in registry],
            models=_models(registry),
            queued=dict(islice(self._scheduler.queued().items(), LIMIT)),
            pending=ledger.pending,
            lost=ledger.dropped,
            writable=not ledger.trouble,
            lag=(tuple(self._lag.counts), self._lag.total),
            tasks=len(asyncio.all_tasks()),
        )


def _facts(node: Node) -> NodeFacts:
    return NodeFacts(
        node.id,
        node.name,
        node.kind,
        node.os,
        node.version,
        node.backend,
        node.state,
        node.slots,
        len(node.leases),
        len(node.models),
        len(node.warm),
        len(node.excluded),
        node.report,
    )


def _models(registry: Registry) -> dict[str, tuple[int, int]]:
    names = islice(dict.fromkeys((*registry.online, *registry.suspects)), LIMIT)
    lists = registry.online, registry.suspects
    return {m: (sum(len(nodes.get(m, ())) for nodes in lists), len(registry.warm.get(m, ()))) for m in names}


def write(picture: Picture) -> str:
    """The picture as Prometheus reads it."""
    lines = [
        *_of_requests(picture.traffic),
        *_of_models(picture),
        *_of_nodes(picture.nodes),
        *_of_machines(picture.nodes),
        *_of_gpus(picture.nodes),
        *_of_router(picture),
    ]
    return "\n".join(lines) + "\n" + _of_process()


def _of_requests(traffic: Traffic) -> Iterator[str]:
    yield from family("llm_router_requests_total", "counter", "Requests that ended.", _requests(traffic))
    yield from family("llm_router_tokens_total", "counter", "Tokens read and written.", _tokens(traffic))
    times: Iterable[tuple[str, str, Callable[[], Iterable[tuple[str, Times]]]]] = (
        (
            "llm_router_time_to_first_token_seconds",
            "From the arrival of a streamed request to its first token.",
            lambda: ((_place(*p), a.first) for p, a in traffic.answers.items() if any(a.first.counts)),
        ),
        (
            "llm_router_request_duration_seconds",
            "From the arrival of a request to the end of its answer, where that is a good one.",
            lambda: ((_place(*p), a.whole) for p, a in traffic.answers.items()),
        ),
        (
            "llm_router_queue_wait_seconds",
            "Time in the queue; 0 for requests that had a place at once.",
            lambda: ((labels(model=model), waits) for model, waits in traffic.waits.items()),
        ),
    )
    for name, about, found in times:
        yield from histograms(name, about, _BOUNDS, ((which, t.counts, t.total) for which, t in found()))


def _place(model: str, node: str, node_id: str) -> str:
    return labels(model=model, node=node, node_id=node_id)


def _requests(traffic: Traffic) -> Samples:
    for (model, node, node_id, operation, status, outcome), count in traffic.requests.items():
        yield f"{_place(model, node, node_id)},{labels(operation=operation, status=status, outcome=outcome)}", count


def _tokens(traffic: Traffic) -> Samples:
    for place, answers in traffic.answers.items():
        yield f"{_place(*place)},{labels(type='prompt')}", answers.prompt_tokens
        yield f"{_place(*place)},{labels(type='completion')}", answers.completion_tokens


def _of_models(picture: Picture) -> Iterator[str]:
    shown = [(labels(model=model), nodes, loaded) for model, (nodes, loaded) in picture.models.items()]
    waiting = dict.fromkeys(picture.models, 0) | picture.queued
    yield from family(
        "llm_router_queued_requests",
        "gauge",
        "Requests that wait for a place.",
        ((labels(model=model), count) for model, count in waiting.items()),
    )
    yield from family(
        "llm_router_model_nodes", "gauge", "Nodes that can be asked for the model.", ((m, n) for m, n, _ in shown)
    )
    yield from family(
        "llm_router_model_loaded_nodes", "gauge", "Nodes that have it in memory.", ((m, n) for m, _, n in shown)
    )


def _of_nodes(nodes: list[NodeFacts]) -> Iterator[str]:
    named = [(node.labels, node) for node in nodes]
    about: Iterable[tuple[str, str, Callable[[NodeFacts], float]]] = (
        ("in_flight_requests", "Requests that the node is answering.", lambda n: n.in_flight),
        ("slots", "Requests that it runs at once.", lambda n: n.slots),
        ("models", "Models that it lists.", lambda n: n.models),
        ("loaded_models", "Models that it has in memory.", lambda n: n.loaded),
        ("excluded_models", "Models that are kept from it because they failed there.", lambda n: n.excluded),
    )
    for name, text, value in about:
        yield from family(f"llm_router_node_{name}", "gauge", text, ((which, value(n)) for which, n in named))
    states = ((f"{which},{labels(state=n.state.value)}", 1) for which, n in named)
    yield from family("llm_router_node_state", "gauge", "1 for the state that the node is in.", states)
    infos = ((f"{which},{labels(kind=n.kind, os=n.os, version=n.version, backend=n.backend)}", 1) for which, n in named)
    yield from family("llm_router_node_info", "gauge", "What it is.", infos)
    found = [node.state for node in nodes]
    counts = ((labels(state=state.value), found.count(state)) for state in State)
    yield from family("llm_router_nodes", "gauge", "Nodes by state.", counts)


def _of_machines(nodes: list[NodeFacts]) -> Iterator[str]:
    """Of agents that are heard of: an attached server says nothing of its machine, and old news are no news."""
    named = [(n.labels, n.report) for n in nodes if n.kind == "agent" and n.state is not State.OFFLINE]
    about: Iterable[tuple[str, str, Callable[[Heartbeat], float]]] = (
        ("cpu_ratio", "Processors in use, of 1.", lambda r: r.cpu / 100),
        ("memory_used_ratio", "Memory in use, of 1.", lambda r: r.memory / 100),
        ("memory_total_bytes", "Memory that it has.", lambda r: r.memory_total),
    )
    for name, text, value in about:
        yield from family(f"llm_router_node_{name}", "gauge", text, ((which, value(r)) for which, r in named))


def _of_gpus(nodes: list[NodeFacts]) -> Iterator[str]:
    named = [
        (f"{n.labels},{labels(gpu=number, name=gpu.name)}", gpu)
        for n in nodes
        if n.state is not State.OFFLINE
        for number, gpu in enumerate(n.report.gpus)
    ]
    about: Iterable[tuple[str, str, Callable[[Gpu], float]]] = (
        ("utilization_ratio", "Graphics processor in use, of 1.", lambda g: g.utilization / 100),
        ("memory_used_bytes", "Its memory in use.", lambda g: g.memory_used),
        ("memory_total_bytes", "Its memory.", lambda g: g.memory_total),
        ("temperature_celsius", "Its temperature; 0 where the driver does not tell.", lambda g: g.temperature),
    )
    for name, text, value in about:
        yield from family(f"llm_router_node_gpu_{name}", "gauge", text, ((which, value(g)) for which, g in named))


def _of_router(picture: Picture) -> Iterator[str]:
    pending, lost = picture.pending, picture.lost
    yield from family(
        "llm_router_ledger_pending_entries", "gauge", "Requests and events not written yet.", [("", pending)]
    )
    yield from family("llm_router_ledger_lost_entries_total", "counter", "Those that never will be.", [("", lost)])
    yield from family(
        "llm_router_ledger_writable",
        "gauge",
        "1 while the database takes what it is given.",
        [("", int(picture.writable))],
    )
    counts, total = picture.lag
    yield from histograms(
        "llm_router_event_loop_lag_seconds", "How late the event loop is.", _LAG_BOUNDS, [("", counts, total)]
    )
    yield from family(
        "llm_router_event_loop_tasks", "gauge", "What the event loop has under way.", [("", picture.tasks)]
    )
    what = labels(version=__version__, python=platform.python_version())
    yield from family("llm_router_build_info", "gauge", "What this router is.", [(what, 1)])


def _of_process() -> str:
    """Processor time, memory, open files, start time: on Linux only, where `/proc` tells."""
    # 6 MB that a router which nobody visits does not need.
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

    found = CollectorRegistry()
    ProcessCollector(registry=found)
    return generate_latest(found).decode()
