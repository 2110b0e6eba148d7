"""One stream of what several nodes say that fetch the same model."""

import msgspec

from llm_router.models.ollama.calls import SUCCESS, Record
from llm_router.router.ollama_api.merging import Merged

FILE = "sha256:abc"


def test_bytes_are_added() -> None:
    """A bar is at its end when the last node has the file; one that had it before counts as one that has it."""
    merged = Merged(["a", "b", "c"])
    steps = [
        (0, Record("pulling abc", FILE, 100, 40)),
        (1, Record("pulling abc", FILE, 100, 100)),
        (0, Record("pulling abc", FILE, 100, 30)),  # never backwards
    ]
    told = [msgspec.json.decode(merged.take(node, record) or b"", type=Record) for node, record in steps]
    assert [(record.completed, record.total) for record in told] == [(40, 300), (140, 300), (140, 300)]
    assert merged.take(2, Record(SUCCESS)) is None
    last = msgspec.json.decode(merged.take(0, Record("pulling abc", FILE, 100, 100)) or b"", type=Record)
    assert (last.completed, last.total) == (300, 300)


def test_steps_are_told_once() -> None:
    """Whoever takes them."""
    merged = Merged(["a", "b"])
    assert merged.take(0, Record("writing manifest")) == b'{"status":"writing manifest"}'
    assert merged.take(1, Record("writing manifest")) is None


def test_the_end() -> None:
    """Success is that of all; else the last record says where it went wrong, also where an answer broke off."""
    merged = Merged(["a", "b", "c"])
    merged.take(0, Record(SUCCESS))
    merged.take(1, Record(error="no room"))
    assert merged.succeeded == [0]
    last = msgspec.json.decode(merged.last(), type=Record)
    assert last.error.startswith("b: no room; c: ")
    whole = Merged(["a"])
    whole.take(0, Record(SUCCESS))
    assert whole.last() == b'{"status":"success"}'
