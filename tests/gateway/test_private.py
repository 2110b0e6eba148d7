"""Small files, written whole or not at all."""

import stat
import sys
from pathlib import Path

import pytest

from llm_router.gateway.private import write_private


def test_replaces_what_was_there(tmp_path: Path) -> None:
    """The directory is made, nothing is left beside the file, not even of a write that was cut off."""
    path = tmp_path / "node" / "file"
    write_private(path, b"old and longer")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_is_for_its_user_alone(tmp_path: Path) -> None:
    """Though the file was open to others before."""
    path = tmp_path / "file"
    path.write_bytes(b"open")
    path.chmod(0o644)
    write_private(path, b"private")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    """The caller hears of it."""
    (tmp_path / "node").write_bytes(b"a file where a directory should be")
    with pytest.raises(OSError, match="node"):
        write_private(tmp_path / "node" / "file", b"new")
