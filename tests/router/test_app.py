"""The router as a whole: how it starts and how it ends."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError
from llm_router.router.app import serving

ROUTER = """
import asyncio, sys
from pathlib import Path
from llm_router.config import RouterConfig
from llm_router.router.app import run

config = RouterConfig(home=Path(sys.argv[1]), host="127.0.0.1", port=0, drain_timeout=30.0)
asyncio.run(run(config, ready=lambda port: print(port, flush=True)))
"""


async def test_a_taken_port_is_named(config: RouterConfig) -> None:
    """The message says which, and what to do; what had been started is ended."""
    async with serving(config) as port:
        with pytest.raises(ConfigError, match=rf"port {port} .* --port"):
            async with serving(msgspec.structs.replace(config, port=port)):
                pass
    assert {t.get_name() for t in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_nothing_is_left_running(config: RouterConfig, node: FakeNode) -> None:
    """Requirement I2: with the router, every task of its own ends."""
    before = asyncio.all_tasks()
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        body = msgspec.json.encode({"url": node.address.url, "kind": "openai"})
        async with api.post("/v0/nodes/attach", data=body) as response:
            assert response.status == 201
    assert {t for t in asyncio.all_tasks() if "llm_router" in repr(t.get_coro())} <= before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_router_in_order(config: RouterConfig, number: signal.Signals) -> None:
    """Exit status 0, with nothing on standard error that looks like a failure."""
    router = await start(config.home)
    router.send_signal(number)
    _, stderr = await router.communicate()
    assert router.returncode == 0
    assert b"router.stopped" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
async def test_a_second_signal_ends_it_at_once(config: RouterConfig, node: FakeNode) -> None:
    """Whoever does not want to wait for a request in flight asks twice."""
    router = await start(config.home)
    node.held = asyncio.Event()  # registering waits for the node's list of models
    asking = asyncio.create_task(post(router.port, msgspec.json.encode(node.registration())))
    await node.looked.wait()
    router.send_signal(signal.SIGTERM)
    assert router.stderr is not None
    while b"router.stopping" not in await router.stderr.readline():
        pass
    router.send_signal(signal.SIGTERM)
    assert await router.wait() == 128 + signal.SIGTERM
    with pytest.raises(aiohttp.ClientError):
        await asking


class Running:
    """A router in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self.send_signal = process.send_signal
        self.communicate = process.communicate
        self.wait = process.wait
        self.stderr = process.stderr
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.returncode


async def start(home: Path) -> Running:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ROUTER, str(home), stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    return Running(process, int(await process.stdout.readline()))


async def post(port: int, body: bytes) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"http://127.0.0.1:{port}/v0/nodes", data=body) as response,
    ):
        return response.status
