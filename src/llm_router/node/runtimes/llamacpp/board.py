"""What the node's registry is told of llama.cpp's models: an upstream for each, stored or not."""

import time

from llm_router.contract import Heartbeat, Progress
from llm_router.core.health import State
from llm_router.core.node import DIALECTS, Node
from llm_router.core.registry import Registry
from llm_router.models.manifest import Offer
from llm_router.node.models.describe import entry
from llm_router.node.models.store import StoredModel


def upstream_of(model_id: str) -> str:
    """The upstream of this model."""
    return f"llamacpp/{model_id}"


class Board:
    """The upstreams of one runtime."""

    def __init__(self, registry: Registry, parallel: int) -> None:
        """`parallel`: requests that each answers at once."""
        self._registry = registry
        self._parallel = parallel

    def upstream(self, model: StoredModel) -> Node:
        """Its upstream, which is made where there is none yet."""
        name = upstream_of(model.id)
        if name not in self._registry.nodes:
            dialects, slots = DIALECTS["llamacpp"], self._parallel
            node = Node(
                name, model.id, "llamacpp", None, dialects=dialects, slots=slots, local=True, state=State.ONLINE
            )
            self._registry.add(node, time.monotonic())
        return self._registry.nodes[name]

    def tell(self, model: StoredModel, offer: Offer | None, *, stored: bool) -> bool:
        """List it; whether what is told of it is other than before."""
        upstream = self.upstream(model)
        told = entry(model, offer.manifest if offer else None, stored=stored)
        if upstream.entries.get(model.id) == told:
            return False
        self._registry.list_models(upstream.id, [model.id], time.monotonic(), [told])
        return True

    def withdraw(self, name: str) -> bool:
        """List it no more, unless somebody still asks for it; whether that is so."""
        if self._registry.nodes[name].in_flight:
            return False
        self._registry.remove(name)
        return True

    def report(self, name: str, under_way: list[Progress]) -> None:
        """How far its download is, as a router hears it of a node; with none, it is not being fetched."""
        self._registry.heartbeat(name, Heartbeat(progress=under_way), time.monotonic())
