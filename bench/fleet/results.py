"""What was measured, in numbers. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from bench.fleet.machine import Stats
from bench.fleet.player import Sample

WARM_UP = 0.1  # of the requests, not counted: the first models are loaded, and rates learned
REFERENCE = "expected-latency"  # what others are compared with


class Quantiles(msgspec.Struct, frozen=True):
    """Times of many requests, in seconds of the trace; 0 where there was none."""

    mean: float
    p50: float
    p95: float
    p99: float


class Run(msgspec.Struct, frozen=True):
    """One router at one rate. Machines' numbers (`loads`, `reused`, `served`) are of the whole run, warm-up and all.

    `requests` and `failed` are those that count; quantiles are of the requests that did not fail. `cpu` is the share
    of one processor that each program used. `late`: how long, on average, a question waited for the answer before it.
    """

    policy: str
    rate: float
    requests: int
    failed: int
    failures: dict[str, int]
    ttft: Quantiles
    latency: Quantiles
    late: float
    loads: int
    reused: int
    served: dict[str, int]
    cpu: dict[str, float]


def quantiles(values: Sequence[float]) -> Quantiles:
    """Of these values."""
    ordered = sorted(values)
    if not ordered:
        return Quantiles(0, 0, 0, 0)
    mean = math.fsum(ordered) / len(ordered)
    return Quantiles(mean, *(_quantile(ordered, q) for q in (0.5, 0.95, 0.99)))


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Between the two nearest values, in proportion."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarize(
    policy: str, rate: float, samples: Sequence[Sample], stats: Mapping[str, Stats], cpu: dict[str, float]
) -> Run:
    """Put a run's measurements together. `samples`: all requests, in the order in which they were planned."""
    counted = samples[round(len(samples) * WARM_UP) :]
    good = [s for s in counted if not s.failure]
    return Run(
        policy=policy,
        rate=rate,
        requests=len(counted),
        failed=len(counted) - len(good),
        failures=dict(Counter(s.failure for s in counted if s.failure)),
        ttft=quantiles([s.ttft for s in good]),
        latency=quantiles([s.latency for s in good]),
        late=math.fsum(s.sent - s.planned for s in counted) / len(counted),
        loads=sum(s.loads for s in stats.values()),
        reused=sum(s.reused for s in stats.values()),
        served={name: s.served for name, s in stats.items()},
        cpu=cpu,
    )
