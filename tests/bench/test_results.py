"""What the bench makes of its measurements."""

import io

import msgspec
import pytest
from bench.fleet.machine import Stats
from bench.fleet.player import Sample
from bench.fleet.report import as_json, show
from bench.fleet.results import Run, quantiles, summarize
from rich.console import Console


def sample(n: int, ttft: float = 1.0, failure: str = "") -> Sample:
    return Sample(planned=n, sent=n + 0.5, ttft=ttft, latency=2 * ttft, failure=failure)


def run(policy: str, ttft: float) -> Run:
    stats = {"x": Stats(loads=2, served=30), "y": Stats(loads=1, served=10)}
    return summarize(policy, 1.0, [sample(n, ttft) for n in range(40)], stats, {"router": 0.1})


def test_quantiles_lie_between_the_values_around_them() -> None:
    """Of 0 to 100 the 95th percentile is 95; of nothing, everything is 0."""
    times = quantiles(range(101))
    assert (times.mean, times.p50, times.p95, times.p99) == (50, 50, 95, 99)
    assert quantiles([1.0, 2.0]).p50 == pytest.approx(1.5)
    assert quantiles([]).p95 == 0


def test_the_warm_up_does_not_count() -> None:
    """The first tenth of the requests, however slow or broken, changes nothing."""
    cold = [sample(0, ttft=100.0), sample(1, failure="status 503")]
    measured = summarize("p", 1.0, cold + [sample(n) for n in range(2, 20)], {}, {})
    assert (measured.requests, measured.failed) == (18, 0)
    assert measured.ttft.mean == pytest.approx(1.0)
    assert measured.late == pytest.approx(0.5)


def test_failures_are_counted_by_reason_and_are_no_part_of_the_times() -> None:
    """A quick refusal must not look like a quick answer."""
    samples = [sample(n, ttft=5.0) for n in range(18)] + [sample(18, 0.0, "cut off"), sample(19, 0.0, "status 429")]
    measured = summarize("p", 1.0, samples, {}, {})
    assert measured.failures == {"cut off": 1, "status 429": 1}
    assert measured.ttft.p50 == pytest.approx(5.0)


def test_the_table_tells_how_others_compare_with_expected_latency() -> None:
    """Each policy has its line, with its ratios and the shares of its machines."""
    out = io.StringIO()
    show([run("least-requests", 9.0), run("expected-latency", 3.0)], Console(file=out, width=120))
    line = next(line for line in out.getvalue().splitlines() if "least-requests" in line)
    assert line.split() == [
        *("least-requests", "0", "9.00", "9.00", "9.00", "3.00"),
        *("18.0", "18.0", "18.0", "18.0", "3.00", "3", "25%-75%"),
    ]


def test_json_holds_everything() -> None:
    """What a program reads is what was measured."""
    runs = [run("least-requests", 9.0)]
    assert msgspec.json.decode(as_json(runs), type=list[Run]) == runs
