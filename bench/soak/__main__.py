"""`python -m bench.soak`: hours of load and trouble, and what came of them."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import click
import uvloop

from bench.soak.campaign import Campaign
from bench.soak.results import Plan
from bench.soak.trouble import Often

HOUR = 3600.0


@click.command()
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24.0, show_default=True)
@click.option("--rate", type=click.FloatRange(min=1), default=30.0, show_default=True, help="Requests per second.")
@click.option("--replicas", type=click.IntRange(1, 9), default=1, show_default=True, help="More than one: PostgreSQL.")
@click.option("--nodes-every", default=180.0, show_default=True, help="Seconds until a node ends, on average.")
@click.option("--router-every", default=1200.0, show_default=True, help="Seconds until a router restarts, likewise.")
@click.option("--unload-every", default=60.0, show_default=True, help="Seconds until the model leaves the memory.")
@click.option("--seed", default=1, show_default=True, help="Another seed draws other clients and troubles.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("bench/out/soak"))
def main(
    *,
    hours: float,
    rate: float,
    replicas: int,
    nodes_every: float,
    router_every: float,
    unload_every: float,
    seed: int,
    out: Path,
) -> None:
    """A router, three agents, an attached server, and a steady load; nodes are killed, the router restarts.

    Writes a report with pictures to OUT, every ten minutes and at the end, and fails where something was unexpected.
    """
    plan = Plan(hours * HOUR, rate, Often(nodes_every, router_every, unload_every), seed, replicas)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_run(plan, out))
    sys.exit(status)


async def _run(plan: Plan, out: Path) -> int:
    campaign = Campaign(plan, out, _tell)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, campaign.stop)
    return await campaign.run()


def _tell(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench.soak")
