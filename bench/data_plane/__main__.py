"""`python -m bench.data_plane`: load nginx and a router in turn, print what each costs."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import TypedDict, Unpack

import click
from rich.console import Console

from bench.data_plane.campaign import Campaign, Plan
from bench.data_plane.guard import complaints
from bench.data_plane.report import as_json, show
from bench.data_plane.results import Kind, Results
from bench.data_plane.subjects import Other, read_other
from bench.processes import NotReadyError

FIRST_PORT = 21200  # below the ports that systems hand out by themselves, and beside those of bench.fleet
WIDTH = 120  # columns in a file or a pipe, for a table that is as wide


class Planned(TypedDict):
    """The options that say what is to be measured, as `Plan` has them."""

    rounds: int
    seconds: int
    connections: int
    rate: int
    streams: int
    idle: int
    hold: int
    others: tuple[Other, ...]
    first_port: int


class Router(click.ParamType[Other]):
    """Somebody else's router."""

    name = "router"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Other:
        """Read it."""
        try:
            return read_other(str(value))
        except ValueError:
            self.fail(f"{value!r} is not NAME=URL or NAME=URL@PID, such as olla=http://127.0.0.1:40114", param, ctx)


COUNT = click.IntRange(min=1)
MAYBE = click.IntRange(min=0)
FACTOR = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--rounds", type=COUNT, default=5, show_default=True, help="How often each is loaded.")
@click.option("--seconds", type=COUNT, default=3, show_default=True, help="For how long each time.")
@click.option("--connections", type=COUNT, default=32, show_default=True, help="Clients that ask all the time.")
@click.option("--rate", type=MAYBE, default=5000, show_default=True, help="Requests per second, where paced. 0: none.")
@click.option("--streams", type=MAYBE, default=5000, show_default=True, help="Streams held open at once. 0: none.")
@click.option("--idle", type=MAYBE, default=20_000, show_default=True, help="Idle connections held. 0: none.")
@click.option("--hold", type=COUNT, default=20, show_default=True, help="Seconds for which they are held.")
@click.option("--max-unary", type=FACTOR, metavar="X", help="Fail where an answer costs more than X times nginx's CPU.")
@click.option("--max-stream", type=FACTOR, metavar="X", help="Likewise a stream.")
@click.option("--url", "others", type=Router(), multiple=True, metavar="NAME=URL[@PID]", help="Another router.")
@click.option("--first-port", default=FIRST_PORT, show_default=True, help="Where others find the three upstreams.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and a picture there.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def main(
    *, max_unary: float | None, max_stream: float | None, out: Path | None, as_data: bool, **plan: Unpack[Planned]
) -> None:
    """What does a router cost?

    nginx and a router of ours stand in front of the same three upstreams and are loaded in turn. Another router, at
    URL, has to have the upstreams at the ports from --first-port on; of one without PID only times are measured.
    """
    if out is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--out draws a picture and needs matplotlib: pip install matplotlib")
    results = _measure(Plan(**plan))
    if as_data:
        click.echo(as_json(results), nl=False)
    else:
        show(results, Console(width=None if sys.stdout.isatty() else WIDTH))
    if out is not None:
        _write(results, out)
    limits: dict[Kind, float | None] = {"unary": max_unary, "stream": max_stream}
    found = complaints(results, {kind: most for kind, most in limits.items() if most is not None})
    if found:
        raise click.ClickException("\n".join(found))


def _measure(plan: Plan) -> Results:
    try:
        return asyncio.run(Campaign(plan, lambda line: click.echo(line, err=True)).run())
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors


def _write(results: Results, out: Path) -> None:
    from bench.data_plane.plot import draw  # noqa: PLC0415 - only a picture needs matplotlib

    out.mkdir(parents=True, exist_ok=True)
    (out / "data_plane.json").write_bytes(as_json(results))
    draw(results, out / "data_plane.png")
    click.echo(f"written: {out / 'data_plane.json'} {out / 'data_plane.png'}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench.data_plane")
