"""One model's process under supervision: real processes that die, hang and do not start (requirements E2, E3)."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
from tests.node.conftest import Journal, reads_proc, runtimes_processes, stop_in_its_tracks

from llm_router.errors import UpstreamFailed
from llm_router.node.models import builtin
from llm_router.node.runtimes import supervisor
from llm_router.node.runtimes.llamacpp.child import Settings
from llm_router.node.runtimes.llamacpp.process import ModelProcess
from llm_router.node.runtimes.supervisor import Supervisor, pause

if TYPE_CHECKING:
    from llm_router.contract import Address


class House:
    """A model and who looks after it. `used` is whether a request is in flight on it."""

    def __init__(self, path: Path, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.used = False
        self.addresses: list[Address | None] = []
        settings = Settings("m", str(path), str(path.with_suffix(".log")), 1, 512, 1)
        self.supervisor = Supervisor(
            "model",
            partial(ModelProcess, settings),
            session,
            journal.log,
            in_use=lambda: self.used,
            moved=self.addresses.append,
        )

    @property
    def running(self) -> bool:
        return self.supervisor.address is not None

    def process(self) -> psutil.Process:
        """The one process that runs."""
        (child,) = runtimes_processes()
        return child

    async def stop_process(self) -> None:
        await asyncio.to_thread(stop_in_its_tracks, self.process().pid)


@pytest.fixture
async def house(tmp_path: Path, session: aiohttp.ClientSession, journal: Journal) -> AsyncIterator[House]:
    builtin.write(tmp_path / "m.gguf")
    house = House(tmp_path / "m.gguf", session, journal)
    yield house
    await house.supervisor.end()


@pytest.fixture
async def broken(tmp_path: Path, session: aiohttp.ClientSession, journal: Journal) -> AsyncIterator[House]:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03\0\0\0 and nothing else")
    house = House(tmp_path / "m.gguf", session, journal)
    yield house
    await house.supervisor.end()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Looks follow each other quickly, and do not wait long; `undo` ends that."""
    monkeypatch.setattr(supervisor, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(supervisor, "LOOK_WITHIN", 0.2)
    return monkeypatch


@reads_proc
async def test_one_that_hangs_is_found_out(house: House, impatient: pytest.MonkeyPatch, journal: Journal) -> None:
    """Nobody has to ask it: a process that stands still is killed, SIGTERM or not; if nobody used it, that is all."""
    await house.supervisor.wake()
    process = house.process()
    await house.stop_process()
    await journal.entry("model.process_hung")
    await journal.entry("model.process_ended")
    impatient.undo()
    assert not process.is_running()
    assert house.addresses[-1] is None
    assert len(journal.find("model.started")) == 1
    assert await house.supervisor.wake() == house.supervisor.address


@reads_proc
async def test_one_that_was_in_use_is_started_again(
    house: House, impatient: pytest.MonkeyPatch, journal: Journal
) -> None:
    """At once, with no request that asks for it (E2)."""
    await house.supervisor.wake()
    house.used = True
    await house.stop_process()
    await journal.entry("model.process_hung")
    impatient.undo()
    await journal.entry("model.started", 2)
    assert house.running


async def test_one_that_dies_in_use_is_started_again(house: House, journal: Journal) -> None:
    """A crash is no different, and the log says how it ended."""
    await house.supervisor.wake()
    house.used = True
    house.process().kill()
    entry = await journal.entry("model.process_ended")
    assert "by signal 9" in entry["reason"]
    await journal.entry("model.started", 2)


async def test_a_failed_request_says_that_it_was_in_use(house: House, journal: Journal) -> None:
    """Its connections broke before the end of the process was heard of: what was in flight is not any more."""
    await house.supervisor.wake()
    house.process().kill()
    await house.supervisor.check()
    await journal.entry("model.started", 2)
    assert not journal.find("model.process_hung")


async def test_one_that_nobody_used_stays_away(house: House, journal: Journal) -> None:
    """The memory may be wanted for another model; the next request starts it."""
    await house.supervisor.wake()
    house.process().kill()
    await journal.entry("model.process_ended")
    assert not house.running
    await house.supervisor.wake()
    assert [address is None for address in house.addresses] == [False, True, False]


async def test_a_healthy_one_is_left_alone(house: House, journal: Journal) -> None:
    """A look that is answered changes nothing."""
    await house.supervisor.wake()
    before = house.process().pid
    await house.supervisor.check()
    assert house.process().pid == before
    assert len(journal.entries) == 1


async def test_one_that_keeps_dying(house: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """The second time in a row there is a pause, and a request is told why, so that another node can have it."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 30.0)
    for number in (1, 2):
        await house.supervisor.wake()
        house.process().kill()
        await journal.entry("model.process_ended", number)
    with pytest.raises(UpstreamFailed, match=r"process of m ended by signal 9.*tried again in (30|29) s"):
        await house.supervisor.wake()


async def test_a_short_pause_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """A request that comes in a pause that is soon over is answered."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    for number in (1, 2):
        await house.supervisor.wake()
        house.process().kill()
        await journal.entry("model.process_ended", number)
    await house.supervisor.wake()
    assert house.running


async def test_service_is_forgiven(house: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """Who served for a while before it died is not one that keeps dying."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 30.0)
    monkeypatch.setattr(supervisor, "STEADY_AFTER", 0.0)
    for number in (1, 2):
        await house.supervisor.wake()
        house.process().kill()
        await journal.entry("model.process_ended", number)
    await house.supervisor.wake()
    assert house.running


async def test_one_that_does_not_start(broken: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """It is tried again for the next request, but not for every one; nothing ever starts it but requests."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 30.0)
    broken.used = True
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match="m could not be started"):
            await broken.supervisor.wake()
        await broken.supervisor.check()
    with pytest.raises(UpstreamFailed, match=r"m could not be started.*tried again in"):
        await broken.supervisor.wake()
    assert [entry["failures"] for entry in journal.find("model.start_failed")] == [1, 2]
    assert broken.addresses == []


async def test_ended_for_good(house: House, journal: Journal) -> None:
    """What is ended on purpose is not started again, and is no failure."""
    await house.supervisor.wake()
    house.used = True
    await house.supervisor.end()
    assert not runtimes_processes()
    with pytest.raises(UpstreamFailed, match="stopping"):
        await house.supervisor.wake()
    assert len(journal.entries) == 1


def test_pauses() -> None:
    """None after the first failure, then a second, doubling to a minute."""
    assert [pause(n) for n in (0, 1, 2, 3, 4, 7, 8, 9, 10_000)] == [0, 0, 1, 2, 4, 32, 60, 60, 60]
