"""What a replica would say to the others, kept."""

from typing import TYPE_CHECKING

from llm_router.router.replicas.messages import Message

if TYPE_CHECKING:
    from collections.abc import Sequence


class Said:
    """A `Replicas`; `kept`: whether it keeps the nodes."""

    name = "me"
    trouble = ""

    def __init__(self, *, on_duty: bool = True, kept: bool = True) -> None:
        self.on_duty = on_duty
        self.kept = kept
        self.others: Sequence[str] = ("other",)
        self.said: list[Message] = []
        self.here: list[str] = []
        self.waited = 0

    def send(self, message: Message) -> None:
        self.said.append(message)

    async def acted(self) -> None:
        self.waited += 1

    def keeps(self, _node_id: str) -> bool:
        return self.kept

    def reports_here(self, node_id: str) -> None:
        self.here.append(node_id)
