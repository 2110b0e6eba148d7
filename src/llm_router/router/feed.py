"""What those who watch are to be told, and what they have been told: decisions only, `live` carries them to sockets.

    message    when
    node       something happened to a node: at the next look; it reported: at most every REPORT_EVERY seconds
    gone       a node was removed
    requests   requests have ended: at most MOST at one look
    event      something was added to the events: likewise
    rates      every RATES_EVERY seconds in which anything counted

Rule 1: a node's message is made once and kept, for those who come later.
Rule 2: what comes faster than MOST a look is told at later looks, in its order; of what is BACKLOG behind, only the
        last is told.
Rule 3: counts of requests travel in `rates` alone: a busy fleet would else tell all of its nodes at every look.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import time
from typing import TypeVar

import msgspec

from llm_router.contract import Heartbeat
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.core.usage import RequestRecord
from llm_router.router.fleet import view
from llm_router.router.store.queries import Event

REPORT_EVERY = 1.0  # seconds; a report brings figures of a machine, which nobody reads faster
RATES_EVERY = 1.0  # seconds: what rates per second are counted over
MOST = 100  # requests, or events, of one look: more than a page shows, and nobody reads 400 a second
BACKLOG = 2000  # of either, for later looks: a router that stood still for seconds has them to tell at once

T = TypeVar("T")

Message = tuple[bytes, bytes]  # its name, its data as JSON
Counts = tuple[int, int, int]  # of a node: in flight, done, failed


class NodeRates(msgspec.Struct, frozen=True):
    """One node: counts since it is known, requests and tokens (of answers) per second."""

    in_flight: int
    done: int
    failed: int
    requests: float
    tokens: float


class Rates(msgspec.Struct, frozen=True):
    """All nodes together, per second; `queued`: how many wait for each model; `lost`: records not kept.

    `nodes` are those of which something is other than it was.
    """

    at: float
    requests: float
    tokens: float
    in_flight: int
    queued: dict[str, int]
    lost: int
    nodes: dict[str, NodeRates]


class _Gone(msgspec.Struct, frozen=True):
    id: str


class _Told(msgspec.Struct):
    """What was said of a node, and when."""

    at: float
    report: Heartbeat
    warm: frozenset[str]
    data: bytes
    counts: Counts = (0, 0, 0)


class Feed:
    """Told of what happens; asked by `gather` for what is to be said of it."""

    def __init__(self, registry: Registry, queued: Callable[[], dict[str, int]], lost: Callable[[], int]) -> None:
        """`queued`: how many requests wait for each model; `lost`: how many records were not kept."""
        self._registry = registry
        self._queued = queued
        self._lost = lost
        self._told: dict[str, _Told] = {}
        self._touched: set[str] = set()  # ids of nodes to which something happened
        self._events: deque[Event] = deque(maxlen=BACKLOG)
        self._requests: deque[RequestRecord] = deque(maxlen=BACKLOG)
        self._tally: dict[str, list[int]] = {}  # node id -> requests, tokens; "" for those that reached none
        self._still = frozenset[str]()  # nodes with requests in the last rates: to be told of their end
        self._before: tuple[dict[str, int], int] = ({}, 0)  # queued and lost, as last said
        self._counted = 0.0  # since when `_tally` counts

    # -- what happens

    def event(self, event: Event) -> None:
        """Something was added to the events, of a node in most cases."""
        self._events.append(event)
        self.touch(event.node_id)

    def touch(self, node_id: str) -> None:
        """Something of this node is other than it was."""
        self._touched.add(node_id)

    def requests(self, records: Sequence[RequestRecord]) -> None:
        """These have ended."""
        self._requests.extend(records)
        tally = self._tally
        for record in records:
            counts = tally.get(record.node_id)
            if counts is None:
                counts = tally[record.node_id] = [0, 0]
            counts[0] += 1
            counts[1] += record.completion_tokens

    # -- what is to be said

    def gather(self, now: float) -> Iterator[Message]:
        """What is to be said at this look. Whoever stops in between finds told what has been yielded, and no more."""
        touched, self._touched = self._touched, set()
        for node in list(self._registry):
            told = self._told.get(node.id)
            if told is None or node.id in touched or (now - told.at >= REPORT_EVERY and _moved(node, told)):
                yield b"node", self._tell(node, told, now)
        for node_id in self._told.keys() - self._registry.nodes.keys():
            del self._told[node_id]
            yield b"gone", msgspec.json.encode(_Gone(node_id))
        yield from self._happened()
        if now - self._counted >= RATES_EVERY:
            yield from self._rates(now)

    def nodes(self) -> bytes:
        """The data of a `nodes` message: each as it was told last."""
        return b"[" + b",".join(told.data for told in self._told.values()) + b"]"

    def counts(self) -> bytes:
        """The data of a `rates` message with the counts of all nodes, for who has not heard of any."""
        nodes = {i: NodeRates(*told.counts, 0.0, 0.0) for i, told in self._told.items()}
        return msgspec.json.encode(self._all(0.0, 0.0, nodes))

    def forget(self) -> None:
        """Nobody watches any more: whoever comes next is told everything."""
        for kept in (self._told, self._touched, self._events, self._requests, self._tally):
            kept.clear()

    def _tell(self, node: Node, told: _Told | None, now: float) -> bytes:
        data = msgspec.json.encode(view(node))
        counts = told.counts if told else _counts(node)
        self._told[node.id] = _Told(now, node.report, frozenset(node.warm), data, counts)
        return data

    def _happened(self) -> Iterator[Message]:
        requests, events = _next(self._requests), _next(self._events)
        if requests:
            yield b"requests", msgspec.json.encode(requests)
        for event in events:
            yield b"event", msgspec.json.encode(event)

    # -- rates

    def _rates(self, now: float) -> Iterator[Message]:
        seconds, self._counted = now - self._counted, now
        tally, self._tally = self._tally, {}
        nodes = dict(self._node_rates(tally, seconds))  # before `_still` is another
        before, self._before = self._before, (self._queued(), self._lost())
        still, self._still = self._still, frozenset(tally)
        if nodes or tally or still or before != self._before:
            requests, tokens = (sum(counts[i] for counts in tally.values()) / seconds for i in (0, 1))
            yield b"rates", msgspec.json.encode(self._all(round(requests, 2), round(tokens, 2), nodes))

    def _node_rates(self, tally: dict[str, list[int]], seconds: float) -> Iterable[tuple[str, NodeRates]]:
        for node in self._registry:
            told, counts = self._told.get(node.id), _counts(node)
            if told is None or (counts == told.counts and node.id not in tally and node.id not in self._still):
                continue
            told.counts = counts
            requests, tokens = tally.get(node.id, (0, 0))
            yield node.id, NodeRates(*counts, round(requests / seconds, 2), round(tokens / seconds, 2))

    def _all(self, requests: float, tokens: float, nodes: dict[str, NodeRates]) -> Rates:
        in_flight = sum(node.in_flight for node in self._registry)
        queued, lost = self._before
        return Rates(time(), requests, tokens, in_flight, queued, lost, nodes)


def _next(waiting: deque[T]) -> list[T]:
    """Those that are told now, taken out of what waits."""
    for _ in range(len(waiting) - MOST if len(waiting) == BACKLOG else 0):
        waiting.popleft()
    return [waiting.popleft() for _ in range(min(MOST, len(waiting)))]


def _counts(node: Node) -> Counts:
    return node.counts()


def _moved(node: Node, told: _Told) -> bool:
    """Whether its machine reported, or a model came into its memory or left it."""
    return node.report is not told.report or node.warm.keys() != told.warm
