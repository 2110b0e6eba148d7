"""`python -m bench.fleet`: play a trace against every policy, print what it meant for those who asked."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import click
from rich.console import Console

from bench.fleet.campaign import Campaign, Plan
from bench.fleet.fleet import FLEETS
from bench.fleet.report import as_json, show
from bench.fleet.results import Run
from bench.processes import NotReadyError

POLICIES = "expected-latency,warm-first,least-requests,metrics,round-robin"
FIRST_PORT = 21000  # below the ports that systems hand out by themselves
WIDTH = 120  # columns in a file or a pipe, for a table that is as wide


class Numbers(click.ParamType[list[float]]):
    """Numbers above 0, with commas between them."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Read them."""
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) <= 0:
            self.fail(f"{value!r} is not a list of rates, such as 0.5,1.0", param, ctx)
        return numbers


@click.command()
@click.option("--policies", default=POLICIES, show_default=True, help="Policies of our router, with commas; may be ''.")
@click.option("--rates", type=Numbers(), default="0.5,1.0,1.5", show_default=True, help="Requests per second.")
@click.option("--requests", type=click.IntRange(min=20), default=1200, show_default=True, help="Requests of a trace.")
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=6.0, show_default=True, help="Haste.")
@click.option("--seed", default=1, show_default=True, help="Another seed draws another trace.")
@click.option("--fleet", type=click.Choice(list(FLEETS)), default="unequal", show_default=True, help="The machines.")
@click.option("--url", "others", multiple=True, metavar="NAME=URL", help="Another router; its machines: --first-port.")
@click.option("--first-port", default=FIRST_PORT, show_default=True, help="Where other routers find their machines.")
@click.option("--jobs", type=click.IntRange(min=1), default=3, show_default=True, help="Routers measured side by side.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write fleet.json and fleet.png there.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def main(  # noqa: PLR0913 - one argument for each option
    *,
    policies: str,
    rates: list[float],
    requests: int,
    scale: float,
    seed: int,
    fleet: str,
    others: tuple[str, ...],
    first_port: int,
    jobs: int,
    out: Path | None,
    as_data: bool,
) -> None:
    """Which policy answers soonest?

    The same trace of conversations is played against each router in front of eight fake machines, SCALE times faster
    than in life. A URL that ends in /v1 is spoken to in OpenAI's API, any other in Ollama's; the first --url finds its
    machines on the ports from --first-port on, the second on the next ones.
    """
    if out is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--out draws a picture and needs matplotlib: pip install matplotlib")
    names = [name for name in policies.split(",") if name]
    plan = Plan(names, _pairs(others), rates, requests, scale, seed, fleet, jobs, first_port)
    if not names and not others:
        raise click.UsageError("name a policy or a --url")
    runs = _measure(plan)
    if as_data:
        click.echo(as_json(runs), nl=False)
    else:
        show(runs, Console(width=None if sys.stdout.isatty() else WIDTH))
    if out is not None:
        _write(runs, out)


def _pairs(others: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in others)
    if not all(pairs) or not all(pairs.values()):
        raise click.UsageError("--url takes NAME=URL")
    return {name: url.rstrip("/") for name, url in pairs.items()}


def _measure(plan: Plan) -> list[Run]:
    try:
        return asyncio.run(Campaign(plan, lambda line: click.echo(line, err=True)).run())
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors


def _write(runs: list[Run], out: Path) -> None:
    from bench.fleet.plot import draw  # noqa: PLC0415 - only a picture needs matplotlib

    out.mkdir(parents=True, exist_ok=True)
    (out / "fleet.json").write_bytes(as_json(runs))
    draw(runs, out / "fleet.png")
    click.echo(f"written: {out / 'fleet.json'} {out / 'fleet.png'}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench.fleet")
