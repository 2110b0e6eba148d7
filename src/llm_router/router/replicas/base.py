"""What the rest of the router has to know of replicas; and a router that is the only one."""

from collections.abc import Sequence
from typing import Protocol

from llm_router.router.replicas.messages import Message


class Replicas(Protocol):
    """All that are one router, as this process sees them."""

    @property
    def name(self) -> str:
        """What this one is known by; another one at each start."""

    @property
    def others(self) -> Sequence[str]:
        """The names of those that were heard lately."""

    @property
    def trouble(self) -> str:
        """Why nothing is heard of others; empty while something would be."""

    @property
    def on_duty(self) -> bool:
        """Whether what only one of them should do is for this one to do."""

    def send(self, message: Message) -> None:
        """Tell the others, soon; never waits, never fails."""

    async def acted(self) -> None:
        """Wait until the others have done what they do about what they were told, if nothing holds them up."""

    def keeps(self, node_id: str) -> bool:
        """Whether this one puts on record what all of them notice of a node."""

    def reports_here(self, node_id: str) -> None:
        """The node's agent was heard here."""


class Alone:
    """One process, on a database of its own."""

    name = ""
    others: Sequence[str] = ()
    trouble = ""
    on_duty = True

    def send(self, message: Message) -> None:
        """There is nobody to tell."""

    async def acted(self) -> None:
        """Nor to wait for."""

    def keeps(self, node_id: str) -> bool:  # noqa: ARG002 - Replicas'
        """Nobody else would."""
        return True

    def reports_here(self, node_id: str) -> None:
        """Where else."""
