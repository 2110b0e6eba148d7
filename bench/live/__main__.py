"""`python -m bench.live`: a whole house on one router, a database in trouble, and what came of it."""

import asyncio
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from bench.live.campaign import LIMIT, Campaign, Plan
from bench.live.results import MS, Results, complaints
from bench.processes import NotReadyError


@click.command()
@click.option("--nodes", type=click.IntRange(min=1), default=1000, show_default=True, help="Each reports every 5 s.")
@click.option("--rate", type=click.FloatRange(min=1), default=200.0, show_default=True, help="Requests per second.")
@click.option("--watchers", type=click.IntRange(min=0), default=50, show_default=True, help="Live streams.")
@click.option("--seconds", type=click.FloatRange(min=3), default=60.0, show_default=True)
@click.option("--max-lag", type=float, default=LIMIT * MS, show_default=True, help="Lag's p99 in milliseconds.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def main(*, nodes: int, rate: float, watchers: int, seconds: float, max_lag: float, as_data: bool) -> None:
    """A thousand nodes that report, requests, people who watch, and a database that cannot be written for a third.

    Fails where a request fails or is not told of, or the router's event loop is late.
    """
    with tempfile.TemporaryDirectory(prefix="live-") as home:
        results = _measure(Plan(nodes, rate, watchers, seconds), Path(home))
    click.echo(msgspec.json.format(msgspec.json.encode(results)).decode() if as_data else show(results))
    lines = complaints(results, max_lag, needs_lag=True)
    for line in lines:
        click.echo(line, err=True)
    sys.exit(bool(lines))


def _measure(plan: Plan, home: Path) -> Results:
    try:
        return asyncio.run(Campaign(plan, home, lambda line: click.echo(line, err=True)).run())
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors


def show(results: Results) -> str:
    """For people."""
    late = "not told" if results.lag_p99 is None else f"p99 <= {results.lag_p99:g} ms, {results.in_time:.4%} <= 20 ms"
    times = [("before", results.before), ("database in trouble", results.broken), ("after", results.after)]
    rows = [*times, ("GET /health", results.health)]
    lines = [
        f"{results.nodes} nodes ({results.online} online), {results.watchers} watchers, {results.seconds:g} s",
        f"event loop's lag       {late}",
        f"router's processor     {results.cpu:.2f} cores; ready without one {results.starved:.2%} of the time",
        *(f"{name:22} {w.count}: p50 {w.p50:.1f} ms, p99 {w.p99:.1f} ms, max {w.longest:.1f} ms" for name, w in rows),
        f"database in trouble    {results.trouble}",
        f"failed requests        {len(results.failures)}",
        f"heartbeats             {results.reports}, {results.refused_reports} refused",
        f"live stream            {results.told} messages of nodes",
        f"not seen, seen twice   {results.unseen}, {results.twice}; {results.cut} streams cut",
        f"not in the history     {results.unrecorded}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m bench.live")
