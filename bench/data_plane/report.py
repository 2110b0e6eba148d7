"""The measurements as tables for people, and as JSON for programs."""

from collections.abc import Iterator, Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.data_plane.results import DIRECT, NGINX, Held, Kind, Results, Row
from bench.data_plane.upstreams import SLOW, TOKENS

TITLES: dict[Kind, str] = {
    "unary": "An answer in one piece, asked for without a pause",
    "stream": f"A stream of {TOKENS} tokens, asked for without a pause",
    "paced": "An answer in one piece, asked for at a steady pace",
}
COLUMNS = (
    *("CPU\nµs each", f"by\n{NGINX}'s", "\nper second", "ms\np50", "\np99"),
    *(f"added to\n{DIRECT} p50", "\np99", "\nfailed"),
)
HELD = (
    *("kB\neach", "% of a\nCPU", "pieces\nper second"),
    *("ms between\ntwo, p50", "\np99", "\nlongest", "\n> 1 s", "\nlost"),
)
NOTE = (
    "CPU: user and system time of the process and its children. Ratios and added times are of the same round, their "
    "medians those of the rounds. Where clients ask without a pause, times are those of a full house, and a stream's "
    "are mostly the upstreams'; at a steady pace they count from when a request was due. Memory is resident and beyond "
    "what the first ten connections take."
)


def as_json(results: Results) -> bytes:
    """An object with everything."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"


def show(results: Results, console: Console) -> None:
    """A table for each kind of answer, one for streams and one for idle connections, where they were measured."""
    for kind, title in TITLES.items():
        if any(row.kind == kind for row in results.medians):
            console.print(_loads(title, kind, results))
    if results.streams:
        console.print(_streams(results.streams))
    if results.idle:
        console.print(_idle(results.idle))
        if results.idle[0].connections < results.idle_wanted:
            console.print(f"{results.idle_wanted} were wanted; the limit of open files allows no more.")
    console.print(NOTE, style="dim")


def _table(title: str, names: int) -> Table:
    """An empty one, with columns without titles for `names` names."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for _ in range(names):
        table.add_column(no_wrap=True)
    return table


def _loads(title: str, kind: Kind, results: Results) -> Table:
    table = _table(title, 2)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in results.rounds:
        if row.kind == kind:
            table.add_row(f"round {row.round}", row.subject, *_cells(row))
    table.add_section()
    for row in results.medians:
        if row.kind == kind:
            table.add_row("median", row.subject, *_cells(row), style="bold")
    return table


def _cells(row: Row) -> Iterator[str]:
    yield from map(_short, (row.cpu, row.ratio, row.rate, row.p50, row.p99, row.added_p50, row.added_p99))
    yield f"{row.failed}"


def _streams(held: Sequence[Held]) -> Table:
    each, seconds = held[0].connections, held[0].seconds
    table = _table(f"{each} streams at once, a token every {SLOW} ms, for {seconds:.0f} s", 1)
    for name in HELD:
        table.add_column(name, justify="right", no_wrap=True)
    for one in held:
        gaps = (one.pieces / one.seconds, one.gap_p50, one.gap_p99, one.gap_max)
        table.add_row(one.subject, *_costs(one), *map(_short, gaps), f"{one.late}", f"{one.lost}")
    return table


def _idle(held: Sequence[Held]) -> Table:
    table = _table(f"{held[0].connections} idle connections, for {held[0].seconds:.0f} s", 1)
    for name in ("kB\neach", "% of a\nCPU", "\nstill open"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in held:
        table.add_row(one.subject, *_costs(one), f"{one.connections - one.lost}")
    return table


def _costs(one: Held) -> Iterator[str]:
    yield _short(None if one.memory is None else one.memory / 1e3)
    yield _short(None if one.busy is None else one.busy * 100)


def _short(value: float | None) -> str:
    """Three digits are as many as a run can vouch for."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
