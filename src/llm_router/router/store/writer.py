"""Writes rows into an SQLite file: `python -m llm_router.router.store.writer FILE SECONDS`.

A process of its own, because a busy event loop and a thread that writes pay dearly for sharing one interpreter: each
wants its lock at every step, thousands of times a second. It knows nothing of what it writes. Standard input brings
batches, standard output takes an answer to each; both in frames of a length (HEAD) and as many bytes of MessagePack:

    batch   a frame per statement, [sql, rows], then an empty frame; it is written in one transaction, or not at all
    answer  nil, or [class, text] of the error

It waits SECONDS for others who write into the file. It ends at the end of its input and by nothing else: Ctrl-C in a
terminal and systemd's SIGTERM reach it too, and the router has more to write after them. A batch that ends before its
empty frame does is left out.
"""

import io
import signal
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, BinaryIO, TypeAlias

from msgspec import msgpack

Statement: TypeAlias = tuple[str, list[tuple[Any, ...]]]  # its SQL, and rows of parameters for its question marks
Answer: TypeAlias = tuple[str, str] | None

HEAD = Struct("!I")
END = HEAD.pack(0)

# A power cut may lose the last second, never the file, which is in WAL mode (SQLite, "PRAGMA synchronous").
SYNCHRONOUS = "PRAGMA synchronous=NORMAL"
# KiB, of SQLite's 2,000: rows are appended, next to none is read again.
CACHE_SIZE = "PRAGMA cache_size=-512"


def frame(message: object) -> bytes:
    """A message as it travels, in both directions."""
    data = msgpack.encode(message)
    return HEAD.pack(len(data)) + data


def batches(source: BinaryIO) -> Iterator[Iterator[Statement]]:
    """The batches that arrive, until there are no more. A statement is decoded when its turn has come: 2 MB less."""
    frames: list[bytes] = []
    while len(head := source.read(HEAD.size)) == HEAD.size:
        (length,) = HEAD.unpack(head)
        if length:
            frames.append(source.read(length))
        else:
            yield map(msgpack.decode, frames)
            frames = []


def connect(file: str, patience: float) -> sqlite3.Connection:
    """A connection that begins and ends no transaction by itself; `patience` in seconds, for others' transactions."""
    connection = sqlite3.connect(file, timeout=patience, isolation_level=None)
    connection.execute(SYNCHRONOUS)
    connection.execute(CACHE_SIZE)
    return connection


def write(connection: sqlite3.Connection, statements: Iterable[Statement]) -> None:
    """All of it, in one transaction.

    Raises:
        sqlite3.Error, OverflowError, ValueError: nothing of it was written.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for sql, rows in statements:
            connection.executemany(sql, rows)


def serve(file: str, patience: float, source: BinaryIO, sink: io.RawIOBase) -> None:
    """Answer each batch, until there are no more."""
    connection: sqlite3.Connection | None = None
    for statements in batches(source):
        answer: Answer = None
        try:
            connection = connection or connect(file, patience)
            write(connection, statements)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            answer = (type(error).__name__, str(error))
        sink.write(frame(answer))
    if connection is not None:
        connection.close()


def main() -> None:
    """Serve standard input."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        serve(sys.argv[1], float(sys.argv[2]), sys.stdin.buffer, io.FileIO(1, "w", closefd=False))
    except BrokenPipeError:  # nobody is there any more to hear the answer
        return


if __name__ == "__main__":
    main()
