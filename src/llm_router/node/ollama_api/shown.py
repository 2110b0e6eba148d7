"""What `/api/show` says of a model of llama.cpp's: what its file says, in the fields that Ollama has for that.

Sources: ollama/ollama `api/types.go` (ShowResponse); ggml, `docs/gguf.md` (the keys of `model_info`).
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from llm_router.contract import ModelDetails, ModelEntry
from llm_router.models.gguf import Facts
from llm_router.node.models.store import StoredModel

FOREIGN = "# This model is not Ollama's: llama.cpp runs it from its file\n"


class Shown(msgspec.Struct, frozen=True):
    """The answer. `model_info` is null where nothing is known: the `ollama` command takes an empty one for full."""

    modelfile: str
    parameters: str
    template: str
    details: ModelDetails
    model_info: dict[str, Any] | None
    capabilities: list[str]
    modified_at: str


def shown(model: StoredModel | None, entry: ModelEntry) -> Shown:
    """Of one that is stored, or of one that is not, of which only its `entry` is known."""
    facts = model.facts if model is not None else None
    return Shown(
        modelfile=f"{FOREIGN}FROM {entry.id}\n",
        parameters="",
        template="",
        details=entry.details or ModelDetails(),
        model_info=_info(facts) if facts is not None else None,
        capabilities=["embedding" if facts is not None and facts.embeds else "completion"],
        modified_at=entry.modified or datetime.fromtimestamp(0, UTC).isoformat(),
    )


def _info(facts: Facts) -> dict[str, Any]:
    """The keys of its header, without what that does not say. The `ollama` command relies on the first two."""
    of_all = {"name": facts.name, "file_type": facts.file_type}
    of_this = {
        "context_length": facts.context,
        "embedding_length": facts.embedding,
        "block_count": facts.blocks,
        "attention.head_count": facts.heads,
        "vocab_size": facts.vocabulary,
    }
    return {
        "general.architecture": facts.architecture,
        "general.parameter_count": facts.count,
        **{f"general.{key}": value for key, value in of_all.items() if value not in ("", None)},
        **{f"{facts.architecture}.{key}": value for key, value in of_this.items() if value},
    }
