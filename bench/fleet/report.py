"""The measurements as tables for people, and as JSON for programs."""

from collections.abc import Iterator, Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.fleet.results import REFERENCE, WARM_UP, Run

NOTE = (
    f"Seconds of the trace. The first {WARM_UP:.0%} of the requests are warm-up and not counted, except in loads and "
    "shares. Ratios: a policy's figure by that of "
)


def as_json(runs: Sequence[Run]) -> bytes:
    """An array with an object for every run."""
    return msgspec.json.format(msgspec.json.encode(runs), indent=2) + b"\n"


def show(runs: Sequence[Run], console: Console) -> None:
    """A table for every rate."""
    for rate in dict.fromkeys(run.rate for run in runs):
        console.print(_table(rate, [run for run in runs if run.rate == rate]))
    console.print(NOTE + _reference(runs).policy + ".", style="dim")


def _reference(runs: Sequence[Run]) -> Run:
    return next((run for run in runs if run.policy == REFERENCE), runs[0])


def _table(rate: float, runs: Sequence[Run]) -> Table:
    title = f"{rate:g} requests per second, {runs[0].requests} counted"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\npolicy", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    reference = _reference(runs)
    for run in runs:
        table.add_row(run.policy, *_cells(run, reference))
    return table


COLUMNS = (
    *("\nfailed", "TTFT\np50", "\np95", "\np99", "p95\nratio"),
    *("latency\nmean", "\np50", "\np95", "\np99", "mean\nratio"),
    *("\nloads", "share of\na node"),
)


def _cells(run: Run, reference: Run) -> Iterator[str]:
    yield f"{run.failed}"
    yield from map(_short, (run.ttft.p50, run.ttft.p95, run.ttft.p99))
    yield _ratio(run.ttft.p95, reference.ttft.p95)
    yield from map(_short, (run.latency.mean, run.latency.p50, run.latency.p95, run.latency.p99))
    yield _ratio(run.latency.mean, reference.latency.mean)
    yield from (f"{run.loads}", _shares(list(run.served.values())))


def _shares(served: Sequence[int]) -> str:
    """The smallest and the largest."""
    total = sum(served) or 1
    return f"{min(served) / total:.0%}-{max(served) / total:.0%}"


def _ratio(value: float, reference: float) -> str:
    return _short(value / reference) if reference else ""


def _short(value: float) -> str:
    """Three digits are as many as a run can vouch for."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
