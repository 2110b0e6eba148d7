"""How busy a machine is."""

from collections import deque

import msgspec

# Seconds: three heartbeats. A router uses a node above 80 % only when no other can answer (requirement D1), and a model
# that is being loaded, or a prompt that is being read, is busy for less than most of this.
WINDOW = 15.0


class Load(msgspec.Struct, frozen=True):
    """How busy the machine is: `cpu` and `memory` in percent, `memory_total` in bytes."""

    cpu: float
    memory: float
    memory_total: int


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
