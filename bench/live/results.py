"""What came of a run, and what must not have come of it."""

from collections.abc import Iterable

import msgspec

from bench.live.asking import Sample

MS = 1e3


class Waits(msgspec.Struct):
    """How long answers took, in milliseconds, and how many there were."""

    count: int
    p50: float
    p99: float
    longest: float


class Results(msgspec.Struct):
    """One run. Counts unless said otherwise.

    `before`, `broken`, `after`: requests that were sent before, while and after the database could not be written.
    `lag_p99`: what 99 of 100 samples of the event loop's lag stayed under, in milliseconds, as the end of a bucket;
    `in_time`: the part of them up to 20 ms. Both None where the router does not tell. `unseen`: requests that a watcher
    was not told of, `twice` those it was told of more than once, of all together. `unrecorded`: not in the history.
    """

    nodes: int
    online: int
    watchers: int
    seconds: float
    trouble: str
    chats: Waits
    before: Waits
    broken: Waits
    after: Waits
    health: Waits
    lag_p99: float | None
    in_time: float | None
    failures: list[str]
    reports: int
    refused_reports: int
    unseen: int
    twice: int
    cut: int
    unrecorded: int
    cpu: float  # of the router's process, in cores
    starved: float  # part of the time in which its event loop was ready, and had no processor
    told: int  # messages of a node in the live stream, of all watchers together


def waits(samples: Iterable[Sample]) -> Waits:
    """Of these, whatever became of them."""
    took = sorted(sample.took * MS for sample in samples)
    if not took:
        return Waits(0, 0.0, 0.0, 0.0)
    return Waits(len(took), took[len(took) // 2], took[int(len(took) * 0.99)], took[-1])


def complaints(results: Results, lag: float, *, needs_lag: bool) -> list[str]:
    """What is not as it has to be, a line each. `lag`: the p99 of the event loop's, in milliseconds, at most.

    `needs_lag`: a router that does not tell of its event loop is complained of.
    """
    found = [
        (len(results.failures), f"requests failed, such as: {results.failures[:3]}"),
        (results.nodes - results.online, "nodes are not online at the end"),
        (results.refused_reports, "heartbeats were refused"),
        (results.unseen, "requests that a watcher was not told of"),
        (results.twice, "requests that a watcher was told of twice"),
        (results.cut, "live streams were cut"),
        (results.unrecorded, "requests are not in the history"),
    ]
    lines = [f"{count} {what}" for count, what in found if count]
    if results.lag_p99 is None:
        return [*lines, "the router does not tell how late its event loop is"] if needs_lag else lines
    return [*lines, f"the event loop's lag: p99 {results.lag_p99:g} ms"] if results.lag_p99 > lag else lines
