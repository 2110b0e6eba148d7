"""The measurements as a picture: what each router costs, on a scale on which factors are distances."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from bench.data_plane.results import Kind, Results, Row
from bench.data_plane.upstreams import TOKENS

PANELS: dict[Kind, str] = {"unary": "An answer in one piece", "stream": f"A stream of {TOKENS} tokens"}
BLUE = "#0072B2"  # of Okabe and Ito's colours, which people tell apart however they see colour
GREY = "#555555"


def draw(results: Results, path: Path) -> None:
    """Write a PNG: a row for each router, a faint dot for each round, and a full one with its number for the median."""
    names = [row.subject for row in results.medians if row.kind == "unary" and row.cpu is not None]
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(names)), layout="constrained")  # draws by Agg, without a display
    panels = figure.subplots(1, len(PANELS), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, PANELS, strict=True):
        _panel(axes, kind, names, results)
    figure.savefig(path, dpi=160)


def _panel(axes: Axes, kind: Kind, names: Sequence[str], results: Results) -> None:
    places = {name: place for place, name in enumerate(names)}
    for row in results.rounds:
        _dot(axes, kind, places, row, _faint)
    for row in results.medians:
        _dot(axes, kind, places, row, _full)
    axes.set_title(PANELS[kind], loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("µs of processor time", color=GREY)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first one on top
    axes.margins(x=0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=GREY, length=0)
    _decades(axes)


def _dot(
    axes: Axes, kind: Kind, places: dict[str, int], row: Row, mark: Callable[[Axes, float, int, Row], None]
) -> None:
    if row.kind == kind and row.subject in places and row.cpu is not None:
        mark(axes, row.cpu, places[row.subject], row)


def _faint(axes: Axes, cpu: float, place: int, _row: Row) -> None:
    axes.plot(cpu, place, "o", color=BLUE, alpha=0.3, markersize=5, markeredgewidth=0)


def _full(axes: Axes, cpu: float, place: int, row: Row) -> None:
    axes.plot(cpu, place, "o", color=BLUE, markersize=9)
    text = f"{cpu:.3g}" if row.ratio is None else f"{cpu:.3g}   {row.ratio:.2f} x"
    axes.annotate(text, (cpu, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)


def _decades(axes: Axes) -> None:
    """A logarithmic scale in plain numbers: routers differ by factors."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
