"""How far a transfer is: for people who watch it, and for the log."""

from collections import deque

from structlog.typing import FilteringBoundLogger


class Meter:
    """How far something is, and how fast: `done` of `total` bytes, total 0 where nobody knows.

    It may be told from one thread and asked from another. Times in seconds, on any one clock.
    """

    window = 10.0  # seconds that the rate is a mean of: follows a change, without jumping with each block
    step = 0.25  # seconds between two samples that are kept

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(self.window / self.step))

    def note(self, done: int, total: int, now: float) -> None:
        """So far it is now."""
        if done < self.done:  # begun again
            self._samples.clear()
        if not self._samples or now - self._samples[-1][0] >= self.step:
            self._samples.append((now, done))
        self.done, self.total = done, total

    def rate(self, now: float) -> float:
        """Bytes per second; 0 before there is anything to tell it from."""
        recent = [sample for sample in tuple(self._samples) if now - sample[0] <= self.window]
        if not recent or now <= recent[0][0]:
            return 0.0
        return (self.done - recent[0][1]) / (now - recent[0][0])

    def left(self, now: float) -> float:
        """Seconds until it is done, at this rate; 0 where that cannot be told."""
        rate = self.rate(now)
        return max(0, self.total - self.done) / rate if rate else 0.0


class Tenths:
    """Says in the log how far something is, at every 10 % (requirement H4); nothing where nobody knows the total."""

    def __init__(self, log: FilteringBoundLogger, event: str, **fields: str) -> None:
        """`event` and `fields`: what is said, beside `percent`."""
        self._log = log
        self._event = event
        self._fields = fields
        self._passed = 0

    def note(self, done: int, total: int) -> None:
        """So far it is now, in bytes; less than before where it begins again."""
        passed = 10 * done // total if total else 0
        if passed > self._passed:
            self._log.info(self._event, percent=10 * passed, **self._fields)
        self._passed = passed
