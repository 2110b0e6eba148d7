"""The comparison as a table."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.data_plane.report import TITLES
from bench.replicas.results import SQLITE, Row

COLUMNS = ("router's\nµs each", "PostgreSQL's\nµs each", f"router's by\n{SQLITE}", "\nlowest", "\nhighest", "\nof sums")
NOTE = (
    "User and system time of processes and their children, until the last record is written. Ratios are of the same "
    "round, the one shown is their median; 'of sums': of all rounds together."
)


def show(rows: Sequence[Row], console: Console) -> None:
    """A table for each load."""
    for kind in dict.fromkeys(row.kind for row in rows):
        table = Table(title=TITLES[kind], title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column(no_wrap=True)
        for name in (*COLUMNS, "\nfailed"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            if row.kind == kind:
                table.add_row(row.subject, *_cells(row))
        console.print(table)
    console.print(NOTE, style="dim")


def _cells(row: Row) -> list[str]:
    ratios = (row.ratio, row.low, row.high, row.together)
    return [f"{row.cpu:.0f}", f"{row.postgres:.0f}", *(f"{ratio:.2f}" for ratio in ratios), f"{row.failed}"]
