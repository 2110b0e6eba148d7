"""Which models a node can run, and why not the others (requirements C1, C2, C4)."""

from pathlib import Path

from msgspec.structs import replace

from llm_router.models.gguf import Facts
from llm_router.node.models.runnable import Room, Support, objection, runnable
from llm_router.node.models.store import Format, StoredModel

GB = 1_000_000_000
ROOM = Room(memory=16 * GB, context=4096, parallel=4)
LLAMACPP = Support("llamacpp")
OLLAMA = Support("ollama")


def model(name: str, architecture: str = "llama", size: int = GB, kind: Format = "gguf") -> StoredModel:
    facts = Facts(3, architecture=architecture, blocks=32, embedding=4096, heads=32, kv_heads=256, vocabulary=32_000)
    return StoredModel(
        name, Path(name), size, 0.0, kind, (architecture,), (architecture,), facts if kind == "gguf" else None
    )


def test_known() -> None:
    """A model whose format and architecture a runtime knows, and which has room, can run (C1)."""
    assert not objection(model("a"), [LLAMACPP], ROOM)


def test_a_safetensors_model() -> None:
    """A safetensors model is not listed by a node that has only llama.cpp (C2)."""
    assert "no runtime of this node takes safetensors models" in objection(
        model("a", kind="safetensors"), [LLAMACPP], ROOM
    )


def test_a_metal_only_model() -> None:
    """A model that only Metal can run is not listed by a node that cannot run it (C4)."""
    assert "mlx" in objection(model("a", kind="mlx"), [LLAMACPP, OLLAMA], ROOM)


def test_a_runtime_that_does_not_use_the_store() -> None:
    """Ollama has models of its own: with it alone, no stored model can run."""
    assert objection(model("a"), [OLLAMA], ROOM)
    assert objection(model("a"), [], ROOM)


def test_an_unknown_architecture() -> None:
    """A model whose architecture the runtime says it does not know is not listed, and it is named (C2)."""
    said = Support("llamacpp", frozenset({"brandnew"}))
    assert "brandnew" in objection(model("a", "brandnew"), [said], ROOM)
    assert not objection(model("a", "llama"), [said], ROOM)


def test_one_that_knows_suffices() -> None:
    """One runtime that knows the architecture is enough."""
    assert not objection(model("a", "new"), [Support("llamacpp", frozenset({"new"})), LLAMACPP], ROOM)


def test_too_large() -> None:
    """A model that needs more memory than there is is not listed, and the reason says what it needs of what (C1)."""
    reason = objection(model("a", size=15 * GB), [LLAMACPP], ROOM)
    assert reason.startswith("it needs ")
    assert "15.0 GB of weights, 2.1 GB for its context" in reason
    assert reason.endswith("this machine has 16.0 GB")


def test_a_short_context() -> None:
    """A model that was made for less context than is set needs no more memory than for that."""
    short = model("a", size=13 * GB)
    assert short.facts is not None
    assert objection(short, [LLAMACPP], Room(16 * GB, 32_768, 4))
    assert not objection(replace(short, facts=replace(short.facts, context=512)), [LLAMACPP], Room(16 * GB, 32_768, 4))


def test_memory_unknown() -> None:
    """Where nobody knows how much memory there is, none is refused for it."""
    assert not objection(model("a", size=1000 * GB), [LLAMACPP], Room(0, 4096, 4))


def test_all_of_them() -> None:
    """The models keep their order, and the others are named by their paths."""
    kinds: list[Format] = ["gguf", "safetensors", "gguf"]
    models = [model(name, kind=kind) for name, kind in zip("abc", kinds, strict=True)]
    answer = runnable(models, [LLAMACPP], ROOM)
    assert [m.id for m in answer.models] == ["a", "c"]
    assert list(answer.refused) == [Path("b")]
