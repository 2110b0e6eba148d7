"""`python -m bench.replicas.rest`: whole replicas, and a fleet that sends nothing but heartbeats, all to the first.

What the single costs add up to (`costs`) is to be seen here; and what is not among them, such as HTTP.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.data_plane.meter import Meter
from bench.data_plane.subjects import router
from bench.data_plane.upstreams import PATH
from bench.processes import NotReadyError, running, wait_until
from bench.replicas.__main__ import WIDTH
from bench.replicas.database import postgres
from llm_router.contract import HEARTBEAT_EVERY, NodeView

SETTLE = 5.0  # seconds after the last node has come
POSTGRES = "PostgreSQL"
TAKES, HEARS = "takes all heartbeats", "hears of them"


class Rest(msgspec.Struct, frozen=True):
    """Of a process: its share of a processor without nodes and with them, in percent; kB of memory for each node."""

    who: str
    without: float
    having: float
    memory: float


async def measure(nodes: int, replicas: int, seconds: float, every: float) -> list[Rest]:
    """Replicas, without nodes and with them.

    Raises:
        NotReadyError: something did not start.
    """
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="bench-rest-")))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        cluster, postgres_meter = await stack.enter_async_context(postgres())
        database = cluster.create()
        homes = [_made(home / f"{n}") for n in range(replicas)]
        started = [await stack.enter_async_context(router(session, [], 0, own, database=database)) for own in homes]
        urls = [one.url.removesuffix(PATH) for one in started]
        meters = [*(one.meter for one in started if one.meter is not None), postgres_meter]
        without, small = await _shares(meters, seconds), _memory(meters)
        options = ["--router", urls[0], "--nodes", str(nodes), "--every", str(every)]
        fleet = running([sys.executable, "-m", "bench.live.nodes", *options], {}, home / "nodes.log")
        await stack.enter_async_context(fleet)
        await wait_until(lambda: _all_online(session, urls, nodes), f"not all of {nodes} nodes are online at all")
        await asyncio.sleep(SETTLE)  # noqa: TID251 - nobody tells when all is calm
        having, large = await _shares(meters, seconds), _memory(meters)
    names = [TAKES, *[HEARS] * (replicas - 1), POSTGRES]
    grown = [(after - before) / nodes for before, after in zip(small, large, strict=True)]
    return [Rest(*one) for one in zip(names, without, having, grown, strict=True)]


def _made(home: Path) -> Path:
    home.mkdir()
    return home


async def _shares(meters: Sequence[Meter], seconds: float) -> list[float]:
    before = [meter.cpu() for meter in meters]
    await asyncio.sleep(seconds)  # noqa: TID251 - the time for which it is measured
    return [(meter.cpu() - was) / seconds * 100 for meter, was in zip(meters, before, strict=True)]


def _memory(meters: Sequence[Meter]) -> list[float]:
    """Resident, in kB."""
    return [meter.memory() / 1000 for meter in meters]


async def _all_online(session: aiohttp.ClientSession, urls: Sequence[str], nodes: int) -> bool:
    for url in urls:
        async with session.get(f"{url}/v0/nodes") as response:
            views = msgspec.json.decode(await response.read(), type=list[NodeView])
        if sum(view.state == "online" for view in views) != nodes:
            return False
    return True


def show(found: Sequence[Rest], console: Console) -> None:
    """A table."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "% of a core without nodes", "with them", "kB for each node"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for one in found:
        table.add_row(one.who, f"{one.without:.1f}", f"{one.having:.1f}", f"{one.memory:.1f}")
    console.print(table)


@click.command()
@click.option("--nodes", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--replicas", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=35, show_default=True, help="Of each measurement.")
@click.option("--every", type=float, default=HEARTBEAT_EVERY, show_default=True, help="Seconds between heartbeats.")
def main(*, nodes: int, replicas: int, seconds: float, every: float) -> None:
    """What do replicas do for a fleet that does nothing?"""
    try:
        found = asyncio.run(measure(nodes, replicas, seconds, every))
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors
    show(found, Console(width=None if sys.stdout.isatty() else WIDTH))


if __name__ == "__main__":
    main(prog_name="python -m bench.replicas.rest")
