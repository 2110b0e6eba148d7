"""Whether a run was as it should be: nothing unexpected, and nothing that grows. Pure.

What a process holds is judged in each of its lives that was long enough, its first part left out: until caches that
have a limit have reached it, and the allocator what it keeps.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec

from bench.soak.household import NODES
from bench.soak.outages import ROUTER
from bench.soak.results import Run
from bench.soak.watch import Held, Sample

MEMBERS = (ROUTER, *NODES)
LONG = 900.0  # seconds; what a life must have to be judged
WARM_UP = 1 / 3  # of a life
FLAT = 0.05  # the share by which medians of the first and the last third may differ (issue 5)
FEW = 5  # descriptors, tasks: that many come and go with the requests of the moment


class Quantity(msgspec.Struct, frozen=True):
    """What is judged. `slack`: a difference that is none, whatever the share."""

    name: str
    of: Callable[[Sample, Held], float | None]
    slack: float = 0.0


MEMORY = Quantity("memory", lambda _, held: held.rss)
FILES = Quantity("descriptors", lambda _, held: held.files, FEW)
TASKS = Quantity("tasks", lambda sample, _: sample.tasks, FEW)


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
        found = [value for sample in life if (value := quantity.of(sample, sample.held[name])) is not None]
        warm = found[round(len(found) * WARM_UP) :]
        third = len(warm) // 3
        first, last = statistics.median(warm[:third]), statistics.median(warm[-third:])
        yield Drift(name, quantity, life[0].at, life[-1].at, first, last)


def judged(samples: Sequence[Sample]) -> list[Drift]:
    """Everything that is: memory and descriptors of all, the router's tasks."""
    found = [d for name in MEMBERS for quantity in (MEMORY, FILES) for d in drifts(samples, name, quantity)]
    return [*found, *drifts(samples, ROUTER, TASKS)]


def complaints(run: Run) -> list[str]:
    """What is not as it has to be, a line each."""
    lines = [f"{len(run.strange)} unexpected: {run.strange[0].what}"] if run.strange else []
    grown = [drift for drift in judged(run.samples) if not drift.flat]
    return lines + [
        f"{d.quantity.name} of {d.name}: {d.share:+.1%} between minutes {d.began / 60:.0f} and {d.ended / 60:.0f}"
        for d in grown
    ]
