"""Finding the router where nobody said which (requirement A1), with real multicast on the loopback interface."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from tests.node.conftest import Journal
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from llm_router.contract import SERVICE, Address
from llm_router.node.discovery import Found, choose, find_router

pytestmark = pytest.mark.usefixtures("quiet_network")

LOOPBACK = ["127.0.0.1"]
NOBODY = Address("127.0.0.1", 9)  # the discard port: nobody listens there
HEALTH = b'{"status":"ok","version":"1","nodes":0,"online":0}'


def known_nowhere(_url: str) -> bool:
    return False


@asynccontextmanager
async def server(health: bytes = HEALTH, path: str = "") -> AsyncIterator[Address]:
    """Something that answers `GET /health`, below `path`."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=health, content_type="application/json")

    app = web.Application()
    app.router.add_get(f"{path}/health", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Address("127.0.0.1", runner.addresses[0][1], prefix=path)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def announced(**routers: Address) -> AsyncIterator[None]:
    """The network hears of these, by their names; each has an address that leads nowhere besides."""
    speaker, said = AsyncZeroconf(interfaces=LOOPBACK), []
    for name, address in routers.items():
        info = AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=address.port,
            parsed_addresses=["::1", address.host],
            properties={"path": address.prefix + "/"},
            server=f"{name}-test.local.",
        )
        said.append(await speaker.async_register_service(info, cooperating_responders=True))  # nobody has the name
    try:
        yield
    finally:
        await asyncio.gather(*said)
        await speaker.async_close()


async def test_on_this_machine(session: aiohttp.ClientSession, journal: Journal) -> None:
    """1: the network is not even listened to, and nothing need be said."""
    async with server() as here:
        assert await find_router(session, known_nowhere, journal.log, here=here, interfaces=LOOPBACK) == here
    assert journal.entries == []


@pytest.mark.parametrize("path", ["", "/team-a"])
async def test_in_the_network(session: aiohttp.ClientSession, journal: Journal, path: str) -> None:
    """2: by one of its addresses that answers; the log says which."""
    async with server(path=path) as router, announced(lab=router):
        assert await find_router(session, known_nowhere, journal.log, here=NOBODY, interfaces=LOOPBACK) == router
    (entry,) = journal.find("router.found")
    assert (entry["name"], entry["url"]) == ("lab", router.url)


@pytest.mark.parametrize(
    "health", [b'{"status":"ok"}', b"ok", b"\xff", b'{"status":"bad","version":"1","nodes":0,"online":0}']
)
async def test_something_else_on_this_machine(session: aiohttp.ClientSession, journal: Journal, health: bytes) -> None:
    """1: a server at the usual port that is no router is not taken for one."""
    async with server(health) as other, server() as router, announced(lab=router):
        assert await find_router(session, known_nowhere, journal.log, here=other, interfaces=LOOPBACK) == router


async def test_of_several_the_one_that_knows_us(session: aiohttp.ClientSession, journal: Journal) -> None:
    """2a: where we have a secret already; a warning lists all and says how to decide otherwise."""
    async with server() as attic, server() as cellar, announced(attic=attic, cellar=cellar):
        for known, chosen in (({cellar.url}, cellar), (set[str](), attic)):
            found = await find_router(session, known.__contains__, journal.log, here=NOBODY, interfaces=LOOPBACK)
            assert found == chosen
    for entry in journal.find("router.several_found"):
        assert entry["routers"] == [f"attic at {attic.url}", f"cellar at {cellar.url}"]
        assert "--router" in entry["hint"]


async def test_not_there_yet(session: aiohttp.ClientSession, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 and A7: the log says what is waited for and how to give the address; one that comes then is found."""
    monkeypatch.setattr("llm_router.node.discovery.FIRST_LISTEN", 0.1)
    finding = asyncio.create_task(find_router(session, known_nowhere, journal.log, here=NOBODY, interfaces=LOOPBACK))
    entry = await journal.entry("router.not_found")
    assert "--router" in entry["hint"]
    assert "ROUTER_URL" in entry["hint"]
    assert entry["looked_at"] == NOBODY.url
    assert 0.5 <= entry["retry_in"] <= 1.0
    async with server() as router, announced(lab=router):
        assert await finding == router


async def test_announced_but_silent(
    session: aiohttp.ClientSession, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3: a router behind a firewall is named; once it answers, it is taken."""
    monkeypatch.setattr("llm_router.node.discovery.FIRST_LISTEN", 0.1)
    async with server() as router:
        pass
    async with announced(lab=router):
        finding = asyncio.create_task(
            find_router(session, known_nowhere, journal.log, here=NOBODY, interfaces=LOOPBACK)
        )
        async with asyncio.timeout(30):
            number = 1
            while not (await journal.entry("router.not_found", number))["silent"]:
                number += 1
        assert journal.find("router.not_found")[-1]["silent"] == [f"lab.{SERVICE}"]
        finding.cancel()
        await asyncio.wait({finding})


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # which zeroconf leaves to the garbage collector
async def test_a_network_that_cannot_be_heard(
    session: aiohttp.ClientSession, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3: the log says so, and a router that starts on this machine is found all the same."""
    monkeypatch.setattr("llm_router.node.discovery.FIRST_LISTEN", 0.1)
    async with server() as router:
        pass
    finding = asyncio.create_task(
        find_router(session, known_nowhere, journal.log, here=router, interfaces=["203.0.113.9"])
    )
    assert (await journal.entry("discovery.deaf"))["reason"]
    gc.collect()
    await journal.entry("router.not_found")
    finding.cancel()
    await asyncio.wait({finding})


def test_the_choice() -> None:
    """2a: known before unknown, then by name."""
    attic, cellar, roof = (Found(n, Address(n, 1), known=n == "roof") for n in ("attic", "cellar", "roof"))
    assert choose([cellar, roof, attic]) is roof
    assert choose([cellar, attic]) is attic


async def test_nothing_heavy_for_who_was_told() -> None:
    """A node that knows its router does not carry multicast DNS in its memory (budget at rest: 70 MB)."""
    code = "import sys, llm_router.node.discovery; print([m for m in sys.modules if m.startswith('zeroconf')])"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await child.communicate())[0].strip() == b"[]"
