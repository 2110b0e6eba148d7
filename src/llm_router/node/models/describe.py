"""What a node says of its models: an entry for each in its lists (requirement C8), and the shape of one not fetched."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from llm_router.contract import ModelDetails, ModelEntry
from llm_router.models.architecture import normalise
from llm_router.models.manifest import Manifest
from llm_router.node.models.store import StoredModel


def as_stored(manifest: Manifest) -> StoredModel:
    """What an offered model will be when it is stored, as far as the manifest tells."""
    named = tuple(manifest.architectures)
    if manifest.format == "gguf":  # in llama.cpp's words only: whoever runs it knows no others
        named = (manifest.facts.architecture,) if manifest.facts else ()
    return StoredModel(
        manifest.model,
        Path(manifest.model),
        manifest.size,
        0.0,
        manifest.format,
        architectures=named,
        families=tuple(normalise(named)),
        facts=manifest.facts,
    )


def entry(model: StoredModel, manifest: Manifest | None, *, stored: bool) -> ModelEntry:
    """What is told of a model. `manifest`: what the router offers under its name."""
    at = datetime.fromtimestamp(model.modified, UTC).isoformat()
    return ModelEntry(
        model.id,
        created=int(model.modified),
        size=model.size,
        stored=stored,
        digest=_digest(model, manifest) or msgspec.UNSET,
        modified=at if stored else msgspec.UNSET,
        details=_details(model),
    )


def _digest(model: StoredModel, manifest: Manifest | None) -> str:
    """The checksum of a model's only file, where the router knows it and this is that file, by its size."""
    if manifest is None or len(manifest.files) != 1 or manifest.size != model.size:
        return ""
    return manifest.files[0].sha256


def _details(model: StoredModel) -> ModelDetails:
    facts = model.facts
    known = facts is not None and facts.file_type is not None
    return ModelDetails(
        format=model.format,
        family=facts.architecture if facts else next(iter(model.families), ""),
        families=list(model.families),
        quantization_level=facts.quantization if facts and known else "",
    )
