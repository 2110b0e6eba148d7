"""The inference routes, as the dialects have them."""

from llm_router.wire.dialects.anthropic import ANTHROPIC
from llm_router.wire.dialects.ollama import OLLAMA
from llm_router.wire.dialects.openai import OPENAI
from tools.reference.markdown import code, table

DIALECTS = {"Ollama": (OLLAMA, "NDJSON"), "OpenAI": (OPENAI, "SSE"), "Anthropic": (ANTHROPIC, "SSE")}


def every_route() -> str:
    """Each with its API, and whether it streams."""
    rows = [
        (name, code(f"POST {path.decode()}"), _streams(operation.streams, form))
        for name, (dialect, form) in DIALECTS.items()
        for path, operation in dialect.operations.items()
    ]
    return table(("API", "call", "streams"), rows)


def _streams(unless_told: bool | None, form: str) -> str:  # noqa: FBT001 - as an Operation has it
    if unless_told is None:
        return "never"
    return f'{form}, unless `"stream": false`' if unless_told else f'{form}, if `"stream": true`'
