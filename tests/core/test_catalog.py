"""What a request's `model` means (requirement C5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.core.catalog import resolve, spellings

NAMES = st.text(alphabet="ab:/-.", max_size=12)


@pytest.mark.parametrize(
    ("asked", "known", "meant"),
    [
        ("llama3", "llama3", "llama3"),
        ("llama3", "llama3:latest", "llama3:latest"),
        ("llama3:latest", "llama3", "llama3"),
        ("llama3:8b", "llama3:8b", "llama3:8b"),
        ("registry:5000/team/llama3", "registry:5000/team/llama3:latest", "registry:5000/team/llama3:latest"),
    ],
)
def test_ollama_takes_a_missing_tag_for_latest(asked: str, known: str, meant: str) -> None:
    """A name without a tag and the same one with `:latest` are one model, whichever way the node lists it."""
    assert resolve(asked, {known}, tags=True) == meant


@pytest.mark.parametrize("known", ["llama3:latest", "llama3:8b", "LLAMA3", "llama"])
def test_other_apis_match_exactly(known: str) -> None:
    """Outside of the Ollama API an id is just that."""
    assert resolve("llama3", {known}, tags=False) == "llama3"


def test_another_tag_is_another_model() -> None:
    """`llama3` does not mean `llama3:8b`."""
    assert resolve("llama3", {"llama3:8b"}, tags=True) == "llama3"


def test_the_spelling_that_was_asked_for_wins() -> None:
    """Where a node lists both spellings, the caller gets the one it wrote."""
    assert resolve("m", {"m", "m:latest"}, tags=True) == "m"
    assert resolve("m:latest", {"m", "m:latest"}, tags=True) == "m:latest"


@given(NAMES, st.booleans())
def test_a_name_stands_for_itself_first(name: str, tags: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Whatever the name, its own spelling is the likeliest, and an unknown name stays what it was."""
    assert spellings(name, tags=tags)[0] == name
    assert resolve(name, (), tags=tags) == name


@given(NAMES)
def test_the_two_spellings_agree(name: str) -> None:
    """A spelling of a spelling leads back: there are no chains of names."""
    for spelling in spellings(name, tags=True):
        if spelling.endswith(":latest") and not spelling.endswith(":latest:latest"):
            assert name in spellings(spelling, tags=True)
