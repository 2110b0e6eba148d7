"""The whole agent, as `llm-router node` runs it, with a small real server in the router's place."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from tests.doubles.fake_router import FakeRouter

from llm_router.config import NodeConfig
from llm_router.contract import Heartbeat, ModelEntry, Registration
from llm_router.errors import ConfigError
from llm_router.node.app import ModelsVersion, placed
from llm_router.node.models.builtin import NAME, SENTENCE

Start = Callable[..., Awaitable["Agent"]]
TWO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


class Agent:
    """A process that runs `llm-router node`; `url` is what it said."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    async def listen(self) -> None:
        assert self.process.stdout
        line = (await self.process.stdout.readline()).decode()
        self.url = line.split()[-1] if line else ""

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def words(self) -> str:
        return (await asyncio.to_thread(self.log.read_bytes)).decode()


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with FakeRouter() as router:
        yield router


@pytest.fixture
async def start(tmp_path: Path, router: FakeRouter) -> AsyncIterator[Start]:
    """Starts agents with one home after another; ends what is left of them."""
    agents: list[Agent] = []

    async def start(*options: str) -> Agent:
        command = [sys.executable, "-m", "llm_router", "node", "--home", str(tmp_path)]
        if "--router" not in options:
            command += ["--router", router.url]
        if "--runtime" not in options:
            command += ["--runtime", "llamacpp"]
        log = tmp_path / "agent.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(*command, *options, stdout=PIPE, stderr=stderr)
        agents.append(Agent(process, log))
        await agents[-1].listen()
        return agents[-1]

    yield start
    for agent in agents:
        if agent.process.returncode is None:
            agent.process.kill()
            await agent.process.wait()


@asynccontextmanager
async def chatting(agent: Agent) -> AsyncIterator[aiohttp.ClientResponse]:
    body = {"model": NAME, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as session, session.post(f"{agent.url}/api/chat", json=body) as response:
        yield response


@TWO_SIGNALS
async def test_registers_answers_says_goodbye(router: FakeRouter, start: Start) -> None:
    """The life of an agent: in with the router (A1 to A3), an answer, goodbye (A5), no child left behind."""
    agent = await start("--port", "0", "--name", "lab-1")
    message = msgspec.json.decode((await router.next("register")).body, type=Registration)
    assert (message.machine_name, f":{message.port}") == ("lab-1", agent.url[agent.url.rindex(":") :])
    assert [(runtime.kind, runtime.slots) for runtime in message.runtimes] == [("llamacpp", 4)]
    assert message.os
    async with chatting(agent) as response:
        records = [msgspec.json.decode(line) async for line in response.content]
    assert "".join(record["message"]["content"] for record in records) == SENTENCE
    assert records[-1]["done"]
    report = msgspec.json.decode((await router.next("heartbeat")).body, type=Heartbeat)
    assert report.models_version == message.models_version
    assert report.loaded == [NAME]
    assert report.memory_total
    children = agent.children()
    assert await agent.stop() == 0
    await router.next("goodbye")
    assert not [child for child in children if child.is_running()]
    assert "Traceback" not in await agent.words()


@TWO_SIGNALS
async def test_restarted(router: FakeRouter, start: Start) -> None:
    """The same node, with another models_version so that its models are pulled again (A8, E3)."""
    messages = []
    for _ in range(2):
        agent = await start("--port", "0")
        messages.append(msgspec.json.decode((await router.next("register")).body, type=Registration))
        await agent.stop()
    assert messages[0].node_id == messages[1].node_id
    assert messages[0].models_version != messages[1].models_version


async def test_only_the_router_is_let_in(router: FakeRouter, start: Start) -> None:
    """Requirement A10: with the token that the registration brought; the join token is in no log and no message."""
    url = router.url.replace("//", "//the-join-token@")
    agent = await start("--port", "0", "--router", url, "--trust", "127.0.0.9", "--log-level", "debug")
    message = msgspec.json.decode((await router.next("register")).body, type=Registration)
    assert (message.join, message.protocol) == ("the-join-token", "http")
    answers = {"": 401, "guessed": 401, message.access: 200}
    async with aiohttp.ClientSession(agent.url) as session:
        for token, status in answers.items():
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with session.get("/v1/models", headers=headers) as response:
                assert response.status == status
        async with session.get("/health") as response:
            assert response.status == 200
    for secret in ("the-join-token", message.access):
        assert secret not in await agent.words()


@pytest.mark.parametrize(
    ("host", "router", "listens_on"),
    [
        ("", "http://127.0.0.1:8080", "127.0.0.1"),
        ("", "word@localhost:8080", "127.0.0.1"),
        ("", "http://word@10.0.0.5:8080", "0.0.0.0"),
        ("", "", "0.0.0.0"),
        ("127.0.0.1", "http://10.0.0.5:8080", "127.0.0.1"),
        ("10.0.0.7", "http://127.0.0.1:8080", "10.0.0.7"),
    ],
)
def test_where_it_listens(host: str, router: str, listens_on: str) -> None:
    """Requirement A1: the router gets in wherever it is, with nothing else said; one that is here needs no way in."""
    assert placed(NodeConfig(host=host, router=router)).host == listens_on


def test_a_router_that_is_none_is_not_told_with_its_token() -> None:
    """Requirement A10: what a person wrote is repeated, without the token."""
    with pytest.raises(ConfigError, match="--router") as refusal:
        placed(NodeConfig(host="", router="ftp://hush@host"))
    assert "hush" not in refusal.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "{taken}"), "--port"),
        (("--runtime", "vllm"), "--runtime vllm: there is no such runtime"),
        (("--router", "ftp://host"), "--router"),
        (("--trust", "here"), "--trust"),
    ],
)
async def test_settings_that_cannot_be_used(
    router: FakeRouter, start: Start, options: tuple[str, str], words: str
) -> None:
    """The command ends with status 2 and names the setting."""
    agent = await start(*(option.replace("{taken}", str(router.port)) for option in options))
    assert await agent.process.wait() == 2
    assert words in await agent.words()
    assert "Traceback" not in await agent.words()


def test_models_version_changes_with_the_list() -> None:
    """Another list, another number, also where an offered model is stored now; in another order, the same."""
    version = ModelsVersion(100)
    a, b, absent = ModelEntry("a"), ModelEntry("b"), ModelEntry("a", stored=False)
    first = version.of({"a": a, "b": b})
    assert version.of({"b": b, "a": a}) == first
    assert version.of({"a": a}) == first + 1
    assert version.of({"a": absent}) == first + 2
    assert ModelsVersion(101).of({"a": a, "b": b}) != first
