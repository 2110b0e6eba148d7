"""What requests ask for beside their answer: how long a model shall stay."""

import math

import pytest

from llm_router.errors import BadRequest
from llm_router.wire.dialects import OPERATIONS
from llm_router.wire.wishes import is_unload, keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (30, 30),
        (0.5, 0.5),
        ("0", 0),
        ("300", 300),
        ("0s", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("+1m", 60),
        (" 24h ", 86400),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        (-0.5, math.inf),
    ],
)
def test_durations(value: float | str, seconds: float) -> None:
    """Numbers are seconds, texts are Go's durations or numbers, and what is below zero is for ever."""
    assert keep_alive(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "m", "5 m", "5x", "five", "--1", "1e3", "5m-", "1:30", math.nan, "inf", "٣m"])
def test_what_is_no_duration(value: float | str) -> None:
    """It is the caller's mistake, and is shown what to write."""
    with pytest.raises(BadRequest, match=r"keep_alive.*5m"):
        keep_alive(value)


@pytest.mark.parametrize(
    ("path", "body", "so"),
    [
        (b"/api/generate", b'{"model":"m","keep_alive":0}', True),
        (b"/api/generate", b'{"model":"m","prompt":"","keep_alive":"0s"}', True),
        (b"/api/chat", b'{"model":"m","messages":[],"keep_alive":0,"stream":false}', True),
        (b"/api/generate", b'{"model":"m","prompt":"x","keep_alive":0}', False),
        (b"/api/chat", b'{"model":"m","messages":[{"role":"user","content":"x"}],"keep_alive":0}', False),
        (b"/api/generate", b'{"model":"m","keep_alive":"5m"}', False),
        (b"/api/generate", b'{"model":"m","keep_alive":-1}', False),
        (b"/api/generate", b'{"model":"m"}', False),
        (b"/api/generate", b'{"model":"m","keep_alive":{}}', False),
        (b"/api/generate", b'{"model":"m","keep_alive":0', False),
        (b"/api/embed", b'{"model":"m","keep_alive":0}', False),
        (b"/v1/chat/completions", b'{"model":"m","keep_alive":0}', False),
    ],
)
def test_what_asks_only_to_unload(path: bytes, body: bytes, so: bool) -> None:  # noqa: FBT001 - a parameter
    """Ollama's `docs/api.md`, "Unload a model": no prompt, no messages, and a keep_alive of nothing."""
    assert is_unload(OPERATIONS[path], body) is so
