"""Whether a run was as it should be: nothing unexpected, and nothing that grows. Pure.

What a process holds is judged in each of its lives that was long enough, its first part left out: until caches that
have a limit have reached it, and the allocator what it keeps.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec

from bench.soak.results import Run
from bench.soak.watch import Sample

CLIENTS = "clients"  # of a run, which are looked at, and not judged
LONG = 900.0  # seconds; what a life must have to be judged
WARM_UP = 1 / 3  # of a life
FLAT = 0.05  # the share by which medians of the first and the last third may differ (issue 5)
FEW = 5  # descriptors, tasks: that many come and go with the requests of the moment


class Quantity(msgspec.Struct, frozen=True):
    """What is judged, of the process that is named. `slack`: a difference that is none, whatever the share."""

    name: str
    of: Callable[[Sample, str], float | None]
    slack: float = 0.0


MEMORY = Quantity("memory", lambda sample, name: sample.held[name].rss)
FILES = Quantity("descriptors", lambda sample, name: sample.held[name].files, FEW)
TASKS = Quantity("tasks", lambda sample, name: sample.tasks.get(name), FEW)


class Drift(msgspec.Struct, frozen=True):
    """Medians of the first and the last third of a life, from `began` to `ended` in seconds of the run."""

    name: str
    quantity: Quantity
    began: float
    ended: float
    first: float
    last: float

    @property
    def share(self) -> float:
        """By which the last third lies above the first."""
        return self.last / self.first - 1

    @property
    def flat(self) -> bool:
        """Whether it may be called so."""
        return abs(self.last - self.first) <= max(FLAT * self.first, self.quantity.slack)


def lives(samples: Sequence[Sample], name: str) -> Iterator[list[Sample]]:
    """The samples of each process that had this name, one after the other."""
    seen = [sample for sample in samples if name in sample.held]
    for _, life in groupby(seen, lambda sample: sample.held[name].pid):
        yield list(life)


def drifts(samples: Sequence[Sample], name: str, quantity: Quantity) -> Iterator[Drift]:
    """Of each life that was LONG."""
    for life in lives(samples, name):
        if life[-1].at - life[0].at < LONG:
            continue
        found = [value for sample in life if (value := quantity.of(sample, name)) is not None]
        warm = found[round(len(found) * WARM_UP) :]
        third = len(warm) // 3
        first, last = statistics.median(warm[:third]), statistics.median(warm[-third:])
        yield Drift(name, quantity, life[0].at, life[-1].at, first, last)


def members(samples: Sequence[Sample]) -> list[str]:
    """Who is judged: every process but the clients."""
    return [name for name in dict.fromkeys(name for sample in samples for name in sample.held) if name != CLIENTS]


def routers(samples: Sequence[Sample]) -> list[str]:
    """Those that have told of their tasks."""
    return sorted({name for sample in samples for name in sample.tasks})


def whose(quantity: Quantity, samples: Sequence[Sample]) -> list[str]:
    """The processes of which a quantity is known."""
    return routers(samples) if quantity is TASKS else members(samples)


def judged(samples: Sequence[Sample]) -> list[Drift]:
    """Everything that is: memory and descriptors of all, the routers' tasks."""
    return [
        drift
        for quantity in (MEMORY, FILES, TASKS)
        for name in whose(quantity, samples)
        for drift in drifts(samples, name, quantity)
    ]


def complaints(run: Run) -> list[str]:
    """What is not as it has to be, a line each."""
    lines = [f"{len(run.strange)} unexpected: {run.strange[0].what}"] if run.strange else []
    grown = [drift for drift in judged(run.samples) if not drift.flat]
    return lines + [
        f"{d.quantity.name} of {d.name}: {d.share:+.1%} between minutes {d.began / 60:.0f} and {d.ended / 60:.0f}"
        for d in grown
    ]
