"""Where the blobs go of which a client is about to create a model."""

from llm_router.router.ollama_api.places import CLIENTS, MEANT_FOR, Places


def test_a_place_is_kept_for_a_while() -> None:
    """Each client has its own; after a while the next blob belongs to another model."""
    places = Places()
    places.put("a", "n1", 0.0)
    assert places.of("a", MEANT_FOR) == "n1"
    assert places.of("a", MEANT_FOR + 1) == ""
    assert places.of("b", 0.0) == ""


def test_only_so_many_are_remembered() -> None:
    """Those who were here last."""
    places = Places()
    for number in range(CLIENTS + 1):
        places.put(str(number), "n1", 0.0)
    assert places.of("0", 0.0) == ""
    assert places.of("1", 0.0) == places.of(str(CLIENTS), 0.0) == "n1"
