"""Several workers and their supervisor. The workers are doubles that tell who they are."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
import structlog
from tests.doubles.worker import REASON, Who

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError, RouterError
from llm_router.router.lifeline import Refused
from llm_router.router.ports import can_share, reserved
from llm_router.router.workers import End, Worker, WorkerFailed, check, config_of, how, kill, rest, supervise, verdict

pytestmark = pytest.mark.skipif(not can_share(), reason="ports cannot be shared here")

DOUBLE = [sys.executable, str(Path(__file__).parents[1] / "doubles" / "worker.py")]
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from llm_router.config import RouterConfig
from llm_router.router.workers import run

home, *command = sys.argv[1:]
url = "postgresql+asyncpg://somebody@nowhere/none"
config = RouterConfig(home=Path(home), host="127.0.0.1", port=0, workers=2, database_url=url, log_format="json")
asyncio.run(run(config, ready=lambda port: print(port, flush=True), command=command))
"""
SHARED = "postgresql+asyncpg://somebody@nowhere/none"
PATIENCE = 30.0  # seconds: no test waits for it

MISUSED = Refused("bad setting", misused=True)
FULL = Refused("disk full", misused=False)


@pytest.fixture
def config(tmp_path: Path) -> RouterConfig:
    return RouterConfig(home=tmp_path, host="127.0.0.1", port=0, workers=2, database_url=SHARED)


@pytest.fixture(autouse=True)
def logged() -> Iterator[structlog.testing.CapturingLogger]:
    with structlog.testing.capture_logs() as events:
        yield events  # type: ignore[misc]


# -- decisions


@pytest.mark.parametrize(
    ("last", "served", "pause"),
    [(None, 0.5, 0), (None, 100, 0), (0, 0.5, 1), (1, 9, 2), (2, 0, 4), (16, 0, 30), (30, 0, 30), (30, 10, 0)],
)
def test_rest(last: float | None, served: float, pause: float) -> None:
    """At once the first time and after a life; otherwise after 1 s, doubling up to 30 s."""
    assert rest(last, End(1, served)) == pause


@pytest.mark.parametrize(
    ("number", "end", "error", "message"),
    [
        (1, End(2, 0, MISUSED), ConfigError, "bad setting"),
        (2, End(2, 0, MISUSED), ConfigError, "bad setting"),
        (1, End(1, 0, FULL), WorkerFailed, "disk full"),
        (1, End(3, 0), WorkerFailed, "the first worker ended with status 3"),
        (1, End(-9, 0), WorkerFailed, "the first worker ended with signal 9"),
    ],
)
def test_who_cannot_start_ends_all(number: int, end: End, error: type[RouterError], message: str) -> None:
    """A setting that cannot be used ends all, whoever finds it; anything else only while nobody has ever served."""
    found = verdict(number, end)
    assert type(found) is error
    assert found.message == message


@pytest.mark.parametrize("end", [End(1, 0, FULL), End(3, 0), End(-9, 0)])
def test_who_cannot_start_is_tried_again(end: End) -> None:
    """Where another one serves."""
    assert verdict(2, end) is None


def test_how() -> None:
    """A status is a number, a signal is one too; people see which."""
    assert [how(1), how(-9)] == ["status 1", "signal 9"]


def test_a_database_in_common_is_needed(config: RouterConfig) -> None:
    """With a file of its own each, they would be strangers to each other; the message says what to set."""
    check(config)
    with pytest.raises(ConfigError, match=r"set LLM_ROUTER_DATABASE_URL=postgresql\+asyncpg://user:password@host/"):
        check(msgspec.structs.replace(config, database_url=""))


def test_what_differs(config: RouterConfig) -> None:
    """They serve the same, keep their files apart, and one of them is announced."""
    one, two = (config_of(n, config, 8080) for n in (1, 2))
    assert (one.home, two.home) == (config.home / "workers" / "1", config.home / "workers" / "2")
    assert (one.announce, two.announce) == (True, False)
    assert msgspec.structs.replace(two, home=config.home, port=0, announce=True) == config


# -- processes


class Crew:
    """Workers that run, supervised in this process."""

    def __init__(self, port: int, workers: list[Worker]) -> None:
        self.port = port
        self.workers = workers
        self.first = asyncio.Event()
        self.stop = asyncio.Event()
        self.life: asyncio.Task[None]

    async def who(self) -> Who:
        """Who serves the next connection."""
        async with connected(self.port) as who:
            return who

    async def everybody(self) -> dict[int, Who]:
        """Ask until each one has answered; which one does, the kernel draws."""
        found: dict[int, Who] = {}
        while len(found) < len(self.workers):
            who = await self.who()
            found[who.worker] = who
        return found


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Who]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield msgspec.json.decode(await reader.readline(), type=Who)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def crew(config: RouterConfig, *options: str, patience: float = PATIENCE) -> AsyncIterator[Crew]:
    async with reserved(config) as port:
        workers = [Worker(n, config_of(n, config, port), [*DOUBLE, *options]) for n in range(1, config.workers + 1)]
        made = Crew(port, workers)
        made.life = asyncio.create_task(supervise(workers, patience, ready=made.first.set, stop=made.stop))
        try:
            yield made
        finally:
            made.stop.set()
            await asyncio.wait({made.life})


async def all_serve(crew: Crew) -> dict[int, Who]:
    for worker in crew.workers:
        await worker.has_served.wait()
    return await crew.everybody()


async def test_they_share_a_port(config: RouterConfig) -> None:
    """Each is a process of its own and gets some of the clients; only the first one has the standard output."""
    async with crew(config) as team:
        await team.first.wait()
        found = await all_serve(team)
        assert len({who.pid for who in found.values()} | {os.getpid()}) == 3
        assert [found[n].home for n in (1, 2)] == [str(config.home / "workers" / n) for n in ("1", "2")]
        assert [found[n].stdout for n in (1, 2)] == [True, False]
    await team.life


async def test_who_is_killed_is_started_again(config: RouterConfig, logged: list[dict[str, object]]) -> None:
    """At once, the others serve meanwhile, and the log says how it ended."""
    async with crew(config) as team:
        before = await all_serve(team)
        os.kill(before[1].pid, signal.SIGKILL)
        after = before
        while after[1].pid == before[1].pid:
            with contextlib.suppress(ConnectionError, msgspec.DecodeError):  # it was the one that was killed
                after = await team.everybody()
        assert after[2] == before[2]
        assert not after[1].stdout  # the greeting has been said
    ends = [event for event in logged if event["event"] == "worker.ended"]
    assert [(e["worker"], e["how"], e["again_in"]) for e in ends] == [(1, "signal 9", 0)]


async def test_the_end_waits_for_what_is_under_way(config: RouterConfig) -> None:
    """Who is told to end lets nobody in, and ends when its last client is served."""
    async with crew(config) as team:
        pids = {who.pid for who in (await all_serve(team)).values()}
        async with connected(team.port) as served:
            team.stop.set()
            while pids != {served.pid}:
                pids = set(filter(is_alive, pids))
                await asyncio.sleep(0.01)  # noqa: TID251 - the end of somebody else's child is no event here
            assert not team.life.done()
        await team.life
    assert not is_alive(served.pid)


async def test_who_does_not_end_is_ended(config: RouterConfig, logged: list[dict[str, object]]) -> None:
    """After the time that all have."""
    async with crew(config, "--stays", patience=0.1) as team:
        pids = {who.pid for who in (await all_serve(team)).values()}
    await team.life
    assert not any(map(is_alive, pids))
    assert [e["workers"] for e in logged if e["event"] == "workers.killed"] == [[1, 2]]


@pytest.mark.parametrize("number", [1, 2])
async def test_a_setting_that_cannot_be_used_ends_all(config: RouterConfig, number: int) -> None:
    """At the very first start, whichever of them finds it: its message, and no second try."""
    async with crew(config, "--refuses", f"{number}") as team:
        with pytest.raises(ConfigError, match=REASON):
            await team.life
        assert team.first.is_set() == (number == 2)


async def test_a_first_worker_that_crashes_ends_all(config: RouterConfig) -> None:
    """What has never served is not tried again and again."""
    async with crew(config, "--crashes", "1") as team:
        with pytest.raises(WorkerFailed, match="ended with status 3"):
            await team.life


async def test_a_program_that_cannot_be_started(config: RouterConfig) -> None:
    """It is a worker that failed, as one that crashes: with the reason, and tried again where others serve."""
    worker = Worker(1, config, [str(config.home / "none")])
    end = await worker.live()
    assert end.refused is not None
    assert "none" in end.refused.reason
    assert not end.refused.misused


async def test_a_stop_during_the_start(config: RouterConfig) -> None:
    """It counts, and leaves nobody behind."""
    async with crew(config) as team:
        await asyncio.sleep(0)  # noqa: TID251 - so that the first start has begun
        team.stop.set()
        await team.life
    assert kill(team.workers) == []


# -- the supervisor as a process


class Supervisor:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def logged(self, event: str) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            if msgspec.json.decode(line)["event"] == event:
                return
        raise AssertionError(f"{event} was not logged")


@asynccontextmanager
async def supervisor(home: Path, *options: str) -> AsyncIterator[Supervisor]:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-c", SUPERVISOR, str(home), *DOUBLE, *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    try:
        found = Supervisor(process, int(await process.stdout.readline()))
        await found.logged("workers.started")
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def pids_at(port: int) -> set[int]:
    """Of both workers."""
    found: set[int] = set()
    while len(found) < 2:
        async with connected(port) as who:
            found.add(who.pid)
    return found


def is_alive(pid: int) -> bool:
    """It runs; one that nobody has waited for does not: an orphan's new parent may take its time."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pids: set[int]) -> None:
    while any(map(is_alive, pids)):  # noqa: ASYNC110 - as below
        await asyncio.sleep(0.01)  # noqa: TID251 - the end of somebody else's child is no event here


async def test_a_killed_supervisor_leaves_nobody(tmp_path: Path) -> None:
    """However it ends, its workers serve who is connected, and end."""
    async with supervisor(tmp_path) as found:
        pids = await pids_at(found.port)
        async with connected(found.port) as who:
            found.process.kill()
            await gone(pids - {who.pid})
            assert is_alive(who.pid)
        await gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Status 0, when all workers are gone."""
    async with supervisor(tmp_path) as found:
        pids = await pids_at(found.port)
        found.process.send_signal(number)
        assert await found.process.wait() == 0
        assert not any(map(is_alive, pids))


async def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    """Whoever does not want to wait for what is under way asks twice."""
    async with supervisor(tmp_path, "--stays") as found:
        pids = await pids_at(found.port)
        found.process.send_signal(signal.SIGTERM)
        await found.logged("workers.stopping")
        found.process.send_signal(signal.SIGTERM)
        assert await found.process.wait() == 128 + signal.SIGTERM
        await gone(pids)
