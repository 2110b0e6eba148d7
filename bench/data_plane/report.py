"""The measurements as tables for people, and as JSON for programs."""

from collections.abc import Iterator

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.data_plane.results import DIRECT, NGINX, Kind, Results, Row
from bench.data_plane.upstreams import TOKENS

TITLES: dict[Kind, str] = {"unary": "An answer in one piece", "stream": f"A stream of {TOKENS} tokens"}
COLUMNS = (
    *("CPU\nµs each", f"by\n{NGINX}'s", "\nper second", "ms\np50", "\np99"),
    *(f"added to\n{DIRECT} p50", "\np99", "\nfailed"),
)
NOTE = (
    "CPU: user and system time of the process and its children. Ratios and added times are of the same round, their "
    "medians those of the rounds. Clients ask without a pause, so times are those of a full house; a stream's are "
    "mostly the upstreams'."
)


def as_json(results: Results) -> bytes:
    """An object with everything."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"


def show(results: Results, console: Console) -> None:
    """A table for each kind of answer, and one for memory."""
    for kind, title in TITLES.items():
        console.print(_loads(title, kind, results))
    console.print(_memory(results))
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


def _memory(results: Results) -> Table:
    table = _table("Memory", 1)
    table.add_column(f"kB per stream\nof {results.streams}", justify="right", no_wrap=True)
    for subject, size in results.memory.items():
        table.add_row(subject, _short(size / 1e3))
    return table


def _short(value: float | None) -> str:
    """Three digits are as many as a run can vouch for."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
