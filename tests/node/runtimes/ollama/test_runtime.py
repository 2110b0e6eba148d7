"""The runtime `ollama`: a program that is installed already, and does what the tests tell it to (G6, G7, A9, E2)."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from tests.doubles import fake_ollama
from tests.node.conftest import Journal, reads_proc, stop_in_its_tracks

from llm_router.config import NodeConfig
from llm_router.contract import Progress, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.node import DEFAULT_SLOTS, Node
from llm_router.core.registry import Registry
from llm_router.errors import ConfigError, UpstreamFailed
from llm_router.node.hardware import Hardware
from llm_router.node.runtimes import errand, supervisor
from llm_router.node.runtimes.guarded import free_port
from llm_router.node.runtimes.ollama.runtime import Ollama

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program of these tests is a shell script")

MODEL = "m:latest"


class House:
    """An agent's Ollama and what it tells the agent."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.home = config.home / "node" / "ollama"
        self.models = self.home / "models"
        self.log = config.home / "node" / "logs" / "ollama.log"
        self.journal = journal
        self.registry = Registry()
        self.restarts = 0
        self._news = asyncio.Event()
        self.runtime = Ollama(
            self.registry,
            config,
            session,
            journal.log,
            hardware=Hardware(),
            changed=self._news.set,
            restarted=self._restarted,
        )

    def _restarted(self) -> None:
        self.restarts += 1

    def install(self) -> None:
        fake_ollama.install(self.home / "program" / "1.2.3" / "bin" / "ollama")

    def has(self, *models: str) -> None:
        """It has these models when it starts."""
        self.models.mkdir(parents=True, exist_ok=True)
        for model in models:
            (self.models / model).touch()

    def told(self, fault: str) -> Path:
        """The file that makes something go wrong."""
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / fault
        path.touch()
        return path

    @property
    def upstream(self) -> Node:
        (node,) = self.registry
        return node

    @property
    def port(self) -> int:
        assert self.upstream.address
        return self.upstream.address.port

    def environment(self) -> dict[str, str]:
        return msgspec.json.decode((self.home / "environment.json").read_bytes(), type=dict[str, str])

    async def until(self, check: Callable[[], bool]) -> None:
        """Wait until the agent was told something that makes this true."""
        async with asyncio.timeout(30):
            while not check():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def house(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> AsyncIterator[House]:
    async with installed(config, session, journal) as house:
        yield house


@asynccontextmanager
async def installed(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> AsyncIterator[House]:
    """At the end, nothing of it runs any more."""
    house = House(config, session, journal)
    house.install()
    before = set(psutil.Process().children(recursive=True))
    yield house
    await house.runtime.stop()
    assert set(psutil.Process().children(recursive=True)) == before


def server_of(house: House) -> psutil.Process:
    """The process that listens; our child is its parent."""
    (child,) = (p for p in psutil.Process().children() if "guard" in " ".join(p.cmdline()))
    (server,) = child.children()
    assert str(house.home) in server.environ()["HOME"]
    return server


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def ended(*processes: psutil.Process) -> None:
    """Wait until they are gone, if only as zombies that nobody has asked about yet."""
    async with asyncio.timeout(20):
        while any(map(runs, processes)):  # noqa: ASYNC110 - they are no children of ours, and tell us nothing
            await asyncio.sleep(0.02)  # noqa: TID251 - as above


async def test_one_that_is_installed_is_listed(house: House) -> None:
    """When `start` returns its models can be asked for, at an address of this machine only."""
    house.has(MODEL)
    await house.runtime.start()
    assert list(house.registry.available()) == [MODEL]
    assert house.upstream.address
    assert house.upstream.address.host == "127.0.0.1"
    assert house.runtime.facts() == RuntimeFacts("ollama", "0.12.0", DEFAULT_SLOTS)
    assert house.runtime.progress() == []
    assert await house.runtime.wake(house.upstream.id) == house.upstream.address
    assert await house.runtime.wake("llamacpp/hello-world") is None


async def test_a_users_ollama_is_left_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own home, models and port, lets no page in that a user's would, and knows the user's proxies (A9)."""
    monkeypatch.setenv("OLLAMA_ORIGINS", "*")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    house.has(MODEL)
    await house.runtime.start()
    told = house.environment()
    assert told["HOME"] == str(house.home)
    assert told["OLLAMA_MODELS"] == str(house.models)
    assert told["OLLAMA_HOST"] == f"127.0.0.1:{house.port}"
    assert told["OLLAMA_KEEP_ALIVE"] == "5m"
    assert told["HTTPS_PROXY"] == "http://proxy:3128"
    assert "OLLAMA_ORIGINS" not in told
    assert house.port != 11434


async def test_its_port_can_be_chosen(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """By OLLAMA_HOST, and it keeps it when it is started again."""
    port = free_port(0)
    async with installed(msgspec.structs.replace(config, ollama_host=f":{port}"), session, journal) as house:
        house.has(MODEL)
        await house.runtime.start()
        assert house.port == port
        server_of(house).kill()
        entry = await journal.entry("runtime.started", 2)
        assert entry["url"] == f"http://127.0.0.1:{port}"


async def test_what_it_prints_is_kept(house: House) -> None:
    """In the directory where logs are looked for (G7)."""
    house.has(MODEL)
    await house.runtime.start()
    assert f"Listening on http://127.0.0.1:{house.port}" in house.log.read_text()


async def test_it_is_told_how_many_at_once(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OLLAMA_NUM_PARALLEL reaches it, and the node says as much; without a process it has no slots at all."""
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "7")
    async with installed(config, session, journal) as house:
        assert house.runtime.facts() == RuntimeFacts("ollama", "", 0)
        house.has(MODEL)
        await house.runtime.start()
        assert house.environment()["OLLAMA_NUM_PARALLEL"] == "7"
        assert house.runtime.facts().slots == house.upstream.slots == 7


async def test_one_that_crashes_is_started_again(house: House) -> None:
    """At once, though nobody asked it anything (G7), and what it had started is gone; its models were never away."""
    house.has(MODEL)
    await house.runtime.start()
    server = server_of(house)
    (runner,) = server.children()
    server.kill()
    entry = await house.journal.entry("runtime.process_ended")
    assert "status 137" in entry["reason"]
    assert list(house.registry.available()) == [MODEL]
    await house.journal.entry("runtime.started", 2)
    await house.until(lambda: house.upstream.state is State.ONLINE)
    assert house.restarts == 1
    await ended(runner)
    assert not house.journal.find("runtime.offline")


async def test_a_request_brings_it_back(house: House) -> None:
    """A request that finds no address waits for the start instead of failing."""
    house.has(MODEL)
    await house.runtime.start()
    server_of(house).kill()
    await house.journal.entry("runtime.process_ended")
    address = await house.runtime.wake(house.upstream.id)
    assert address == house.upstream.address is not None


async def test_the_child_around_it_is_killed(house: House) -> None:
    """Nothing of it is left behind then either, and it is started again."""
    house.has(MODEL)
    await house.runtime.start()
    server = server_of(house)
    parent = server.parent()
    assert parent
    parent.kill()
    await house.journal.entry("runtime.started", 2)
    await ended(server)


@reads_proc
async def test_one_that_hangs_is_replaced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still is found out, killed and started again with no request at all (E2)."""
    monkeypatch.setattr(supervisor, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(supervisor, "LOOK_WITHIN", 0.3)
    house.has(MODEL)
    await house.runtime.start()
    server = server_of(house)
    await asyncio.to_thread(stop_in_its_tracks, server.pid)
    await house.journal.entry("runtime.process_hung")
    monkeypatch.undo()
    await house.journal.entry("runtime.started", 2)
    await house.until(lambda: house.upstream.state is State.ONLINE)
    await ended(server)


async def test_a_failed_request_is_looked_into(house: House) -> None:
    """A check finds a process that answers, and leaves it as it is."""
    house.has(MODEL)
    await house.runtime.start()
    await house.runtime.check(house.upstream.id)
    await house.runtime.check("llamacpp/hello-world")
    assert len(house.journal.find("runtime.started")) == 1


@pytest.mark.slow
async def test_one_that_does_not_start(house: House) -> None:
    """The log has its own last words; it is tried again until it works, and requests are told meanwhile."""
    house.has(MODEL)
    fault = house.told("broken")
    await house.runtime.start()
    entry = await house.journal.entry("runtime.start_failed", 2)
    assert "Error: told not to start" in entry["reason"]
    assert not house.registry.available()
    assert house.runtime.facts().slots == 0
    fault.unlink()
    await house.until(lambda: house.upstream.state is State.ONLINE)


async def test_one_that_never_answers(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """It is given OLLAMA_STARTUP_TIMEOUT_SECS, then ended."""
    patience = msgspec.structs.replace(config, ollama_startup_timeout_secs=1.0)
    async with installed(patience, session, journal) as house:
        house.told("mute")
        await house.runtime.start()
        entry = await journal.entry("runtime.start_failed")
        assert "did not answer within 1 s" in entry["reason"]


async def test_a_program_that_cannot_run(house: House) -> None:
    """One for another kind of machine, say: the reason is the system's."""
    (house.home / "program" / "1.2.3" / "bin" / "ollama").write_bytes(b"\x7fELF and nothing else")
    await house.runtime.start()
    entry = await house.journal.entry("runtime.start_failed")
    assert "cannot be started: Exec format error" in entry["reason"]


async def test_it_ends_with_the_agent(house: House) -> None:
    """However that ended: here only the pipe to the child closes, as it does when the agent is killed (G7)."""
    house.has(MODEL)
    await house.runtime.start()
    server = server_of(house)
    child = server.parent()
    (runner,) = server.children()
    assert child
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({child.cmdline()!r}, stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = server.environ() | {"OLLAMA_HOST": "127.0.0.1:0", "PYTHONPATH": os.pathsep.join(sys.path)}
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert agent.stdout
    second = psutil.Process(int(await agent.stdout.readline()))
    family = [second, *await grown(second)]
    agent.kill()
    await agent.wait()
    await ended(*family)
    assert runner.is_running()


async def grown(child: psutil.Process) -> list[psutil.Process]:
    """The server and its runner, once both are there."""
    while len(family := child.children(recursive=True)) < 2:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)  # noqa: TID251 - as above
    return family


# -- the first model


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be fetched is tried again soon."""
    monkeypatch.setattr(errand, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(errand, "LONGEST_PAUSE", 0.05)


def wanting(config: NodeConfig, model: str) -> NodeConfig:
    return msgspec.structs.replace(config, ollama_default_model=model)


async def test_without_a_model_one_is_fetched(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> None:
    """OLLAMA_DEFAULT_MODEL says which; it is listed when it is there (G6)."""
    async with installed(wanting(config, "tiny"), session, journal) as house:
        await house.runtime.start()
        await journal.entry("model.fetched")
        await house.until(lambda: list(house.registry.available()) == ["tiny"])
        assert house.runtime.progress() == []


async def test_with_a_model_nothing_is_fetched(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> None:
    """Whoever has one has chosen."""
    async with installed(wanting(config, "tiny"), session, journal) as house:
        house.has(MODEL)
        await house.runtime.start()
        assert list(house.registry.available()) == [MODEL]
        assert not journal.find("model.fetching")


async def test_nobody_wants_a_model(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """`none` means none; the log says how to get one."""
    async with installed(wanting(config, "none"), session, journal) as house:
        await house.runtime.start()
        entry = await journal.entry("model.none")
        assert "OLLAMA_DEFAULT_MODEL" in entry["hint"]
        assert house.upstream.state is State.ONLINE


@pytest.mark.usefixtures("hurried")
async def test_a_model_that_cannot_be_fetched(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> None:
    """The reason is said once, the node goes on, and the model comes when the network is back (G6)."""
    async with installed(wanting(config, "tiny"), session, journal) as house:
        fault = house.told("offline")
        await house.runtime.start()
        entry = await journal.entry("model.fetch_failed", 2)
        assert "no such host" in entry["reason"]
        assert house.upstream.state is State.ONLINE
        fault.unlink()
        await journal.entry("model.fetched")


# -- the program


@pytest.mark.usefixtures("hurried")
async def test_one_that_cannot_be_fetched(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """`start` does not wait for the network; the dashboard sees that it is tried again, requests are told."""
    nowhere = msgspec.structs.replace(
        config, ollama_download_url="http://127.0.0.1:9/releases", ollama_download_max_retries=0
    )
    house = House(nowhere, session, journal)
    await house.runtime.start()
    await journal.entry("runtime.fetch_failed")
    assert Progress("runtime", "ollama", errand.WAITING) in house.runtime.progress()
    with pytest.raises(UpstreamFailed, match="not installed"):
        await house.runtime.wake(house.upstream.id)
    await house.runtime.check(house.upstream.id)
    house.install()
    await house.until(lambda: house.upstream.state is State.ONLINE)
    await house.runtime.stop()


@pytest.mark.parametrize(
    "wrong",
    [{"ollama_host": "127.0.0.1:port"}, {"ollama_download_url": "nowhere"}, {"ollama_version": "../.."}],
)
async def test_settings_that_make_no_sense(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal, wrong: dict[str, str]
) -> None:
    """They are named before anything is started."""
    with pytest.raises(ConfigError, match=next(iter(wrong)).removeprefix("ollama_").upper().replace("_", ".")):
        House(msgspec.structs.replace(config, **wrong), session, journal)
