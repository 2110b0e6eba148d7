"""Which models llama.cpp has to do with here: those stored that it can run, and those offered that it could.

Everything here reads the disk, and may ask llama.cpp: call it from a thread.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from llm_router.config import NodeConfig
from llm_router.models.manifest import Offer
from llm_router.node.models.asking import LlamaCpp as Asked
from llm_router.node.models.describe import as_stored
from llm_router.node.models.resolve import resolve
from llm_router.node.models.runnable import Room, Support, runnable
from llm_router.node.models.store import Store, StoredModel

KIND = "llamacpp"


class Look(msgspec.Struct, frozen=True):
    """What one look showed, by id. `offered`: as they would be if they were stored; `refused`: files, and why."""

    stored: dict[str, StoredModel] = {}
    offered: dict[str, StoredModel] = {}
    refused: dict[Path, str] = {}


class Stock:
    """The store, the router's offers, and what this machine can run of them."""

    def __init__(self, store: Store, config: NodeConfig) -> None:
        self._store = store
        self._config = config
        self._asked = Asked()
        self._budget = math.inf

    def can(self, server: str, budget: float) -> None:
        """What runs models is this `llama-server`, or with "" the wheel; they may take so many bytes."""
        self._asked = Asked(server)
        self._budget = budget

    def look(self, offers: Mapping[str, Offer]) -> Look:
        """What there is now."""
        scan = self._store.scan()
        ours = {model.id: model for model in scan.models}
        resolved = [resolve(model, ours, offers) for model in offers]
        offered = [as_stored(way.manifest) for way in resolved if isinstance(way, Offer) and _is_for_us(way)]
        names = {name for model in (*scan.models, *offered) if model.format == "gguf" for name in model.architectures}
        support = [Support(KIND, self._asked.unknown(names))]
        room = Room(0 if self._budget == math.inf else int(self._budget), self._config.context, self._config.parallel)
        stored, possible = runnable(scan.models, support, room), runnable(offered, support, room)
        return Look(
            {model.id: model for model in stored.models},
            {model.id: model for model in possible.models},
            scan.skipped | stored.refused,
        )


def _is_for_us(offer: Offer) -> bool:
    return not offer.manifest.runtimes or KIND in offer.manifest.runtimes
