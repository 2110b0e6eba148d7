"""Connections of our own: what a name resolves to decides, and the address that was checked is the one that is used."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.release_server import ReleaseServer

from llm_router.models.allow import Allowlist
from llm_router.models.failures import OriginDenied
from llm_router.models.guarded import GuardedResolver, guarded


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ReleaseServer]:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "x").write_bytes(b"content")
    async with ReleaseServer(tmp_path) as server:
        yield server


async def get(allow: Allowlist, url: str) -> bytes:
    async with guarded(allow) as session, session.get(url) as response:
        return await response.read()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses of names in a domain name system of the test's own; what is not in it does not exist."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


async def test_name_of_this_machine(server: ReleaseServer, names: dict[str, list[str]]) -> None:
    """A name that is allowed leads to this machine only if its address is allowed too (requirement H3)."""
    names["models.example"] = ["127.0.0.1"]
    by_name, by_address = f"http://models.example:{server.port}/*", f"http://127.0.0.1:{server.port}/*"
    url = f"http://models.example:{server.port}/releases/download/v1/x"
    with pytest.raises(OriginDenied, match=r"models\.example: it has the address 127\.0\.0\.1"):
        await get(Allowlist([by_name]), url)
    assert server.seen == []
    assert await get(Allowlist([by_name, by_address]), url) == b"content"


async def test_only_what_is_allowed(server: ReleaseServer, names: dict[str, list[str]]) -> None:
    """Of several addresses, those that are not allowed are left out."""
    names["models.example"] = ["127.0.0.9", "127.0.0.1"]
    allow = Allowlist([f"http://127.0.0.1:{server.port}/*"])
    assert [one["host"] for one in await GuardedResolver(allow).resolve("models.example", server.port)] == ["127.0.0.1"]
    url = f"http://models.example:{server.port}/releases/download/v1/x"
    assert await get(allow, url) == b"content"
    names["models.example"] = ["127.0.0.9"]
    with pytest.raises(OriginDenied, match=r"127\.0\.0\.9"):
        await get(allow, url)


@pytest.mark.usefixtures("names")
async def test_name_that_does_not_exist() -> None:
    """A name without an address is not there, rather than not allowed."""
    with pytest.raises(aiohttp.ClientConnectorDNSError):
        await get(Allowlist(["nowhere.example/*"]), "https://nowhere.example/x")
