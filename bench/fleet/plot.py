"""The measurements as a picture: how long people wait, over the rate of requests."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from bench.fleet.results import Run

# The colours of Okabe and Ito, which people tell apart however they see colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
GREY = "#555555"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Write a PNG with a line per policy: the 95th percentile of TTFT, and the mean latency."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")  # a Figure of its own draws by Agg, without a display
    left, right = figure.subplots(1, 2)
    _panel(left, runs, "Time to first token, 95th percentile", lambda run: run.ttft.p95)
    _panel(right, runs, "Time to whole answer, mean", lambda run: run.latency.mean)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    figure.savefig(path, dpi=160)


def _panel(axes: Axes, runs: Sequence[Run], title: str, value: Callable[[Run], float]) -> None:
    for n, policy in enumerate(dict.fromkeys(run.policy for run in runs)):
        _line(axes, n, [run for run in runs if run.policy == policy], value)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("requests per second", color=GREY)
    axes.set_ylabel("seconds", color=GREY)
    axes.set_xticks(sorted({run.rate for run in runs}))
    axes.margins(x=0.08, y=0.12)
    _decades(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)


def _line(axes: Axes, n: int, runs: list[Run], value: Callable[[Run], float]) -> None:
    """One policy's. A point says how many requests it leaves out because they failed."""
    shown = sorted((run for run in runs if value(run)), key=lambda run: run.rate)
    rates, values = [run.rate for run in shown], [value(run) for run in shown]
    colour = COLOURS[n % len(COLOURS)]
    axes.plot(
        rates, values, label=runs[0].policy, color=colour, marker=MARKERS[n % len(MARKERS)], linewidth=2, markersize=6
    )
    for run in shown:
        if run.failed:
            text, place = f"{run.failed} failed", (run.rate, value(run))
            axes.annotate(text, place, (0, 7), textcoords="offset points", ha="center", fontsize=8, color=colour)


def _decades(axes: Axes) -> None:
    """A logarithmic scale in plain numbers: policies differ by factors."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
