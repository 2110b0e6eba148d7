"""`python -m bench.replicas.costs`: what each thing that replicas do costs, by itself.

On uvloop, as the router.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial

import click
import msgspec
import structlog
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench.processes import NotReadyError
from bench.replicas.__main__ import WIDTH
from bench.replicas.database import postgres
from bench.replicas.deciding import Thought, counting, decisions
from bench.replicas.letters import Told, told
from bench.replicas.rows import Stored, memory, stored


class Costs(msgspec.Struct, frozen=True):
    """All of it; `memory` in kB."""

    memory: float
    thoughts: list[Thought]
    told: list[Told]
    stored: list[Stored]


async def measure(say: Callable[[str], None]) -> Costs:
    """What everything costs.

    Raises:
        NotReadyError: PostgreSQL is not installed.
    """
    node = memory()
    say("decisions and counts")
    thoughts = [*decisions(), *counting()]
    async with postgres() as (cluster, meter):
        return Costs(node, thoughts, await told(cluster, meter, say), await stored(cluster, meter, say))


def show(costs: Costs, console: Console) -> None:
    """Three tables."""
    console.print(_table("What is told, one thing at a time: µs", costs.told, _TOLD))
    console.print(_table("Rows: µs each, and ms for which the event loop did nothing else", costs.stored, _STORED))
    console.print(_table("What a replica does by itself: µs", costs.thoughts, {"each": "each"}))
    console.print(f"A node takes {costs.memory:.1f} kB of a replica's memory.")


_TOLD = {
    "here": "who tells",
    "there": "each other",
    "postgres": "PostgreSQL",
    "postgres_there": "and for each other",
}
_STORED = {"here": "replica", "postgres": "PostgreSQL", "held": "held, ms"}


def _table(title: str, rows: list[Told] | list[Stored] | list[Thought], columns: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(no_wrap=True)
    for name in columns.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.what, *(f"{getattr(row, field):,.1f}" for field in columns))
    return table


@click.command()
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def main(*, as_data: bool) -> None:
    """What does each thing cost that replicas do?"""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    say = partial(click.echo, err=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            costs = runner.run(measure(say))
    except NotReadyError as error:
        raise click.ClickException(str(error)) from error
    if as_data:
        click.echo(msgspec.json.format(msgspec.json.encode(costs), indent=1))
    else:
        show(costs, Console(width=None if sys.stdout.isatty() else WIDTH))


if __name__ == "__main__":
    main(prog_name="python -m bench.replicas.costs")
