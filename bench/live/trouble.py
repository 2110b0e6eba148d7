"""What befalls a database: its files cannot be written for a while, by whoever has them open.

Taking away a file's permissions would not do: they are asked for when it is opened, and the router has it open. The
attribute "immutable" counts at every write; it takes root and a file system that has it. Elsewhere another program's
transaction keeps the router from writing, which is the same to it.

Not the file of shared memory: writing to a mapped page of an immutable file ends a process (SIGBUS, on ext4), which is
what no trouble in life does to it.
"""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unwritable(database: Path) -> Iterator[str]:
    """Nobody can write; what was done about it, in words."""
    files = [path for name in ("", "-wal") if (path := database.with_name(database.name + name)).exists()]
    if _set("+i", files):
        try:
            yield "its files were made read-only (chattr +i)"
        finally:
            _set("-i", files)
    else:
        _set("-i", files)  # some may have it
        with _locked(database):
            yield "it was locked by another program's transaction"


def _set(attribute: str, files: list[Path]) -> bool:
    try:
        done = subprocess.run(["chattr", attribute, *map(str, files)], capture_output=True, check=False)  # noqa: S603, S607 - as an operator types it
    except FileNotFoundError:
        return False
    return done.returncode == 0


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    connection = sqlite3.connect(database, timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
