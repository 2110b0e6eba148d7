"""Files are read once, until they change."""

import os
from pathlib import Path

import pytest

from llm_router.models.unreadable import Unreadable
from llm_router.node.models.remembered import Remembered


class Reader:
    """Reads a text, and counts how often; "bad" is refused."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, path: Path) -> str:
        self.times += 1
        content = path.read_text()
        if content == "bad":
            raise Unreadable("it is bad")
        return content


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def remembered(reader: Reader) -> Remembered[str]:
    return Remembered(reader)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("good")
    return path


def test_read_once(remembered: Remembered[str], reader: Reader, path: Path) -> None:
    """A file that stays as it is is read once."""
    for _ in range(3):
        assert remembered.of(path) == "good"
        remembered.forget()
    assert reader.times == 1


@pytest.mark.parametrize(("content", "later"), [("longer than it was", 0), ("else", 1)])
def test_read_again(remembered: Remembered[str], path: Path, content: str, later: int) -> None:
    """When its size or its time is another, it is read again."""
    remembered.of(path)
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    assert remembered.of(path) == content


def test_refused_once(remembered: Remembered[str], reader: Reader, path: Path) -> None:
    """A file that is no good is not read again either, and refused each time for the same reason."""
    path.write_text("bad")
    for _ in range(3):
        with pytest.raises(Unreadable, match="it is bad"):
            remembered.of(path)
    assert reader.times == 1


def test_gone(remembered: Remembered[str], reader: Reader, path: Path) -> None:
    """What nobody asks for any more is forgotten."""
    remembered.of(path)
    remembered.forget()
    remembered.forget()
    remembered.of(path)
    assert reader.times == 2


def test_not_there(remembered: Remembered[str], path: Path) -> None:
    """What the system refuses is tried again the next time."""
    path.unlink()
    with pytest.raises(FileNotFoundError):
        remembered.of(path)
    path.write_text("there")
    assert remembered.of(path) == "there"
