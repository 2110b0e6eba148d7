"""How far a transfer is: rate and time left for people, tenths for the log."""

from structlog import get_logger
from structlog.testing import capture_logs

from llm_router.models.meter import Meter, Tenths


def test_rate_and_time_left() -> None:
    """The rate is that of the last seconds, and says when it will be done (requirement G5)."""
    meter = Meter()
    for second in range(21):
        meter.note(
            done=second * 1_000_000 if second <= 10 else 10_000_000 + (second - 10) * 3_000_000,
            total=100_000_000,
            now=second,
        )
    assert meter.rate(20) == 3_000_000
    assert meter.left(20) == 20
    assert meter.rate(25) < 3_000_000  # nothing came since
    assert meter.rate(60) == 0


def test_rate_begun_again() -> None:
    """What is begun again has a rate of its own; before there are two moments there is none."""
    meter = Meter()
    assert meter.rate(0) == 0
    meter.note(5_000_000, 0, now=0)
    meter.note(0, 0, now=1)
    meter.note(1_000, 0, now=2)
    assert meter.rate(2) == 1_000
    assert meter.left(2) == 0


def test_tenths_in_the_log() -> None:
    """The log has a line for every 10 %, and one for several that are passed at once (requirement H4)."""
    with capture_logs() as lines:
        tenths = Tenths(get_logger(), "model.fetching", model="qwen3:4b")
        for done in (0, 99, 100, 150, 199, 200, 550, 1000):
            tenths.note(done, 1000)
    assert [line["percent"] for line in lines] == [10, 20, 50, 100]
    assert lines[0] == {"event": "model.fetching", "log_level": "info", "model": "qwen3:4b", "percent": 10}


def test_tenths_begun_again() -> None:
    """What begins again is said again; where nobody knows the total, there is nothing to say."""
    with capture_logs() as lines:
        tenths = Tenths(get_logger(), "model.fetching")
        for done, total in ((500, 0), (500, 1000), (0, 1000), (100, 1000)):
            tenths.note(done, total)
    assert [line["percent"] for line in lines] == [50, 10]
