"""One look at a server of models, from outside."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from tests.doubles.fake_runtime import FakeRuntime, Faults, Options

from llm_router.contract import Address, parse_address
from llm_router.errors import UpstreamFailed
from llm_router.gateway.probe import Listing, pull_models

Serve = Callable[[bytes, int], Awaitable[Address]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A server that answers everything alike."""
    runners: list[web.AppRunner] = []

    async def start(body: bytes, status: int = 200) -> Address:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=status, body=body)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runners.append(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return Address("127.0.0.1", runners[-1].addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_an_openai_server(session: aiohttp.ClientSession) -> None:
    """Its models, as `/v1/models` lists them; it holds them all in memory."""
    async with FakeRuntime(Options(kind="openai", models=["a", "b"])) as fake:
        listing = await pull_models(session, "openai", parse_address(fake.url), 5)
        assert (listing.models, listing.loaded) == (("a", "b"), ("a", "b"))


async def test_ollama(session: aiohttp.ClientSession) -> None:
    """What is stored, what is loaded, and the version."""
    async with FakeRuntime(Options(kind="ollama", models=["a:1b"])) as fake:
        listing = await pull_models(session, "ollama", parse_address(fake.url), 5)
        assert (listing.models, listing.loaded, listing.version) == (("a:1b",), ("a:1b",), "0.12.0")
        assert listing.entries[0].digest


async def test_something_like_ollama(session: aiohttp.ClientSession, serve: Serve) -> None:
    """A server that has `/api/tags` alone will do, and so does Ollama's `null` for none."""
    address = await serve(b'{"models":null}', 200)
    assert await pull_models(session, "ollama", address, 5) == Listing(())


async def test_nobody_there(session: aiohttp.ClientSession) -> None:
    """The message names the URL, the reason and the firewall (requirement A4)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UpstreamFailed) as raised:
        await pull_models(session, "agent", address, 5)
    assert f"{address.url}/v1/models" in raised.value.message
    assert "refused" in raised.value.message
    assert "firewall" in raised.value.message


async def test_nobody_answers(session: aiohttp.ClientSession) -> None:
    """A server that is silent is waited for so long and no longer; that too may be a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(UpstreamFailed, match=r"within 0\.05 s.*firewall"):
            await pull_models(session, "agent", address, 0.05)


async def test_a_server_that_hangs_up(session: aiohttp.ClientSession) -> None:
    """A connection that is lost is a failure like any other."""
    async with FakeRuntime() as fake:
        fake.faults = Faults(refuse=True)
        with pytest.raises(UpstreamFailed):
            await pull_models(session, "openai", parse_address(fake.url), 5)


@pytest.mark.parametrize("kind", ["agent", "openai", "ollama"])
@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": 1, "models": 1}'])
async def test_no_list(session: aiohttp.ClientSession, serve: Serve, kind: "str", body: bytes) -> None:
    """What is not a list of models is named as such (requirement A4)."""
    with pytest.raises(UpstreamFailed, match="list of models"):
        await pull_models(session, kind, await serve(body, 200), 5)  # type: ignore[arg-type]


async def test_an_error_answer(session: aiohttp.ClientSession, serve: Serve) -> None:
    """The status is in the message."""
    with pytest.raises(UpstreamFailed, match="status 500"):
        await pull_models(session, "openai", await serve(b"oops", 500), 5)


async def test_a_list_without_end(
    session: aiohttp.ClientSession, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server can fill our memory."""
    monkeypatch.setattr("llm_router.gateway.probe.MAX_BODY", 1000)
    with pytest.raises(UpstreamFailed, match="more than 1000 bytes"):
        await pull_models(session, "openai", await serve(b" " * 2000, 200), 5)
