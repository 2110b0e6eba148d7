"""What `/api/pull` has Ollama fetch now, as the heartbeat and the terminal show it (requirement G5)."""

from contextlib import aclosing, suppress

import msgspec

from llm_router.contract import UNREADABLE, Progress
from llm_router.models.ollama.calls import Lines
from llm_router.node.runtimes.ollama.models import Fetch, Record


class Pulls:
    """Those under way."""

    def __init__(self) -> None:
        self._fetches: list[Fetch] = []

    def progress(self) -> list[Progress]:
        """How far each is."""
        return [fetch.progress() for fetch in self._fetches]

    async def follow(self, model: str, lines: Lines) -> Lines:
        """The same lines, read on their way."""
        fetch = Fetch(model)
        self._fetches.append(fetch)
        try:
            async with aclosing(lines) as running:
                async for line in running:
                    with suppress(*UNREADABLE):  # whoever asked will say so
                        fetch.note(msgspec.json.decode(line, type=Record))
                    yield line
        finally:
            self._fetches.remove(fetch)
