"""The program that writes, as who starts it sees it."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import msgpack

from llm_router.router.store import writer
from llm_router.router.store.writer import END, HEAD, Answer, Statement, frame

INSERT = "INSERT INTO words VALUES (?, ?)"
INDEX = "INSERT INTO counts SELECT count(*) FROM words WHERE rowid > ?"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "a b%?#.db"
    other = sqlite3.connect(place)
    other.executescript("PRAGMA journal_mode=WAL; CREATE TABLE words (word UNIQUE, number); CREATE TABLE counts (n)")
    other.close()
    return place


@pytest.fixture
def child(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", writer.__name__, str(file), "0.05"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as running:
        yield running
        running.kill()


def send(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.flush()


def answer(child: subprocess.Popen[bytes]) -> Answer:
    assert child.stdout is not None
    (length,) = HEAD.unpack(child.stdout.read(HEAD.size))
    told: Answer = msgpack.decode(child.stdout.read(length), type=Answer)
    return told


def ask(child: subprocess.Popen[bytes], *statements: Statement) -> Answer:
    send(child, b"".join(map(frame, statements)) + END)
    return answer(child)


def kept(file: Path, query: str = "SELECT word FROM words ORDER BY rowid") -> list[object]:
    connection = sqlite3.connect(file)
    found = [value for (value,) in connection.execute(query)]
    connection.close()
    return found


def test_a_batch_is_written_and_answered(child: subprocess.Popen[bytes], file: Path) -> None:
    """All its statements, row by row, each batch after the one before."""
    assert ask(child, (INSERT, [("one", 1), ("two", 0.5)]), (INDEX, [(0,)])) is None
    assert ask(child, (INSERT, [("three", True)]), (INDEX, [(2,)])) is None
    assert kept(file) == ["one", "two", "three"]
    assert kept(file, "SELECT n FROM counts") == [2, 1]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ((INSERT, [("two", 2), ("one", 1)]), "IntegrityError"),
        ((INSERT, [("two", 2**63)]), "OverflowError"),
        ((INSERT, [("two", 2, 3)]), "ProgrammingError"),
        (("INSERT INTO nowhere VALUES (?)", [(1,)]), "OperationalError"),
    ],
)
def test_a_batch_is_written_whole_or_not_at_all(
    child: subprocess.Popen[bytes], file: Path, bad: Statement, kind: str
) -> None:
    """The answer says why not, and the next batch is written."""
    told = ask(child, (INSERT, [("one", 1)]), bad)
    assert told is not None
    assert told[0] == kind
    assert told[1]
    assert kept(file) == []
    assert ask(child, (INSERT, [("one", 1)])) is None
    assert kept(file) == ["one"]


def test_others_who_write_are_waited_for_that_long_and_no_longer(child: subprocess.Popen[bytes], file: Path) -> None:
    """Then the answer says that the database is locked."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert ask(child, (INSERT, [("one", 1)])) == ("OperationalError", "database is locked")
    other.execute("COMMIT")
    assert ask(child, (INSERT, [("one", 1)])) is None
    other.close()


def test_a_file_that_cannot_be_opened_is_an_answer(tmp_path: Path) -> None:
    """To every batch: it is tried again with each, and the process stays."""
    command = [sys.executable, "-m", writer.__name__, str(tmp_path / "not there" / "words.db"), "0.05"]
    two = (frame((INSERT, [("one", 1)])) + END) * 2
    told = subprocess.run(command, input=two, capture_output=True, check=True).stdout
    assert told == frame(("OperationalError", "unable to open database file")) * 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_signals_do_not_end_it(child: subprocess.Popen[bytes], file: Path) -> None:
    """Ctrl-C and systemd reach it with the router, which has more to write after them."""
    assert ask(child, (INSERT, [("one", 1)])) is None  # it runs
    for told in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        child.send_signal(told)
    assert ask(child, (INSERT, [("two", 2)])) is None
    assert kept(file) == ["one", "two"]


def test_the_end_of_its_input_ends_it(child: subprocess.Popen[bytes], file: Path) -> None:
    """With what it has been given written, what was begun left out, and nothing said."""
    whole, begun = frame((INSERT, [("one", 1)])) + END, frame((INSERT, [("two", 2)]))
    out, error = child.communicate(whole + begun)
    assert (child.returncode, out, error) == (0, frame(None), b"")
    assert kept(file) == ["one"]


@pytest.mark.parametrize("cut", [2, 6, -1])
def test_half_a_frame_is_left_out(child: subprocess.Popen[bytes], file: Path, cut: int) -> None:
    """Its sender died while it wrote."""
    out, error = child.communicate((frame((INSERT, [("one", 1)])) + END)[:cut])
    assert (child.returncode, out, error) == (0, b"", b"")
    assert kept(file) == []


def test_it_does_not_mind_that_nobody_hears_its_answer(child: subprocess.Popen[bytes], file: Path) -> None:
    """A router was killed: the batch is written, and nothing is said about it on the terminal."""
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdin is not None
    child.stdout.close()
    send(child, frame((INSERT, [("one", 1)])) + END)
    child.stdin.close()
    assert child.stderr.read() == b""
    assert child.wait() == 0
    assert kept(file) == ["one"]


def test_it_carries_next_to_nothing() -> None:
    """Every router has one: no SQLAlchemy, no event loop (15 MB, of which the router's own pages are half)."""
    code = (
        f"import sys, {writer.__name__}; print([m for m in ('sqlalchemy', 'asyncio', 'structlog') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
