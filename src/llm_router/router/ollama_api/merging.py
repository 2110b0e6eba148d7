"""One stream of what several nodes say that fetch the same model.

What one of them says of a file is added to what the others say of it, so that a client's bar is at its end when the
last of them is. A step that all take is told once. How it ended is told when it has for all: success, or what went
wrong, and where.
"""

from collections.abc import Sequence

from llm_router.models.ollama.calls import SUCCESS, Record, said


class Merged:
    """The state of it. `names`: the nodes."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._steps: set[str | int] = set()
        self._totals: dict[str, int] = {}
        self._completed: dict[str, dict[int, int]] = {}  # of each file: node -> bytes
        self._errors: dict[int, str] = {}
        self._done: set[int] = set()

    @property
    def succeeded(self) -> list[int]:
        """Which nodes have it now."""
        return sorted(self._done)

    def take(self, node: int, record: Record) -> bytes | None:
        """The node said this; what the client is to be told, if anything."""
        if record.error:
            self._errors.setdefault(node, record.error)
        elif record.status == SUCCESS:
            self._done.add(node)
        elif record.digest:
            return self._file(node, record)
        elif record.status not in self._steps:
            self._steps.add(record.status)
            return said(status=record.status)
        return None

    def last(self) -> bytes:
        """How it ended."""
        silent = "its answer ended before it said how it went"
        ends = {node: self._errors.get(node, silent) for node in range(len(self._names)) if node not in self._done}
        if not ends:
            return said(status=SUCCESS)
        return said(error="; ".join(f"{self._names[node]}: {why}" for node, why in ends.items()))

    def _file(self, node: int, record: Record) -> bytes:
        of_all = self._completed.setdefault(record.digest, {})
        of_all[node] = max(of_all.get(node, 0), record.completed)
        total = self._totals[record.digest] = max(self._totals.get(record.digest, 0), record.total)
        completed = sum(total if n in self._done else of_all.get(n, 0) for n in range(len(self._names)))
        many = len(self._names)
        return said(status=record.status, digest=record.digest, total=total * many, completed=completed)
