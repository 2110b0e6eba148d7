"""`python -m bench.soak.report DIR`: what a run has come to so far: `report.md` and pictures beside its files."""

import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from bench.soak.results import Run, read
from bench.soak.verdict import FILES, LONG, MEMORY, TASKS, Drift, Quantity, complaints, drifts, whose
from bench.soak.watch import Sample, Times

MEGA = 1e6
SHOWN = 20  # of what was unexpected


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(directory: Path) -> None:
    """Write the report and the pictures of the run in DIRECTORY; fails where something was not as it has to be."""
    from bench.soak.plot import draw  # noqa: PLC0415 - only a picture needs matplotlib

    run = read(directory)
    pictures = draw(run, directory)
    text = report(run, [path.name for path in pictures])
    (directory / "report.md").write_text(text, "utf-8")
    click.echo(text)
    sys.exit(bool(complaints(run)))


def report(run: Run, pictures: Sequence[str] = ()) -> str:
    """For people, in Markdown."""
    lines = [
        *_head(run),
        *_requests(run.samples[-1]),
        *_troubles(run),
        *_memory(run.samples),
        *_latency(run.samples),
        *_strange(run),
        *(line for name in pictures for line in (f"![{name}]({name})", "")),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _head(run: Run) -> Iterator[str]:
    plan, last = run.plan, run.samples[-1]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield "# Soak"
    yield ""
    routers = "one router" if plan.replicas == 1 else f"{plan.replicas} replicas"
    yield (
        f"{last.at / 3600:.2f} of {plan.seconds / 3600:g} hours of {routers} at {plan.rate:g} requests a second, "
        f"seed {plan.seed}; {machine}."
    )
    yield ""
    found = complaints(run)
    yield "**Verdict: as it should be.**" if not found else "**Verdict: not as it should be.**"
    yield from ("", *(f"- {line}" for line in found), "") if found else ("",)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


MEANINGS = {
    "answered": "answered",
    "left": "the client left before",
    "refused": "refused, since nobody who had the model was there",
    "broken": "broken off, since its node was killed",
    "lost": "no connection in 90 s, while its router restarted",
    "wrong": "wrong",
}


def _requests(last: Sample) -> Iterator[str]:
    yield from ("## Requests", "")
    rows = [[meaning, f"{last.endings.get(kind, 0):,}"] for kind, meaning in MEANINGS.items()]
    rows += [
        ["attempts in vain while a router restarted, made again", f"{last.again:,}"],
        ["not made, since too many were under way", f"{last.turned_away:,}"],
        ["**unexpected**", f"**{last.unexpected}**"],
    ]
    yield from _table(["ended", "count"], rows)


def _troubles(run: Run) -> Iterator[str]:
    yield from ("## Troubles", "")
    counts = Counter((outage.name, outage.what) for outage in run.outages)
    rows = [
        [f"{name} {what}", str(count), f"{statistics.median(_away(run, name, what)):.1f}"]
        for (name, what), count in sorted(counts.items())
    ]
    rows.append(["the real model left the memory", str(run.samples[-1].unloads), ""])
    yield from _table(["what", "how often", "seconds until all was as before, median"], rows)


def _away(run: Run, name: str, what: str) -> list[float]:
    return [o.ended - o.began for o in run.outages if o.name == name and o.what == what]


HELD: list[tuple[Quantity, Callable[[float], str]]] = [
    (MEMORY, lambda value: f"{value / MEGA:.1f} MB"),
    (FILES, lambda value: f"{value:.0f}"),
    (TASKS, lambda value: f"{value:.0f}"),
]


def _memory(samples: Sequence[Sample]) -> Iterator[str]:
    yield from ("## What the processes held", "")
    yield (
        f"Lives of {LONG / 60:.0f} minutes and more, their first third left out: the medians of the first and the last "
        "third of the rest."
    )
    yield ""
    rows = [
        _row(drift, show)
        for quantity, show in HELD
        for name in whose(quantity, samples)
        for drift in drifts(samples, name, quantity)
    ]
    yield from _table(["what", "process", "minutes of the run", "first", "last", "drift"], rows)


def _row(drift: Drift, show: Callable[[float], str]) -> list[str]:
    drifted = f"{drift.share:+.1%}" if drift.quantity is MEMORY else f"{drift.last - drift.first:+.0f}"
    return [
        drift.quantity.name,
        drift.name,
        f"{drift.began / 60:.0f} to {drift.ended / 60:.0f}",
        show(drift.first),
        show(drift.last),
        drifted if drift.flat else f"**{drifted}**",
    ]


PARTS: list[tuple[str, Callable[[Sample], Times]]] = [
    ("to the first byte", lambda sample: sample.first),
    ("to the whole answer", lambda sample: sample.whole),
    ("to the real model's whole answer, loads included", lambda sample: sample.real),
]


def _latency(samples: Sequence[Sample]) -> Iterator[str]:
    yield from ("## Latency", "", "Milliseconds: medians of the percentiles of ten seconds each.", "")
    third = len(samples) // 3
    rows = [
        [f"{name}, {when}", *_percentiles([of(sample) for sample in part])]
        for name, of in PARTS
        for when, part in (("first third of the run", samples[:third]), ("last third", samples[-third:]))
    ]
    yield from _table(["", "50th", "95th", "99th"], rows)


def _percentiles(found: Sequence[Times]) -> list[str]:
    told = [times for times in found if times.count]
    if not told:
        return [""] * 3
    parts = ([t.p50 for t in told], [t.p95 for t in told], [t.p99 for t in told])
    return [f"{statistics.median(part):.1f}" for part in parts]


def _strange(run: Run) -> Iterator[str]:
    if run.strange:
        yield from ("## Unexpected", "")
        yield from (f"- {s.at / 60:.1f} min: {s.what}" for s in run.strange[:SHOWN])
        yield ""


if __name__ == "__main__":
    main(prog_name="python -m bench.soak.report")
