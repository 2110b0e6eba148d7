"""One of several replicas: what it says to the others, and what is its own to do."""

import asyncio
from collections.abc import Container, Sequence

from llm_router.core.elsewhere import Elsewhere
from llm_router.router.replicas.bus import Bus

# Seconds: 20 ms until a letter leaves, and a reading of the table that it is about; all had done so after 60 ms.
ACTED = 0.2


class Among:
    """A `Replicas`, on a bus."""

    def __init__(self, bus: Bus, elsewhere: Elsewhere) -> None:
        self.bus = bus
        self._elsewhere = elsewhere
        self._keepers: dict[str, str] = {}  # node id -> the replica to which its agent spoke last
        self.send = bus.send

    @property
    def name(self) -> str:
        """See `Replicas`, here and below."""
        return self.bus.replica

    @property
    def others(self) -> Sequence[str]:  # noqa: D102
        return self._elsewhere.replicas

    @property
    def trouble(self) -> str:  # noqa: D102
        return self.bus.trouble

    @property
    def on_duty(self) -> bool:  # noqa: D102
        return self.bus.on_duty

    async def acted(self) -> None:  # noqa: D102
        if self.others:
            await asyncio.sleep(ACTED)  # noqa: TID251 - they do not say when

    def keeps(self, node_id: str) -> bool:
        """The one to which its agent speaks; for a server without an agent, and if that one is gone, who is on duty."""
        keeper = self._keepers.get(node_id)
        if keeper == self.name or keeper in self._elsewhere.replicas:
            return keeper == self.name
        return self.on_duty

    def reports_here(self, node_id: str) -> None:  # noqa: D102
        self._keepers[node_id] = self.name

    def is_here(self, node_id: str) -> bool:
        """Whether the node's agent spoke to this one last."""
        return self._keepers.get(node_id) == self.name

    def reports_there(self, node_id: str, replica: str) -> None:
        """The node's agent was heard by another one."""
        self._keepers[node_id] = replica

    def keep_only(self, ids: Container[str]) -> None:
        """These are the nodes that there still are."""
        self._keepers = {node_id: keeper for node_id, keeper in self._keepers.items() if node_id in ids}
