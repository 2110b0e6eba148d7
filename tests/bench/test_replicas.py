"""The bench of replicas: what is made of what it measures."""

from pathlib import Path

import pytest
from bench.replicas.limits import MEASURED, load, table
from bench.replicas.results import ONE_OF_TWO, SQLITE, Sample, summarize

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def sample(number: int, subject: str, requests: int, cpu: float) -> Sample:
    return Sample(number, "unary", subject, requests, 0, cpu, 0.0)


def test_a_replica_is_compared_within_a_round() -> None:
    """A machine that is twice as slow in one round changes no ratio; the one shown is the median of the rounds."""
    samples = [
        *(sample(1, SQLITE, 1000, 0.1), sample(1, ONE_OF_TWO, 2000, 0.22)),
        *(sample(2, SQLITE, 1000, 0.2), sample(2, ONE_OF_TWO, 1000, 0.22)),
        *(sample(3, SQLITE, 1000, 0.1), sample(3, ONE_OF_TWO, 1000, 0.2)),
    ]
    row = summarize(samples)[1]
    assert row.subject == ONE_OF_TWO
    assert [row.cpu, row.ratio, row.low, row.high] == pytest.approx([200, 1.1, 1.1, 2.0])


def test_a_replica_alone_hears_nobody() -> None:
    """What hearing costs is paid where there are others."""
    deaf = load(1000, 1)
    assert deaf.replica > load(1000, 2).replica  # half of the heartbeats go elsewhere
    assert deaf.delivered == pytest.approx(deaf.rows * MEASURED.heartbeat.size, rel=0.2)


def test_the_page_says_what_is_calculated() -> None:
    """The table of docs/scale.md is `python -m bench.replicas.limits`."""
    assert table() in PAGE.read_text("utf-8")
