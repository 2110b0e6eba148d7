"""What requests ask for beside their answer: how long a model shall stay."""

import math

import pytest

from llm_router.errors import BadRequest
from llm_router.wire.wishes import keep_alive


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
