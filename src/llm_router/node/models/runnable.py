"""Which of the stored models this node can run, and why not the others (requirements C1, C2).

A runtime says which architectures it knows, as far as it can say (`asking.py`); a model's files say what it needs. No
model is known by name here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from llm_router.models.memory import in_words, need
from llm_router.node.models.store import StoredModel

# Formats that a runtime takes from the store. A runtime that is not here has models of its own, and lists them itself.
FORMATS: dict[str, frozenset[str]] = {"llamacpp": frozenset({"gguf"})}


class Support(msgspec.Struct, frozen=True):
    """A runtime of this node, by its kind; `unknown`: architectures that it said it does not know."""

    kind: str
    unknown: frozenset[str] = frozenset()

    def takes(self, model: StoredModel) -> bool:
        """Whether it reads files of this format at all."""
        return model.format in FORMATS.get(self.kind, ())


class Room(msgspec.Struct, frozen=True):
    """What models have here: `memory` in bytes, 0 where nobody knows; `parallel` requests of `context` tokens each."""

    memory: int
    context: int
    parallel: int


class Runnable(msgspec.Struct, frozen=True):
    """The models that can run here, and for each of the others, by its path, the reason why not."""

    models: list[StoredModel]
    refused: dict[Path, str]


def runnable(models: Iterable[StoredModel], runtimes: Sequence[Support], room: Room) -> Runnable:
    """Tell apart what can run here and what cannot."""
    good, refused = [], {}
    for model in models:
        reason = objection(model, runtimes, room)
        if reason:
            refused[model.path] = reason
        else:
            good.append(model)
    return Runnable(good, refused)


def objection(model: StoredModel, runtimes: Sequence[Support], room: Room) -> str:
    """Why this model cannot run here; empty: it can."""
    takers = [runtime for runtime in runtimes if runtime.takes(model)]
    if not takers:
        return f"no runtime of this node takes {model.format} models"
    if all(runtime.unknown.intersection(model.architectures) for runtime in takers):
        kinds, names = ", ".join(runtime.kind for runtime in takers), ", ".join(model.architectures)
        return f"its architecture is unknown here: {names}; a newer version of {kinds} may know it"
    if model.facts is None or not room.memory:
        return ""
    context = min(room.context, model.facts.context or room.context)  # no model is run with more than it was made for
    needed = need(model.facts, model.size, context=context, parallel=room.parallel)
    return "" if needed.total <= room.memory else f"it needs {needed}; this machine has {in_words(room.memory)}"
