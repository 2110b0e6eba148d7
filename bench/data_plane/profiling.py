"""`python -m bench.data_plane.profiling`: where the time of a router of ours goes, by function.

py-spy looks into the router from outside while it is loaded, so nothing in it is changed, and a profile has no start in
it. It needs leave to look into another process: root's, or kernel.yama.ptrace_scope=0.
"""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.data_plane.campaign import ASKED, WARM_UP
from bench.data_plane.meter import Meter
from bench.data_plane.report import TITLES
from bench.data_plane.results import Kind
from bench.data_plane.subjects import Subject, router
from bench.data_plane.upstreams import upstreams
from bench.data_plane.wrk import load
from bench.processes import NotReadyError

CONNECTIONS = 32  # as in the bench
RATE = 250  # samples per second: each stops the router for a moment, and a thousand of them tell enough
MARGIN = 1  # second of load before and after the samples
SHOWN = 30  # functions; what each of the others takes is noise
WIDTH = 120  # columns of the table, which no name of a function is too long for

# Threads that wait, for work or for a parent to end: py-spy cannot tell that from work, and counts them now and then.
WAITING = ("_worker (concurrent/futures/thread.py)", "_end_with_parent (llm_router/cli.py)")


class Profile(msgspec.Struct, frozen=True):
    """Where time went. `own`: samples in a function itself and in the C it calls, the most first.

    `each`: µs of processor time per request.
    """

    kind: Kind
    own: Sequence[tuple[str, int]]
    each: float


def own_samples(raw: str) -> list[tuple[str, int]]:
    """Read py-spy's raw format: on each line a stack, its functions parted by semicolons, and how often it was seen."""
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack.rpartition(";")[2]] += int(count)
    return [(name, count) for name, count in counts.most_common() if name not in WAITING]


def table(profile: Profile) -> Table:
    """The functions that take most."""
    title = f"{TITLES[profile.kind]}: {profile.each:.0f} µs of processor time each"
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("%", "µs each"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("in the function itself, and what it calls that is not Python", no_wrap=True)
    whole = sum(count for _, count in profile.own)
    for name, count in profile.own[:SHOWN]:
        shown.add_row(f"{count / whole:.1%}".rstrip("%"), f"{count / whole * profile.each:.1f}", name)
    rest = sum(count for _, count in profile.own[SHOWN:])
    shown.add_row(f"{rest / whole:.1%}".rstrip("%"), f"{rest / whole * profile.each:.1f}", "all others")
    return shown


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=10, show_default=True, help="For how long to sample.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Write profiles there.")
def main(*, seconds: int, out: Path) -> None:
    """Where does the time of a router go?

    Writes a profile for each load, which speedscope.app and flamegraph.pl read, and a table of both.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        prices = asyncio.run(_prices(seconds, out))
    except* NotReadyError as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from errors
    profiles = [Profile(kind, own_samples(_path(out, kind).read_text("utf-8")), each) for kind, each in prices.items()]
    text = out / "profile.txt"
    with text.open("w") as file:
        for console in (Console(width=WIDTH), Console(file=file, width=WIDTH)):
            for profile in profiles:
                console.print(table(profile))
    click.echo(f"written: {text} {' '.join(str(_path(out, kind)) for kind in prices)}", err=True)


async def _prices(seconds: int, out: Path) -> dict[Kind, float]:
    """Write a profile of each load; µs of processor time per request of each."""
    kinds: tuple[Kind, ...] = ("unary", "stream")
    with TemporaryDirectory(prefix="bench-profile-") as name:
        home = Path(name)
        async with (
            aiohttp.ClientSession() as session,
            upstreams(0, home) as ports,
            router(session, ports, CONNECTIONS, home) as ours,
        ):
            return {kind: await _price(kind, ours, seconds, _path(out, kind)) for kind in kinds}


def _path(out: Path, kind: Kind) -> Path:
    return out / f"profile-{kind}.raw"


async def _price(kind: Kind, subject: Subject, seconds: int, path: Path) -> float:
    assert subject.meter is not None
    await load(subject.url, ASKED[kind], CONNECTIONS, WARM_UP)
    before = subject.meter.cpu()
    async with asyncio.TaskGroup() as group:
        loaded = group.create_task(load(subject.url, ASKED[kind], CONNECTIONS, seconds + 2 * MARGIN))
        await asyncio.sleep(MARGIN)  # noqa: TID251 - the load has to be there; wrk does not tell
        await _sample(subject.meter, seconds, path)
    return (subject.meter.cpu() - before) * 1e6 / loaded.result().requests


async def _sample(meter: Meter, seconds: int, path: Path) -> None:
    options = ["--format", "raw", "--nolineno", "--rate", str(RATE), "--duration", str(seconds), "--output", str(path)]
    command = [_py_spy(), "record", "--pid", str(meter.pid), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    if process.returncode:
        raise NotReadyError(f"py-spy did not measure: {output.decode('utf-8', 'replace').strip()}")


def _py_spy() -> str:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    path = shutil.which("py-spy", path=places)
    if path is None:
        raise NotReadyError("not installed: py-spy. Try: pip install py-spy")
    return path


if __name__ == "__main__":
    main(prog_name="python -m bench.data_plane.profiling")
