"""What was measured, in numbers, and what it means beside nginx and going direct. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec

from bench.data_plane.wrk import Load

Kind = Literal["unary", "stream", "paced"]
"""Answers in one piece, streams, each asked for as soon as the one before is answered; answers asked for on time."""

# What others are compared with.
DIRECT = "direct"
NGINX = "nginx"


class Sample(msgspec.Struct, frozen=True):
    """One subject in one round. `cpu`: seconds of processor time it used meanwhile; None where that is not known."""

    round: int
    kind: Kind
    subject: str
    load: Load
    cpu: float | None


class Row(msgspec.Struct, frozen=True):
    """A line of a table: a round, or with `round` None the medians of all.

    `cpu`: µs of the subject's processor time per request or stream; `rate`: of them per second; `p50`, `p99`: ms until
    the answer was whole; `added_…`: ms more than going direct took in the same round; `ratio`: `cpu` by nginx's of the
    same round. None: not known, or not there to compare with. `failed`: requests, of all rounds in a line of medians.
    """

    round: int | None
    kind: Kind
    subject: str
    failed: int
    rate: float | None
    p50: float | None
    p99: float | None
    added_p50: float | None
    added_p99: float | None
    cpu: float | None
    ratio: float | None


MEASURED = ("rate", "p50", "p99", "added_p50", "added_p99", "cpu", "ratio")  # the fields that have a median


class Held(msgspec.Struct, frozen=True):
    """Connections through a subject that were all open at once, for `seconds`: streams, or idle ones.

    Of `connections`, `lost` were closed by the other side meanwhile. `memory`: bytes of the subject's for each;
    `busy`: its share of a processor. None where its process is not known. `pieces` of streams came; `gap_…`: ms
    between two of the same stream, `late` of them over a second.
    """

    subject: str
    connections: int
    seconds: float
    lost: int
    memory: float | None
    busy: float | None
    pieces: int
    gap_p50: float
    gap_p99: float
    gap_max: float
    late: int


class Results(msgspec.Struct, frozen=True):
    """All of a bench. `rate`: requests per second of the kind "paced"; `idle_wanted`: the files may allow fewer."""

    rounds: list[Row]
    medians: list[Row]
    streams: list[Held]
    idle: list[Held]
    idle_wanted: int
    rate: int


def summarize(samples: Sequence[Sample]) -> tuple[list[Row], list[Row]]:
    """The rounds of a bench, and the medians of its rounds."""
    places = {(s.round, s.kind, s.subject): s for s in samples}
    rows = [
        _row(s, places.get((s.round, s.kind, DIRECT)), places.get((s.round, s.kind, NGINX)))
        for s in sorted(samples, key=lambda s: s.round)
    ]
    return rows, _medians(rows)


def _row(sample: Sample, direct: Sample | None, nginx: Sample | None) -> Row:
    load, cpu = sample.load, _per_request(sample)
    reference = None if nginx is None else _per_request(nginx)
    beside = None if sample.subject == DIRECT or direct is None else direct.load
    return Row(
        round=sample.round,
        kind=sample.kind,
        subject=sample.subject,
        failed=load.failed,
        rate=load.requests / load.duration * 1e6,
        p50=load.p50 / 1e3,
        p99=load.p99 / 1e3,
        added_p50=None if beside is None else (load.p50 - beside.p50) / 1e3,
        added_p99=None if beside is None else (load.p99 - beside.p99) / 1e3,
        cpu=cpu,
        ratio=None if cpu is None or not reference else cpu / reference,
    )


def _per_request(sample: Sample) -> float | None:
    return None if sample.cpu is None else sample.cpu * 1e6 / sample.load.requests


def _medians(rows: Sequence[Row]) -> list[Row]:
    lines = dict.fromkeys((row.kind, row.subject) for row in rows)
    return [_median([row for row in rows if (row.kind, row.subject) == line]) for line in lines]


def _median(rows: Sequence[Row]) -> Row:
    """Of each figure by itself; so the median ratio is that of ratios, not the ratio of medians."""
    figures = {name: _middle([getattr(row, name) for row in rows]) for name in MEASURED}
    return msgspec.structs.replace(rows[0], round=None, failed=sum(row.failed for row in rows), **figures)


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
