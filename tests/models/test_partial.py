"""A file on its way, on the disk: what is taken up, what is thrown away."""

import hashlib
import threading
from pathlib import Path

import pytest

from llm_router.models.answers import tag_of
from llm_router.models.failures import NoRoom
from llm_router.models.partial import Partial, check_room, is_there, partial_size

CONTENT = b"content" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NEVER = threading.Event()


def left(target: Path, content: bytes, sha256: str = SHA256) -> None:
    """What a call leaves that is cut short."""
    partial = Partial(target, sha256)
    partial.open(NEVER)
    partial.continue_at(0, tag_of({}, sha256))
    partial.append(content)
    partial.close()


def test_taken_up(tmp_path: Path) -> None:
    """What was left is gone on with, and is checked from its first byte."""
    target = tmp_path / "new" / "model.gguf"
    assert partial_size(target) == 0
    left(target, CONTENT[:3000])
    assert partial_size(target) == 3000
    partial = Partial(target, SHA256)
    partial.open(NEVER)
    assert (partial.size, partial.in_pieces) == (3000, True)
    partial.continue_at(3000, partial.tag)
    partial.append(CONTENT[3000:])
    assert partial.digest() == SHA256
    partial.finish()
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]


def test_of_another_file(tmp_path: Path) -> None:
    """What was left of a file with another checksum is thrown away."""
    target = tmp_path / "model.gguf"
    left(target, CONTENT[:3000], sha256="0" * 64)
    partial = Partial(target, SHA256)
    partial.open(NEVER)
    partial.close()
    assert (partial.size, partial_size(target)) == (0, 0)


def test_asked_to_stop(tmp_path: Path) -> None:
    """Whoever is asked to stop does not read a large file to its end first."""
    target = tmp_path / "model.gguf"
    target.write_bytes(CONTENT)
    stop = threading.Event()
    assert is_there(target, SHA256, stop)
    stop.set()
    assert not is_there(target, SHA256, stop)


def test_room_where_there_is_no_directory_yet(tmp_path: Path) -> None:
    """Whether a disk has room is known before a directory is made there."""
    target = tmp_path / "a" / "b" / "model.gguf"
    check_room(target, 1)
    with pytest.raises(NoRoom, match=r"model\.gguf needs .* make room there"):
        check_room(target, 1 << 60)
    assert not (tmp_path / "a").exists()
