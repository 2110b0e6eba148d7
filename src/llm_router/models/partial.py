"""A file on its way: what is there of it, and what it belongs to. Everything here blocks.

It grows as `<target>.partial`, beside it `<target>.partial.tag` says which version of the file its bytes belong to
(`answers`); only a file that is complete and right gets the name `<target>`.
"""

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import BinaryIO

from llm_router.models.answers import is_of_use
from llm_router.models.failures import NoRoom

BLOCK = 1 << 20  # bytes that are hashed at once


class Partial:
    """The bytes that are there of a file, and the tag of the version they belong to.

    `in_pieces`: they came in more than one answer.
    """

    def __init__(self, target: Path, sha256: str) -> None:
        """`sha256`: what the file shall have; empty where nobody knows. Nothing is touched before `open`."""
        self.target = target
        self.path = _partial(target)
        self.size = 0
        self.tag = ""
        self.in_pieces = False
        self._sha256 = sha256
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def open(self, stop: threading.Event) -> None:
        """Take up what an earlier call left, or begin. `stop`: set by another thread when nobody needs it any more."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.path, self._tag_file):
            if path.is_symlink():  # none of ours: what it leads to is not for us to write
                path.unlink()
        self._file = self.path.open("ab")
        self.tag = self._tag_file.read_text("utf-8") if self._tag_file.exists() else ""
        if not is_of_use(self.tag, self._sha256):
            self.restart("")
            return
        self.size = self.path.stat().st_size
        self.in_pieces = self.size > 0
        self._hash = _hash(self.path, stop)

    def append(self, block: bytes) -> None:
        """The next bytes."""
        self._opened.write(block)
        self.size += len(block)
        self._hash.update(block)

    def continue_at(self, start: int, tag: str) -> None:
        """What comes now belongs at `start`: behind what is there, or in place of it."""
        if start:
            self.in_pieces = True
        else:
            self.restart(tag)

    def restart(self, tag: str) -> None:
        """Throw away what is there; what comes now belongs to `tag`, or cannot be resumed if that is empty."""
        self._opened.truncate(0)
        self._tag_file.write_text(tag, "utf-8")
        self.size, self.tag, self.in_pieces = 0, tag, False
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        """The SHA-256 of all bytes, in hexadecimal."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Give it its name; it must not outlive a power cut that its bytes do not."""
        self._opened.flush()
        os.fsync(self._opened.fileno())
        self.close()
        self.path.replace(self.target)
        self._tag_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it to a later call."""
        if self._file is not None:
            self._file.close()

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None, "not opened"  # noqa: S101 - a mistake of ours, not of the world
        return self._file

    @property
    def _tag_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tag")


def partial_size(target: Path) -> int:
    """How many bytes of it lie there so far."""
    path = _partial(target)
    return path.stat().st_size if path.exists() else 0


def is_there(target: Path, sha256: str, stop: threading.Event) -> bool:
    """Whether the file is there, and has this checksum. `stop` as in `Partial.open`."""
    return bool(sha256) and target.is_file() and _hash(target, stop).hexdigest() == sha256.lower()


def check_room(target: Path, more: int) -> None:
    """Nothing, if its disk can take `more` bytes.

    Raises:
        NoRoom: it cannot; the message says what is there, and where.
    """
    place = next(path for path in target.absolute().parents if path.exists())
    free = shutil.disk_usage(place).free
    if more > free:
        need, left = _megabytes(more), _megabytes(free)
        raise NoRoom(f"{target.name} needs {need} more, {target.parent} has {left} left: make room there")


def _hash(path: Path, stop: threading.Event) -> "hashlib._Hash":
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while not stop.is_set() and (block := file.read(BLOCK)):
            sha256.update(block)
    return sha256


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"
