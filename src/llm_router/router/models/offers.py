"""What the router offers each node: every model of the catalogue, and which of them that node shall have.

A node asks for it when its number has changed (`contract.Seen.catalogue`): the number is made of what the answer would
be, so it is another one whenever that is, also after a restart of the router.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Protocol

import msgspec

from llm_router.core.node import Node
from llm_router.core.registry import IN_ROTATION, Registry
from llm_router.models.manifest import Offer
from llm_router.router.models.entry import Entry
from llm_router.router.models.placement import Place, Wish, place

AT_MOST_EVERY = 1.0  # seconds between two looks at who shall have what: a thousand nodes report every five


class Catalogue(Protocol):
    """What is needed of `catalogue.Catalogue`: its entries by name, and a number that changes when one does."""

    version: int

    def __iter__(self) -> Iterator[Entry]: ...

    def find(self, name: str) -> Entry | None:
        """The entry of this name."""


class Offers:
    """Decides who shall have what, and says so to each node."""

    def __init__(
        self,
        catalogue: Catalogue,
        registry: Registry,
        clock: Callable[[], float] = time.monotonic,
        *,
        decides: Callable[[], bool] = lambda: True,
    ) -> None:
        """`clock`: seconds, on any clock. `decides`: whether this replica does; else it is told by `decide`."""
        self._catalogue = catalogue
        self._registry = registry
        self._clock = clock
        self._wanted: dict[str, frozenset[str]] = {}
        self._away: dict[str, float] = {}
        self._decides = decides
        self._looked = 0.0
        self._version = -1  # of the catalogue, when these two were read from it
        self._wishes: list[Wish] = []
        self._content = b""  # all of it, in short

    def of(self, node_id: str) -> list[Offer]:
        """Every model of the catalogue, for this node."""
        self._look()
        return [self._offer(entry, node_id) for entry in self._catalogue]

    def number(self, node_id: str) -> int:
        """Another one whenever `of` answers something else; 0: there is nothing."""
        self._look()
        wanted = sorted(model for model, nodes in self._wanted.items() if node_id in nodes)
        if not self._content:
            return 0
        # 53 bits: what every reader of JSON takes for a whole number (RFC 8259, section 6). 0 has a meaning of its own.
        return int.from_bytes(sha256(self._content + msgspec.json.encode(wanted)).digest()[:8]) % (2**53 - 1) + 1

    def wanted(self, model: str) -> frozenset[str]:
        """The nodes that shall have this model, without anybody asking for it first."""
        self._look()
        return self._wanted.get(model, frozenset())

    def decided(self) -> dict[str, list[str]]:
        """The nodes that shall have each model, decided now: for those who do not decide."""
        self._look()
        return {model: sorted(nodes) for model, nodes in sorted(self._wanted.items())}

    def decide(self, wanted: Mapping[str, Iterable[str]]) -> None:
        """It was decided elsewhere."""
        self._wanted = {model: frozenset(nodes) for model, nodes in wanted.items()}

    def _offer(self, entry: Entry, node_id: str) -> Offer:
        wanted = node_id in self._wanted.get(entry.name, ())
        return Offer(entry.manifest, wanted, wanted and entry.placement.preload)

    def _look(self) -> None:
        """Decide anew, unless that was just done for the same catalogue."""
        version, now = self._catalogue.version, self._clock()
        if version == self._version and now - self._looked < AT_MOST_EVERY:
            return
        if version != self._version:
            self._read(version)
        self._looked = now
        if not self._decides():
            return
        agents = [node for node in self._registry if node.kind == "agent"]
        self._away = {node.id: self._away.get(node.id, now) for node in agents if not is_here(node)}
        places = [as_place(node, self._away.get(node.id)) for node in agents]
        self._wanted = place(self._wishes, places, self._wanted, now)

    def _read(self, version: int) -> None:
        entries = list(self._catalogue)
        self._version = version
        self._wishes = [wish_of(entry) for entry in entries if entry.placement.standing]
        said = msgspec.json.encode([(entry.manifest, entry.placement.preload) for entry in entries])
        self._content = sha256(said).digest() if entries else b""


def wish_of(entry: Entry) -> Wish:
    """What placement has to know of a model."""
    return Wish(entry.name, entry.placement.nodes, tuple(entry.placement.pinned))


def is_here(node: Node) -> bool:
    """Whether it can answer requests: a drained one is as good as away."""
    return node.state in IN_ROTATION and not node.settings.drain


def as_place(node: Node, away: float | None) -> Place:
    """What placement has to know of a node."""
    return Place(
        node.id,
        listed=frozenset(node.models),
        has=frozenset(node.models) - node.absent,
        fetching=frozenset(node.fetching),
        room=room(node),
        away=away,
    )


def room(node: Node) -> int:
    """Bytes of memory that it could spare for models: its graphics processors', or the machine's."""
    report = node.report
    gpus = sum(max(0, gpu.memory_total - gpu.memory_used) for gpu in report.gpus)
    return gpus or int(report.memory_total * max(0.0, 1 - report.memory / 100))
