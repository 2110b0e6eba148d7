"""llama.cpp is asked what it knows (requirement C2)."""

import sys
from pathlib import Path

import pytest

from llm_router.models import gguf
from llm_router.node.models import asking
from llm_router.node.models.asking import LlamaCpp

pytest.importorskip("xllamacpp")

KNOWN = ["qwen3", "bert", "gemma3", "phi3", "gpt-oss", "t5", "llama"]


def test_what_it_knows() -> None:
    """The wheel's llama.cpp says which architectures it does not know; nobody keeps a list of them."""
    assert LlamaCpp().unknown([*KNOWN, "brandnew", "qwen99"]) == {"brandnew", "qwen99"}


@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot be started there as a program")
def test_a_llama_server_of_the_machines_own(tmp_path: Path) -> None:
    """A llama-server is asked in the same way, one architecture at a time."""
    server, calls = tmp_path / "llama-server", tmp_path / "calls"
    server.write_text(
        f"#!/bin/sh\necho \"$1 $2 $3 $4 $5\" >> '{calls}'\nexec '{sys.executable}' -m {asking.__name__} \"$6\"\n"
    )
    server.chmod(0o755)
    assert LlamaCpp(str(server)).unknown(["qwen3", "brandnew"]) == {"brandnew"}
    assert calls.read_text() == "--host 127.0.0.1 --port 0 --model\n" * 2


@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot be started there as a program")
def test_asked_once(tmp_path: Path) -> None:
    """What it was asked it is not asked again, and llama it need not be asked."""
    server, calls = tmp_path / "llama-server", tmp_path / "calls"
    server.write_text(f"#!/bin/sh\necho call >> '{calls}'\necho \"unknown model architecture: 'new'\" >&2\n")
    server.chmod(0o755)
    llamacpp = LlamaCpp(str(server))
    assert not llamacpp.unknown(["llama"])
    assert not calls.exists()
    assert llamacpp.unknown(["new", "llama"]) == llamacpp.unknown(["new"]) == {"new"}
    assert calls.read_text() == "call\n"


def test_who_cannot_be_asked(tmp_path: Path) -> None:
    """A llama-server that cannot be started rules nothing out."""
    assert not LlamaCpp(str(tmp_path / "nowhere")).unknown(["new"])


def test_what_it_is_given(tmp_path: Path) -> None:
    """It is asked with a whole GGUF file that has an architecture and nothing else."""
    path = tmp_path / "bare.gguf"
    path.write_bytes(asking.bare("new"))
    assert gguf.read(path) == gguf.Facts(3, architecture="new")


def test_another_complaint_is_no_refusal() -> None:
    """Only the sentence about that very architecture is a refusal."""
    said = "error loading model: key not found in model: new.context_length\nunknown model architecture: 'newer'"
    assert asking.refused(said, ["new", "newer"]) == {"newer"}
