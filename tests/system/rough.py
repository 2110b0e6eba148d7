"""What the tests under load share: rough upstreams as processes, a loop for rough clients, what a router holds."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
import uvloop
from tests.doubles.rough_upstream import Seen
from tests.system.harness import Fake, House, Process, Router, call, eventually

T = TypeVar("T")

PROGRAM = Path(__file__).parents[1] / "doubles" / "rough_upstream.py"
# Seconds: the router holds an idle connection to an upstream for 55 (gateway/upstream.py), and sweeps once a second.
IDLE = 75.0


class Rough(Fake):
    """`tests/doubles/rough_upstream.py`."""

    def report(self) -> Seen:
        return msgspec.json.decode(call(self.url, "GET", "/_seen").body, type=Seen)


def rough(house: House, name: str, *models: str) -> Rough:
    """Start a rough upstream that has these models."""
    started = Rough(name, [sys.executable, str(PROGRAM), "--models", ",".join(models)], house.directory)
    house.processes.append(started.start())
    return started


def together(work: Coroutine[Any, Any, T], within: float = 240.0) -> T:
    """Run clients on a loop that is quick enough for all of them; pytest's own time-out does not reach into it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(work, within))


WRITER = 3  # descriptors: the process that writes the history, begun with the first request, has two pipes and a watch


def files(process: Process) -> int:
    """Descriptors it has open."""
    return psutil.Process(process.pid).num_fds()


def memory(process: Process) -> int:
    """Bytes that are resident."""
    return int(psutil.Process(process.pid).memory_info().rss)


def quiet(router: Router, *upstreams: Rough) -> None:
    """Wait until nothing is in flight, here or behind; fails if something stays."""
    eventually(lambda: not any(node.in_flight for node in router.nodes().values()))
    for upstream in upstreams:
        eventually(lambda upstream=upstream: upstream.report().at_work == 0)  # type: ignore[misc]  # bound per turn


def closed(process: Process, at_first: int, seconds: float = IDLE) -> None:
    """Wait until it has no more descriptors open than at first, but for WRITER."""
    eventually(lambda: files(process) <= at_first + WRITER, seconds)


def accounted(router: Router, at_first: int, *upstreams: Rough) -> None:
    """Wait until what it has open more than at first are connections kept for the next request, and WRITER."""
    at_most = at_first + WRITER
    eventually(lambda: files(router) <= at_most + sum(upstream.report().connections for upstream in upstreams))
