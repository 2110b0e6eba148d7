"""Which nodes are asked what: decisions, of what the registry knows.

Every node asked is one that serves, and that speaks Ollama's API: an agent, or an attached Ollama.

    named (`?node=`)       that one, or an error
    pull                   who has it, else who lists it because the catalogue offers it, else who has an Ollama:
                           the best of them, or all
    delete, copy, push     who has it
    create                 of those with an Ollama, who has the blobs; then who has the base; then the best
    blobs                  of those with an Ollama, where this client's last blob went; then the best
"""

from collections.abc import Collection, Iterable

from llm_router.core.health import State
from llm_router.core.node import BUSY_CPU, Node
from llm_router.core.registry import IN_ROTATION, Registry
from llm_router.errors import BadRequest, ModelNotFound, NoCapableNodes, NodeNotFound
from llm_router.models.ollama.asked import resolved

NEEDS_OLLAMA = "no node that is online has an Ollama, which it takes"
_SPEAKS = frozenset({"agent", "ollama"})


def serving(registry: Registry) -> list[Node]:
    """Those that can be asked at all."""
    return [n for n in registry if n.kind in _SPEAKS and n.state in IN_ROTATION and n.address is not None]


def meant(registry: Registry, wanted: str) -> list[Node]:
    """Those that can be asked; if one is named, that one.

    Raises:
        NodeNotFound: no node has this id or name.
        BadRequest: several have this name.
        NoCapableNodes: it cannot be asked.
    """
    if not wanted:
        return serving(registry)
    found = [registry.nodes[wanted]] if wanted in registry.nodes else [n for n in registry if n.name == wanted]
    if not found:
        raise NodeNotFound(f"no node has the id or the name '{wanted}'")
    if len(found) > 1:
        raise BadRequest(f"{len(found)} nodes are called '{wanted}': say which by its id, {found[0].id} for one")
    if found[0] not in serving(registry):
        raise NoCapableNodes(f"node '{wanted}' is {found[0].state.value}, or does not speak Ollama's API")
    return found


def holding(nodes: Iterable[Node], model: str) -> list[Node]:
    """Those that have it, and would not have to fetch it."""
    return [node for node in nodes if model in node.models and model not in node.absent]


def having_ollama(nodes: Iterable[Node]) -> list[Node]:
    """Those with an Ollama that serves, or that are one."""
    return [n for n in nodes if n.kind == "ollama" or any(runtime.kind == "ollama" for runtime in n.runtimes)]


def to_pull(registry: Registry, name: str, wanted: str, *, every: bool) -> list[Node]:
    """Those that shall fetch it. `every`: all that can, where none is named.

    Raises:
        NoCapableNodes: there is none; and what `meant` raises.
    """
    nodes = meant(registry, wanted)
    if wanted:
        return nodes  # it says itself whether it can
    model = resolved(name, registry)
    usable = [node for node in nodes if not node.settings.drain] or nodes
    listing = [node for node in usable if model in node.models]
    found = listing or having_ollama(usable)
    if not found:
        raise NoCapableNodes(f"{NEEDS_OLLAMA} to pull '{name}': it is no model of the catalogue")
    return found if every else holding(listing, model) or [best(found)]


def to_change(registry: Registry, name: str, wanted: str) -> tuple[str, list[Node]]:
    """The model's id, and those that have it.

    Raises:
        ModelNotFound: there is none; and what `meant` raises.
    """
    model = resolved(name, registry)
    found = holding(meant(registry, wanted), model)
    if not found:
        raise ModelNotFound(f"model '{name}' not found")
    return model, found


def to_create(registry: Registry, wanted: str) -> list[Node]:
    """Those that could create a model.

    Raises:
        NoCapableNodes: there is none; and what `meant` raises.
    """
    found = having_ollama(meant(registry, wanted))
    if not found:
        raise NoCapableNodes(f"{NEEDS_OLLAMA} to create a model")
    return found


def best(nodes: Collection[Node], base: str = "") -> Node:
    """Where a new model does most good. `base`: a model that it is made of.

    Who is in order, not busy, has the base and the most graphics memory; then who has the least to do.
    """
    return min(nodes, key=lambda node: (_troubled(node), not holding([node], base), *_room(node), node.name, node.id))


def _troubled(node: Node) -> bool:
    return node.state is State.SUSPECT or node.report.cpu > BUSY_CPU or node.settings.drain


def _room(node: Node) -> tuple[int, int, int]:
    graphics = sum(gpu.memory_total for gpu in node.report.gpus)
    return -graphics, node.in_flight, len(node.models)
