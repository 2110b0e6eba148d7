"""Where a model comes from (requirements H1, H7): nothing here touches a disk or a network."""

from pathlib import Path

import pytest

from llm_router.errors import ModelNotFound
from llm_router.models.manifest import Manifest, ModelFile, Offer
from llm_router.node.models.resolve import Source, file_names, manifest_url, resolve, sources
from llm_router.node.models.store import StoredModel

STORED = StoredModel("m", Path("m.gguf"), 1, 0.0)
OFFER = Offer(Manifest("m", "gguf", [ModelFile("f.gguf", 1)]))
ROUTER = "http://router:8080"


def kinds(file: ModelFile, router: str = ROUTER, *, allowed: bool = True) -> list[str]:
    return [source.kind for source in sources("m", file, router, lambda _url: allowed)]


def test_what_is_stored_is_used() -> None:
    """H1: a stored model is never fetched, whatever is offered under its name."""
    assert resolve("m", {"m": STORED}, {"m": OFFER}) is STORED


def test_what_is_offered_is_fetched() -> None:
    """H1: next comes what the router offers."""
    assert resolve("m", {"n": STORED}, {"m": OFFER}) is OFFER


def test_what_is_nowhere_is_said_to_be() -> None:
    """H1: a clear error, which names the model."""
    with pytest.raises(ModelNotFound, match="'m' not found"):
        resolve("m", {}, {})


def test_the_order_of_sources() -> None:
    """Nodes that have it, then the router, then where it is from."""
    file = ModelFile("f.gguf", 1, "ab", "https://hub.example/f.gguf", ["http://a/f", "http://b/f"])
    assert kinds(file) == ["peer", "peer", "router", "origin"]


def test_an_origin_that_is_not_allowed_is_not_asked() -> None:
    """H3: the node's own list of origins counts, too."""
    file = ModelFile("f.gguf", 1, "ab", "https://hub.example/f.gguf")
    assert kinds(file, allowed=False) == ["router"]


def test_without_a_checksum_no_node_is_believed() -> None:
    """Nobody could tell whether what a node gives is what was registered."""
    assert kinds(ModelFile("f.gguf", 1, "", "", ["http://a/f"])) == ["router"]


def test_names_in_urls() -> None:
    """A name is written so that the router reads it as it is (H6)."""
    assert manifest_url(ROUTER, "org/m:q8_0") == f"{ROUTER}/v0/models/registry/org/m:q8_0/manifest.json"
    (source,) = sources("org/m", ModelFile("a b#1.gguf", 1), ROUTER, lambda _url: False)
    assert source == Source("router", f"{ROUTER}/v0/models/registry/org/m/files/a%20b%231.gguf")


def test_a_list_without_files_makes_no_sense() -> None:
    """A model has at least one file."""
    with pytest.raises(ModelNotFound, match="makes no sense"):
        file_names(Manifest("m", "gguf", []))
