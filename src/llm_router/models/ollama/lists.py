"""What is in memory elsewhere, as Ollama's clients see it (`GET /api/ps`)."""

from datetime import timedelta

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import UpstreamFailed
from llm_router.models.ollama.calls import Calls, Refused, Server
from llm_router.wire.dialects.ollama import PsModel

ANSWER_WITHIN = 2.0  # seconds; whoever asks looks at a list, and shall not wait for one that is late
KEPT = timedelta(minutes=5)  # what Ollama shows for a model that was just used (OLLAMA_KEEP_ALIVE)


class _Ps(msgspec.Struct):
    models: list[PsModel] | None = None


async def loaded_by(calls: Calls, server: Server) -> list[PsModel] | None:
    """What a server has in memory; None: it does not say."""
    try:
        body = await calls.ask(server, "GET", "/api/ps", seconds=ANSWER_WITHIN)
        return msgspec.json.decode(body, type=_Ps).models or []
    except (Refused, UpstreamFailed, *UNREADABLE):
        return None
