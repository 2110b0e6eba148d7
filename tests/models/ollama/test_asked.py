"""What Ollama's model endpoints are asked."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import BadRequest
from llm_router.models.ollama.asked import Create, Named, checked, checked_digest, read, resolved, with_fields

GOOD = [
    "llama3.2:1b",
    "hf.co/Org/Model-GGUF:Q4_K_M",
    "127.0.0.1:5000/library/tiny",
    "http://127.0.0.1:5000/library/tiny",
]
PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "a", "con", "nul", ":", "%2e", "%2f", "\x00", "~", "http://", "C:", "-"]
)


@pytest.mark.parametrize("name", GOOD)
def test_names(name: str) -> None:
    """Ollama's names are, with capitals and a registry, and with its scheme."""
    assert read(msgspec.json.encode({"model": name}), Named).wanted == name


@given(st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join))
def test_no_name_leads_anywhere(name: str) -> None:
    """What passes stays below the directory that it is put in, on every platform (requirement H7)."""
    try:
        checked(name)
    except BadRequest:
        return
    bare = name.split("://", 1)[-1] if name[:4].lower() == "http" else name
    below = Path("/store").joinpath(*PurePosixPath(bare).parts)
    assert below.is_relative_to("/store")
    assert ".." not in below.parts
    assert not PureWindowsPath(bare.replace(":", "=")).is_absolute()
    assert not {"\x00", "\\", "%"} & set(name)


def test_digests() -> None:
    """Sixty-four hexadecimal digits, and nothing else."""
    assert checked_digest(f"sha256:{'a' * 64}")
    for digest in (
        "",
        "sha256:",
        f"sha256:{'a' * 63}",
        f"sha256:{'a' * 64}/..",
        f"sha256:{'g' * 64}",
        f"md5:{'a' * 64}",
    ):
        with pytest.raises(BadRequest):
            checked_digest(digest)


def test_digests_of_a_model() -> None:
    """All of its files, each once."""
    one, two = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    body = {"model": "m", "files": {"a": two, "b": one}, "adapters": {"c": two}}
    assert read(msgspec.json.encode(body), Create).digests == [one, two]
    with pytest.raises(BadRequest):
        read(msgspec.json.encode({"model": "m", "files": {"a": "../x"}}), Create)


def test_what_is_passed_on() -> None:
    """Fields that we do not know stay as they are."""
    assert msgspec.json.decode(with_fields(b'{"new": 1.50, "stream": null}', stream=True)) == {
        "new": 1.5,
        "stream": True,
    }


def test_what_a_name_stands_for() -> None:
    """The scheme of a registry is no part of what a model is called; a missing tag is `latest`."""
    assert resolved("http://h:1/library/tiny", {"h:1/library/tiny:latest"}) == "h:1/library/tiny:latest"
    assert resolved("nope", set()) == "nope"
