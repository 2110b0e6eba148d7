"""What was read of files, until they change."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from llm_router.models.unreadable import Unreadable

T = TypeVar("T")


class Remembered(Generic[T]):
    """Reads each file once, as long as its size and time stay what they were; a file that is no good too.

    One thread at a time. `forget` ends a round: what was not asked for in it is forgotten.
    """

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._known: dict[Path, tuple[tuple[int, int], T | Unreadable]] = {}
        self._asked: set[Path] = set()

    def of(self, path: Path) -> T:
        """What is in this file.

        Raises:
            Unreadable: it is no good.
            OSError: it cannot be read, which may pass: it is tried again the next time.
        """
        self._asked.add(path)
        try:
            facts = path.stat()
        except FileNotFoundError:
            return self._read(path)  # it knows what to say of it
        state = (facts.st_size, facts.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = (state, self._result(path))
        if isinstance(known[1], Unreadable):
            raise known[1]
        return known[1]

    def forget(self) -> None:
        """Forget files that were not asked for since the last time: they are gone."""
        self._known = {path: known for path, known in self._known.items() if path in self._asked}
        self._asked.clear()

    def _result(self, path: Path) -> T | Unreadable:
        try:
            return self._read(path)
        except Unreadable as error:
            return error
