"""Refusals, told to operators without letting a stranger fill the log. Pure: `now` in seconds.

The first one of an address is told at once, further ones with the next that is told, as a number.
"""

from collections import OrderedDict

EVERY = 60.0  # seconds between two lines about one address
PER_MINUTE = 30  # lines about all of them: what a person reads, and 5 MB of events in a week
ADDRESSES = 4096  # remembered, the last ones
SHOWN = 120  # characters of a path


class Refusals:
    """Decides which are told, and how."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()  # told at, and how many there were since
        self._minute = 0.0
        self._told = 0

    def line(self, client: str, path: str, why: str, now: float) -> str | None:
        """What to tell of one; None: nothing now."""
        told, more = self._known.get(client, (-EVERY, 0))
        if now - told < EVERY or not self._has_room(now):
            self._remember(client, (told, more + 1))
            return None
        self._remember(client, (now, 0))
        return f"{path[:SHOWN]}: {why}" + (f" (and {more} more before)" if more else "")

    def _has_room(self, now: float) -> bool:
        if now - self._minute >= EVERY:
            self._minute, self._told = now, 0
        self._told += 1
        return self._told <= PER_MINUTE

    def _remember(self, client: str, entry: tuple[float, int]) -> None:
        self._known[client] = entry
        self._known.move_to_end(client)
        if len(self._known) > ADDRESSES:
            self._known.popitem(last=False)
