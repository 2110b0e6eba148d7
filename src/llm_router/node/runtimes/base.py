"""What the agent asks of a runtime.

A runtime puts what it can run into the node's registry as upstreams: one entry per llama.cpp process, one per attached
server. The node's gateway routes to these entries just as the router's does to nodes.
"""

from typing import Protocol

from llm_router.contract import Address, Progress, RuntimeFacts
from llm_router.node.models.store import StoredModel
from llm_router.wire.wishes import Wishes


class Runtime(Protocol):
    """One inference server, or a family of them, under the agent's care."""

    async def start(self) -> None:
        """Make the runtime's models known to the registry. Returns once they are listed."""

    async def stop(self) -> None:
        """End every process of ours and wait for it."""

    def facts(self) -> RuntimeFacts:
        """Kind, version and slots, for the registration."""

    def loaded(self) -> list[str]:
        """Models that are in memory now."""

    def progress(self) -> list[Progress]:
        """What it is fetching."""
        return []

    async def wake(self, upstream_id: str) -> Address | None:
        """Bring up one of this runtime's upstreams that has no address; None: not one of ours.

        Raises:
            UpstreamFailed: it did not come up; the message says why.
            QueueTimeout: it is well, but there is no room for it now.
        """

    async def check(self, upstream_id: str) -> None:
        """A request to this upstream failed: look at it, and tell the registry. Not ours: nothing."""

    def prepare(self, upstream_id: str, wishes: Wishes) -> None:  # noqa: ARG002 - an override's
        """A request on its way to this upstream asks for this. Not ours, or it sees to that by itself: nothing."""
        return

    def served(self, upstream_id: str) -> None:  # noqa: ARG002 - an override's
        """A request to this upstream has ended. Not ours, or of no interest: nothing."""
        return

    def find(self, model: str) -> StoredModel | None:  # noqa: ARG002 - an override's
        """The model of this name, where it is one of the node's store that this runtime runs."""
        return None

    async def rescan(self) -> None:
        """What is stored may be other than before: list it now."""
        return

    def offered(self) -> None:
        """What the router offers is other than before."""
        return

    def fetching(self) -> None:
        """A model begins to be fetched, or is fetched no more."""
        return
