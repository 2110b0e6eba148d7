"""A run as pictures: memory, descriptors, tasks and latency over time, with what befell the processes."""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from bench.soak.results import Run
from bench.soak.verdict import CLIENTS, TASKS, lives, members, whose
from bench.soak.watch import Held, Sample, Times

# Of Okabe and Ito's colours, which people tell apart however they see colour.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, SILVER, PALE = "#555555", "#b4b4b4", "#e4e4e4"
MEGA = 1e6
TITLES = {
    "right": "agent in front of Ollama, never touched",
    "left": "agent in front of Ollama",
    "llama": "agent with llama.cpp",
    "beside": "attached server (a double)",
    CLIENTS: "clients (this program)",
}
MARKS = {"killed": ("x", ORANGE), "goodbye": ("o", GREEN)}
HOURS = 3.0  # of a run, from which on the axis has hours


def draw(run: Run, out: Path) -> list[Path]:
    """Write the pictures; returns their paths."""
    made = {"memory": _memory(run), "descriptors": _files(run), "tasks": _tasks(run), "latency": _latency(run)}
    for name, figure in made.items():
        figure.savefig(out / f"soak-{name}.png", dpi=150)
    return [out / f"soak-{name}.png" for name in made]


# -- what each process holds


def _memory(run: Run) -> Figure:
    return _held(run, "Resident memory, MB", lambda held: held.rss / MEGA, _near)


def _files(run: Run) -> Figure:
    return _held(run, "Open descriptors", lambda held: held.files, _from_zero)


Scale = Callable[[Axes, Sequence[float]], None]


def _held(run: Run, title: str, of: Callable[[Held], float], scale: Scale) -> Figure:
    """A panel for each process: its lives as lines that do not touch, and how each ended."""
    names = [*members(run.samples), CLIENTS]
    rows = math.ceil(len(names) / 2)
    figure = _figure(1.8 * rows + 0.2, title)
    panels = figure.subplots(rows, 2, sharex=True)
    for empty in panels.flat[len(names) :]:
        empty.set_visible(False)
    for axes, name in zip(panels.flat, names, strict=False):
        values: list[float] = []
        for life in lives(_settled(run, name), name):
            points = [of(sample.held[name]) for sample in life]
            values += points
            axes.plot(_times(run, life), points, color=BLUE, linewidth=1.2)
            _mark_end(axes, run, name, life[-1].at, points[-1])
        scale(axes, values)
        _dress(axes, TITLES.get(name, name))
        _restarts(axes, run)
    lowest = panels.flat[len(names) - 2 : len(names)]
    for axes in lowest:
        axes.tick_params(labelbottom=True)
    _bottom(run, lowest)
    figure.legend(handles=_key(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _settled(run: Run, name: str) -> list[Sample]:
    """Without looks at a process that was ending or starting."""
    away = [outage for outage in run.outages if outage.name == name]
    return [s for s in run.samples if not any(outage.meets(s.at, s.at) for outage in away)]


def _mark_end(axes: Axes, run: Run, name: str, at: float, value: float) -> None:
    """A sign where a life ended, at what it held last."""
    end = next((o for o in run.outages if o.name == name and o.began >= at), None)
    if end is not None and end.what in MARKS:
        marker, colour = MARKS[end.what]
        place = end.began / _unit(run)
        axes.plot(place, value, marker, color=colour, markersize=4, markeredgewidth=1.4, fillstyle="none")


def _near(axes: Axes, values: Sequence[float]) -> None:
    """A tenth around what is usual, so that a drift of a twentieth is seen."""
    middle = statistics.median(values) if values else 1.0
    axes.set_ylim(0.9 * middle, 1.1 * middle)


def _from_zero(axes: Axes, values: Sequence[float]) -> None:
    axes.set_ylim(0, 1.2 * max(values, default=1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


# -- the router's tasks, latency


def _tasks(run: Run) -> Figure:
    figure = _figure(2.2, "Tasks of each router's event loop")
    axes = figure.subplots()
    for name, colour in zip(whose(TASKS, run.samples), cycle((BLUE, ORANGE, GREEN))):
        samples = [sample for sample in run.samples if name in sample.tasks]
        values = [sample.tasks[name] for sample in samples]
        axes.plot(_times(run, samples), values, color=colour, linewidth=1.2, label=name)
    _from_zero(axes, [count for sample in run.samples for count in sample.tasks.values()])
    _dress(axes)
    axes.legend(loc="lower right", ncols=9, frameon=False, fontsize=9)
    _restarts(axes, run)
    _bottom(run, [axes])
    return figure


PANELS: list[tuple[str, Callable[[Sample], Times]]] = [
    ("To the first byte", lambda sample: sample.first),
    ("To the real model's whole answer, its loads included", lambda sample: sample.real),
]
LINES: list[tuple[str, str, Callable[[Times], float]]] = [
    ("99th", SILVER, lambda times: times.p99),
    ("95th", ORANGE, lambda times: times.p95),
    ("50th percentile of ten seconds", BLUE, lambda times: times.p50),
]


def _latency(run: Run) -> Figure:
    figure = _figure(4.4, "Latency, milliseconds")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    for axes, (caption, of) in zip(panels, PANELS, strict=True):
        for label, colour, part in LINES:
            values = [part(times) if (times := of(sample)).count else math.nan for sample in run.samples]
            axes.plot(_times(run, run.samples), values, color=colour, linewidth=1.2, label=label)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        _dress(axes, caption)
        _restarts(axes, run)
    _ends(panels[-1], run)
    _bottom(run, panels[-1:])
    handles = [*panels[0].get_legend_handles_labels()[0], *_key()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _ends(axes: Axes, run: Run) -> None:
    """Signs along the bottom where nodes ended."""
    for what, (marker, colour) in MARKS.items():
        times = [o.began / _unit(run) for o in run.outages if o.what == what]
        axes.plot(
            times,
            [0.03] * len(times),
            marker,
            transform=axes.get_xaxis_transform(),
            color=colour,
            markersize=4,
            markeredgewidth=1.4,
            fillstyle="none",
        )


# -- what all have


def _unit(run: Run) -> float:
    """Seconds of one on the axis."""
    return 3600.0 if run.samples and run.samples[-1].at > HOURS * 3600 else 60.0


def _times(run: Run, samples: Sequence[Sample]) -> list[float]:
    return [sample.at / _unit(run) for sample in samples]


def _restarts(axes: Axes, run: Run) -> None:
    for outage in run.outages:
        if outage.what == "restarted":
            axes.axvline(outage.began / _unit(run), color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))


def _key() -> list[Line2D]:
    """What the signs mean."""
    signs = {"a node is killed": MARKS["killed"], "a node says goodbye": MARKS["goodbye"]}
    marks = [
        Line2D([], [], color=colour, marker=marker, linestyle="", fillstyle="none", markersize=5, label=label)
        for label, (marker, colour) in signs.items()
    ]
    return [Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)), label="a router restarts"), *marks]


def _figure(height: float, title: str) -> Figure:
    figure = Figure(figsize=(10, height), layout="constrained")  # draws by Agg, without a display
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def _dress(axes: Axes, caption: str = "") -> None:
    axes.set_title(caption, loc="left", fontsize=10, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.margins(x=0.01)


def _bottom(run: Run, axes: Sequence[Axes]) -> None:
    for one in axes:
        one.set_xlabel("hours" if _unit(run) > 60 else "minutes", color=GREY, fontsize=9)
