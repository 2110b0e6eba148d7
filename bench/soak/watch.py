"""What is looked at every ten seconds: what each process holds, and how the requests since the last look fared."""

import re
from collections import Counter
from collections.abc import Sequence

import msgspec
import psutil
from tests.system.harness import HELLO

from bench.soak.load import Asked

TASKS = re.compile(r"^llm_router_event_loop_tasks (\S+)$", re.MULTILINE)
MS = 1000.0


class Held(msgspec.Struct):
    """What a process holds: bytes that are resident, open descriptors; `cpu`: its seconds of processor time so far."""

    pid: int
    rss: int
    files: int
    cpu: float


class Times(msgspec.Struct):
    """Milliseconds, of `count` answers."""

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    longest: float = 0.0


class Sample(msgspec.Struct, kw_only=True):
    """One look, `at` seconds of the run. `endings` and what follows count from the beginning; `tasks`: of routers.

    `first`, `whole`: from a request to its answer's first byte, to its last, where the runtime answers at once; `real`:
    to the last of the real model's, loads included. `again`: attempts in vain, while the router restarted;
    `turned_away`: requests that were not made, since too many were under way. `models`: the processes in which
    llama.cpp has models. `held` has this program, too: "clients".
    """

    at: float
    held: dict[str, Held]
    models: Held | None
    tasks: dict[str, int]
    online: int
    in_flight: int
    first: Times
    whole: Times
    real: Times
    endings: dict[str, int]
    again: int
    turned_away: int
    unexpected: int
    unloads: int


def times(values: Sequence[float]) -> Times:
    """Of seconds."""
    if not values:
        return Times()
    found = sorted(value * MS for value in values)
    p50, p95, p99 = (found[int(len(found) * part)] for part in (0.5, 0.95, 0.99))
    return Times(len(found), p50, p95, p99, found[-1])


def held(pid: int) -> Held | None:
    """What a process holds; None: there is none."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            spent = process.cpu_times()
            return Held(pid, process.memory_info().rss, process.num_fds(), spent.user + spent.system)
    except psutil.NoSuchProcess:
        return None


def children(pid: int) -> Held | None:
    """What a process' children hold together, under the first one's number; None: it has none."""
    try:
        found = [one for child in psutil.Process(pid).children(recursive=True) if (one := held(child.pid))]
    except psutil.NoSuchProcess:
        return None
    if not found:
        return None
    return Held(found[0].pid, sum(c.rss for c in found), sum(c.files for c in found), sum(c.cpu for c in found))


def tasks(text: str) -> int | None:
    """How many tasks the router's event loop has, as `GET /metrics` says."""
    found = TASKS.search(text)
    return round(float(found[1])) if found else None


class Tally:
    """Counts the requests; what is of the last seconds only is taken away with each look."""

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.again = 0
        self._clear()

    def add(self, asked: Asked) -> None:
        """One that is over."""
        plan, ending = asked.plan, asked.ending
        self.endings[ending.kind] += 1
        self.again += asked.again
        if ending.kind != "answered" or plan.rests or asked.again:
            return
        if plan.model == HELLO:
            self._real.append(asked.over - asked.asked)
        elif not plan.behaviour.delay:
            self._first.append(ending.began - asked.asked)
            self._whole.append(asked.over - asked.asked)

    def take(self) -> tuple[Times, Times, Times]:
        """`first`, `whole`, `real` of those since the last time."""
        found = times(self._first), times(self._whole), times(self._real)
        self._clear()
        return found

    def _clear(self) -> None:
        self._first: list[float] = []
        self._whole: list[float] = []
        self._real: list[float] = []
