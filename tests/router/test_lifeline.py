"""What supervisor and worker say to each other."""

import socket
from pathlib import Path

import pytest

from llm_router.config import RouterConfig
from llm_router.router import lifeline
from llm_router.router.lifeline import Order, Ready, Refused, Word


def test_an_order_arrives_whole(tmp_path: Path) -> None:
    """Every setting, with the secrets that no command line may show."""
    config = RouterConfig(home=tmp_path, database_url="postgresql+asyncpg://u:p@h/d", hosts=["a", "b"], workers=2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(lifeline.encode(Order(config, 2)))
        assert lifeline.receive(theirs) == Order(config, 2)


def test_no_order() -> None:
    """A supervisor that is gone before it gave one is an end, not an order of nothing."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        assert lifeline.receive(theirs) is None


@pytest.mark.parametrize("word", [Ready(), Refused("of no use", misused=True)])
def test_words(word: Word) -> None:
    """Each is a line; an end without one is none."""
    line = lifeline.encode(word)
    assert line.endswith(b"\n")
    assert lifeline.decode(line) == word
    assert lifeline.decode(b"") is None
