"""The error of every reader here."""


class Unreadable(Exception):
    """A file does not say which model it holds, or not in a way that can be trusted. `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
