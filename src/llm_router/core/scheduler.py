"""Who gets a request. One tree of decisions; the numbers stand in the code.

    1  no node has ever come                             -> NoNodes           503
    2  every node is offline                             -> AllNodesOffline   503
    3  nobody lists the model                            -> ModelNotFound     404
    4  the online nodes that list it, less those that have failed this request
       4a  none: the suspects among them, likewise
       4b  none                                          -> NoCapableNodes    503
    5  the policy chooses                                -> Lease

In the code 4 stands first, since it is what nearly every request asks. A lease counts as in flight until `on_done`,
once (requirement B7).
"""

from collections.abc import Collection

from llm_router.core.health import State
from llm_router.core.policies import Policy
from llm_router.core.registry import Node, Registry
from llm_router.errors import AllNodesOffline, ModelNotFound, NoCapableNodes, NoNodes, RouterError


class Lease:
    """One request's place on one node. Give it back with `Scheduler.on_done`, whatever happens."""

    __slots__ = ("model", "node", "open", "since")

    def __init__(self, node: Node, model: str, since: float) -> None:
        self.node = node
        self.model = model
        self.since = since
        self.open = True


class Scheduler:
    """Admits requests to nodes. It never waits: every call returns its decision."""

    def __init__(self, registry: Registry, policy: Policy) -> None:
        self._registry = registry
        self._policy = policy
        self._turn = 0

    def on_request(self, model: str, now: float, tried: Collection[str] = ()) -> Lease | RouterError:
        """A place for this request, or why there is none. `tried`: ids of nodes that have failed it already."""
        candidates = self._candidates(model, tried)
        if not candidates:
            return self._refusal(model)
        node = candidates[0] if len(candidates) == 1 else self._policy(candidates)  # 5
        self._turn += 1
        node.last_chosen = self._turn
        node.in_flight += 1
        return Lease(node, model, now)

    def on_done(self, lease: Lease, *, failed: bool) -> None:
        """The request ended, well or badly. A second call changes nothing."""
        if not lease.open:
            return
        lease.open = False
        lease.node.in_flight -= 1
        if failed:
            lease.node.failed += 1
        else:
            lease.node.done += 1

    def _candidates(self, model: str, tried: Collection[str]) -> list[Node]:
        registry = self._registry
        online = registry.online.get(model)  # 4
        if online and not tried:
            return online
        left = [n for n in online or () if n.id not in tried]
        return left or [n for n in registry.suspects.get(model, ()) if n.id not in tried]  # 4a

    def _refusal(self, model: str) -> RouterError:
        registry = self._registry
        if not registry.nodes:  # 1
            return NoNodes("no available nodes: start one with `llm-router node --router URL`")
        if all(node.state is State.OFFLINE for node in registry):  # 2
            return AllNodesOffline("all nodes are offline")
        if model not in registry:  # 3
            return ModelNotFound(f"model '{model}' not found: no node lists it")
        return NoCapableNodes(f"no online node can run model '{model}' now")  # 4b
