"""Two clocks: the registry counts in monotonic seconds, which no correction moves; people and tables in the epoch's."""

import time


def epoch(moment: float) -> float:
    """A moment of the monotonic clock, in seconds since the epoch."""
    return time.time() - (time.monotonic() - moment)
