"""How long a model that failed on a node is kept from it, and when it is tried again (requirements C6, C7)."""

LONGEST = 600.0  # seconds between two trials, at most (requirement C7)


class Exclusion:
    """One model on one node. Times are those of `now`.

    `until` is when a request may try it again; `trial` says that one is doing so.
    """

    __slots__ = ("delay", "reason", "since", "trial", "until")

    def __init__(self, reason: str, now: float, delay: float) -> None:
        self.reason = reason
        self.since = now
        self.delay = delay
        self.until = now + delay
        self.trial = False

    def again(self, reason: str, now: float) -> None:
        """A trial failed: the next one is twice as far away."""
        self.reason = reason
        self.delay = min(2 * self.delay, LONGEST)
        self.until = now + self.delay
        self.trial = False

    def is_due(self, now: float) -> bool:
        """Whether a request may try now."""
        return now >= self.until and not self.trial
