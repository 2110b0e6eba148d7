"""Facts about this machine, for the registration and the heartbeat."""

import platform
import time
from collections import deque

import msgspec
import psutil

from llm_router.contract import Gpu

# Seconds: three heartbeats. A router uses a node above 80 % only when no other can answer (requirement D1), and a model
# that is being loaded, or a prompt that is being read, is busy for less than most of this.
WINDOW = 15.0


class Load(msgspec.Struct, frozen=True):
    """How busy the machine is: `cpu` and `memory` in percent, `memory_total` in bytes."""

    cpu: float
    memory: float
    memory_total: int


class Hardware:
    """The machine this runs on. Nothing here waits: the figures are the kernel's counters, read at once."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the next call answers for the time since this one; this one answers 0
        self._cpu = Mean(time.monotonic())

    def load(self) -> Load:
        """Processor use as a mean over the last WINDOW seconds, so that a spike is not taken for a busy machine.

        The time before the agent started counts as idle. Memory use is that of now.
        """
        memory = psutil.virtual_memory()
        return Load(self._cpu.add(psutil.cpu_percent(), time.monotonic()), memory.percent, memory.total)

    def gpus(self) -> list[Gpu]:
        """None yet."""
        return []

    def os(self) -> str:
        """For people, as in "Linux 6.1 x86_64"."""
        release = ".".join(platform.release().split("-")[0].split(".")[:2])
        return f"{platform.system()} {release} {platform.machine()}"


class Mean:
    """The mean over the last WINDOW seconds of a figure; times in seconds, on any one clock."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._spans: deque[tuple[float, float, float]] = deque()  # from, to, the figure between them

    def add(self, value: float, now: float) -> float:
        """`value` held since the last call, or since the beginning; the mean, to one decimal place."""
        self._spans.append((self._last, now, value))
        self._last = now
        begin = now - WINDOW
        while self._spans[0][1] < begin:
            self._spans.popleft()
        total = sum(value * (end - max(start, begin)) for start, end, value in self._spans)
        return round(total / WINDOW, 1)


def machine_name() -> str:
    """The name the machine gives itself, without its domain."""
    return platform.node().split(".")[0] or "node"
