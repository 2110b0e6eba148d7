"""Which files are one model."""

from pathlib import Path

import pytest

from llm_router.models.unreadable import Unreadable
from llm_router.node.models.bundles import bundles


def names(*files: str) -> dict[str, tuple[str, ...]]:
    """The models that these files make, and the files of each."""
    return {bundle.path.name: tuple(f.name for f in bundle.files) for bundle in bundles(map(Path, files))}


def test_alone() -> None:
    """A file with no number is a model of its own."""
    assert names("b.gguf", "a.Q4_K_M.gguf", "c.GGUF") == {
        "a.Q4_K_M": ("a.Q4_K_M.gguf",),
        "b": ("b.gguf",),
        "c": ("c.GGUF",),
    }


def test_numbered() -> None:
    """Files that number themselves are one model, in that order."""
    assert names("m-00002-of-00002.gguf", "n.gguf", "m-00001-of-00002.gguf") == {
        "m": ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
        "n": ("n.gguf",),
    }


@pytest.mark.parametrize("name", ["m-1-of-2", "m-00003-of-00002", "m-00000-of-00002", "-00001-of-00002"])
def test_not_numbered(name: str) -> None:
    """A number of another form, or of which there cannot be so many, is part of a name."""
    assert names(f"{name}.gguf") == {name: (f"{name}.gguf",)}


def test_two_of_one_name() -> None:
    """A model in two files, one in three and one alone are three models, whatever they are called."""
    twos = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    threes = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]
    found = bundles(map(Path, [*threes, "m.gguf", *twos]))
    assert [(bundle.count, len(bundle.files)) for bundle in found] == [(1, 1), (2, 2), (3, 3)]


def test_complete() -> None:
    """When all files are there, there is nothing to object to."""
    for bundle in bundles(map(Path, ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "x.gguf"])):
        bundle.check()


def test_incomplete() -> None:
    """Files that are not there are named by their numbers, the first five of them."""
    (bundle,) = bundles(map(Path, ["m-00002-of-00008.gguf"]))
    with pytest.raises(Unreadable, match=r"one of 8 files .* not here: 1, 3, 4, 5, 6, …$"):
        bundle.check()
