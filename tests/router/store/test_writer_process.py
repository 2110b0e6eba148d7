"""The process that writes may die, wait or refuse: whoever asked it to write knows what became of the batch."""

import asyncio
import contextlib
import itertools
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from llm_router.router.store import writer_process
from llm_router.router.store.troubles import NotNow, Rejected
from llm_router.router.store.writer import Statement
from llm_router.router.store.writer_process import WriterProcess


def new_file(directory: Path) -> Path:
    place = directory / "words.db"
    connection = sqlite3.connect(place)
    connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE words (word)")
    connection.close()
    return place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
async def process(file: Path) -> AsyncIterator[WriterProcess]:
    made = WriterProcess(file, 0.05)
    yield made
    await made.stop()


def words(*given: object) -> list[Statement]:
    return [("INSERT INTO words VALUES (?)", [(word,)]) for word in given]


def kept(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    found = [word for (word,) in connection.execute("SELECT word FROM words ORDER BY rowid")]
    connection.close()
    return found


def children(file: Path) -> list[psutil.Process]:
    """Those of ours that write into that file."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if str(file) in child.cmdline():
                found.append(child)
    return found


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes meanwhile."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


async def write_and_kill(file: Path, process: WriterProcess) -> None:
    """A batch during which the process is killed. The database is locked and the patience long: it cannot be done."""
    writing = asyncio.create_task(process.write(words("lost")))
    while not (running := children(file)):  # noqa: ASYNC110 - as below
        await asyncio.sleep(0)  # noqa: TID251 - no event tells that a process runs
    running[0].kill()
    with pytest.raises(NotNow, match="has ended"):
        await writing


async def test_nothing_runs_until_there_is_something_to_write(file: Path, process: WriterProcess) -> None:
    """A router at rest is one process; then one is enough."""
    assert children(file) == []
    await process.write(words("one"))
    (child,) = children(file)
    await process.write(words("two", "three"))
    assert children(file) == [child]
    assert kept(file) == ["one", "two", "three"]


async def test_stop_ends_it(file: Path) -> None:
    """And is no harm where nothing runs, or what ran has died."""
    process = WriterProcess(file, 0.05)
    await process.stop()
    await process.write(words("one"))
    await process.stop()
    assert children(file) == []
    await process.write(words("two"))
    children(file)[0].kill()
    await process.stop()
    assert kept(file) == ["one", "two"]


async def test_the_loop_goes_on_while_a_batch_is_made_ready(process: WriterProcess) -> None:
    """A stream's token does not wait for a thousand rows."""
    turns = itertools.count()
    seen = []

    def turn() -> None:
        next(turns)
        asyncio.get_running_loop().call_soon(turn)

    def statements() -> Iterator[Statement]:
        for statement in words("one", "two", "three"):
            seen.append(next(turns))
            yield statement

    turn()
    await process.write(statements())
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(seen))


async def test_a_locked_database_is_said_to_be_worth_another_try(file: Path, process: WriterProcess) -> None:
    """Requirement F4: nothing of the batch is there until then."""
    with locked(file), pytest.raises(NotNow, match="locked"):
        await process.write(words("one", "two"))
    await process.write(words("one", "two"))
    assert kept(file) == ["one", "two"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
async def test_so_is_a_full_disk(file: Path, process: WriterProcess) -> None:
    """Here: a limit on how long a file may become."""
    import resource  # noqa: PLC0415 - only there

    await process.write(words("one"))
    (child,) = children(file)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    with pytest.raises(NotNow):
        await process.write(words("two"))
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await process.write(words("two"))
    assert kept(file) == ["one", "two"]


async def test_so_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A disk that is not mounted yet."""
    process = WriterProcess(tmp_path / "disk" / "words.db", 0.05)
    with pytest.raises(NotNow, match="unable to open"):
        await process.write(words("one"))
    (tmp_path / "disk").mkdir()
    new_file(tmp_path / "disk")
    await process.write(words("one"))
    await process.stop()


@pytest.mark.parametrize("impossible", [2**63, 2**70, "\ud800"])
async def test_what_the_database_cannot_hold_is_rejected(
    file: Path, process: WriterProcess, impossible: object
) -> None:
    """With its batch; the next one is written."""
    with pytest.raises((Rejected, OverflowError, ValueError)):
        await process.write(words("one", impossible))
    await process.write(words("two"))
    assert kept(file) == ["two"]


async def test_a_death_between_two_batches_costs_one_try_at_most(file: Path, process: WriterProcess) -> None:
    """None where the router has heard of it before; the next starts another."""
    await process.write(words("one"))
    children(file)[0].kill()
    with contextlib.suppress(NotNow):
        await process.write(words("two"))
    await process.write(words("three"))
    assert kept(file) in (["one", "two", "three"], ["one", "three"])


async def test_a_death_in_the_middle_is_told(file: Path) -> None:
    """Requirement F4: whoever asked keeps the batch, and the next try starts another at once."""
    process = WriterProcess(file, 60)
    with locked(file):
        await write_and_kill(file, process)
    await process.write(words("again"))
    assert kept(file) == ["again"]
    await process.stop()


async def test_what_keeps_dying_rests(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed again and again must not take the machine with it."""
    monkeypatch.setattr(writer_process, "REST", 3600.0)  # it is not over before the next batch comes
    process = WriterProcess(file, 60)
    with locked(file):
        await write_and_kill(file, process)
        await write_and_kill(file, process)
        with pytest.raises(NotNow, match="keeps dying"):
            await process.write(words("refused"))
    assert children(file) == []
    await process.stop()


async def test_after_a_rest_it_is_started_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one answer makes up for every death before."""
    monkeypatch.setattr(writer_process, "REST", 0.0)
    process = WriterProcess(file, 60)
    with locked(file):
        for _ in range(3):
            await write_and_kill(file, process)
    await process.write(words("one"))
    monkeypatch.setattr(writer_process, "REST", 3600.0)
    with locked(file):
        await write_and_kill(file, process)
    await process.write(words("two"))
    assert kept(file) == ["one", "two"]
    await process.stop()


async def test_a_process_that_cannot_be_started_is_tried_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without memory has some later."""
    monkeypatch.setattr(sys, "executable", str(file.with_name("no python")))
    monkeypatch.setattr(writer_process, "REST", 3600.0)  # as above
    process = WriterProcess(file, 0.05)
    for _ in range(2):
        with pytest.raises(NotNow, match="cannot be started"):
            await process.write(words("one"))
    with pytest.raises(NotNow, match="keeps dying"):
        await process.write(words("one"))
    await process.stop()


async def test_two_routers_write_into_one_file(file: Path) -> None:
    """Each in its own order, and nothing is lost."""
    processes = [WriterProcess(file, 60) for _ in range(2)]

    async def write(name: str, process: WriterProcess) -> None:
        for number in range(20):
            await process.write(words(f"{name} {number:02}"))

    await asyncio.gather(write("a", processes[0]), write("b", processes[1]))
    found = kept(file)
    for name in "ab":
        assert [word for word in found if word[0] == name] == [f"{name} {number:02}" for number in range(20)]
    for process in processes:
        await process.stop()
