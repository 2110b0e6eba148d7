"""How late the event loop is: what whoever waits for it waits longer than need be.

Every EVERY seconds a timer falls due; how much later its callback runs is one sample. It costs what twenty timers a
second cost, some ten microseconds of each.
"""

import asyncio
import time
from bisect import bisect_left

# Seconds. A loop that is blocked for a time is met by as large a share of samples as that time is of all time, whatever
# this is; it only says how soon there are enough of them.
EVERY = 0.05
# Seconds: upper ends of the histogram's buckets. A millisecond is what timers are exact to; 20 is what the router
# promises under load; a second is a frozen router.
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class LoopLag:
    """A histogram of it since the start. `start` within the loop, `stop` before its end."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # one for each of BOUNDS, and one for what is above them all
        self.total = 0.0  # seconds, of all samples
        self.longest = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sample from now on."""
        self._due = time.monotonic() + EVERY
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._sample)

    def stop(self) -> None:
        """Sample no more; what was found stays."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, late: float) -> None:
        """One sample, in seconds."""
        self.counts[bisect_left(BOUNDS, late)] += 1
        self.total += late
        self.longest = max(self.longest, late)

    def _sample(self) -> None:
        self.add(max(time.monotonic() - self._due, 0.0))  # uvloop counts in whole milliseconds, and may be early
        self.start()
