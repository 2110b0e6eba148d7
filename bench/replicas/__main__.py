"""`python -m bench.replicas`: what a request costs in a replica, beside a router with a file of SQLite's."""

import asyncio
import sys

import click
import msgspec
from rich.console import Console

from bench.processes import NotReadyError
from bench.replicas.campaign import Campaign, Plan
from bench.replicas.report import show
from bench.replicas.results import summarize

WIDTH = 120  # columns in a file or a pipe, for a table that is as wide
COUNT = click.IntRange(min=1)


@click.command()
@click.option("--rounds", type=COUNT, default=9, show_default=True, help="How often each is loaded.")
@click.option("--seconds", type=COUNT, default=2, show_default=True, help="For how long each time.")
@click.option("--connections", type=COUNT, default=32, show_default=True, help="Clients that ask all the time.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON: every load of every round.")
def main(*, as_data: bool, rounds: int, seconds: int, connections: int) -> None:
    """What does a request cost in a replica?

    A router with SQLite, a replica on PostgreSQL, and one of two replicas are asked in turn.
    """
    plan = Plan(rounds, seconds, connections)
    try:
        samples = asyncio.run(Campaign(plan, lambda line: click.echo(line, err=True)).run())
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors
    if as_data:
        click.echo(msgspec.json.encode(samples))
    else:
        show(summarize(samples), Console(width=None if sys.stdout.isatty() else WIDTH))


if __name__ == "__main__":
    main(prog_name="python -m bench.replicas")
