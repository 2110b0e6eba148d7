"""What requests through each cost, and what that is beside SQLite. Pure."""

from collections.abc import Sequence
from statistics import median

import msgspec

from bench.data_plane.results import Kind

SQLITE = "one process, SQLite"
ALONE = "one replica"
ONE_OF_TWO = "one of two replicas"


class Sample(msgspec.Struct, frozen=True):
    """One load of a subject. `cpu`: seconds of processor time of its router, `postgres`: of its database's server."""

    round: int
    kind: Kind
    subject: str
    requests: int
    failed: int
    cpu: float
    postgres: float


class Row(msgspec.Struct, frozen=True):
    """A subject under a load, medians of the rounds: µs per request; `ratio`, `low`, `high`: `cpu` by SQLite's.

    The median, the lowest and the highest of the ratios within a round, and what all rounds together come to.
    """

    kind: Kind
    subject: str
    cpu: float
    postgres: float
    ratio: float
    low: float
    high: float
    together: float
    failed: int


def summarize(samples: Sequence[Sample]) -> list[Row]:
    """A row for each subject and load, in the order in which they came."""
    return [_row(samples, kind, subject) for kind, subject in dict.fromkeys((s.kind, s.subject) for s in samples)]


def _row(samples: Sequence[Sample], kind: Kind, subject: str) -> Row:
    own = [s for s in samples if (s.kind, s.subject) == (kind, subject)]
    beside = {s.round: s for s in samples if (s.kind, s.subject) == (kind, SQLITE)}
    ratios = [_each(s) / _each(beside[s.round]) for s in own]
    return Row(
        kind=kind,
        subject=subject,
        cpu=median(map(_each, own)),
        postgres=median(s.postgres * 1e6 / s.requests for s in own),
        ratio=median(ratios),
        low=min(ratios),
        high=max(ratios),
        together=_all(own) / _all(list(beside.values())),
        failed=sum(s.failed for s in own),
    )


def _each(sample: Sample) -> float:
    """µs of the router's time for a request."""
    return sample.cpu * 1e6 / sample.requests


def _all(samples: Sequence[Sample]) -> float:
    return sum(s.cpu for s in samples) * 1e6 / sum(s.requests for s in samples)
