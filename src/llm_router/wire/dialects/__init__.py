"""The three APIs that clients speak, and the table of their inference paths."""

from llm_router.wire.dialects.anthropic import ANTHROPIC
from llm_router.wire.dialects.base import Dialect, Operation
from llm_router.wire.dialects.ollama import OLLAMA
from llm_router.wire.dialects.openai import OPENAI

__all__ = ["ANTHROPIC", "OLLAMA", "OPENAI", "OPERATIONS", "dialect_of"]

OPERATIONS: dict[bytes, Operation] = {**OLLAMA.operations, **OPENAI.operations, **ANTHROPIC.operations}


def dialect_of(path: bytes) -> Dialect:
    """Whose shape an error on `path` has. `/v0` and what is nobody's: OpenAI's, which has all fields of `/v0`'s."""
    if path.startswith(b"/api/"):
        return OLLAMA
    return ANTHROPIC if path.startswith(b"/v1/messages") else OPENAI
