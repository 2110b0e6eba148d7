"""The hub's double does what it is told, or a test that it fails in means nothing."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.hub import Count, Hub, Options

NAME = "org/name/m.gguf"
CONTENT = bytes(range(256)) * 400  # 102,400 bytes, several of its blocks


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path) as running:
        running.put("org/name", {"m.gguf": CONTENT})
        yield running


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(hub.url) as session:
        yield session


async def get(client: aiohttp.ClientSession, **headers: str) -> tuple[int, bytes]:
    async with client.get("/org/name/resolve/main/m.gguf", headers=headers) as response:
        return response.status, await response.read()


async def test_files_and_ranges(hub: Hub, client: aiohttp.ClientSession) -> None:
    """Whole files come from the CDN, and parts; both are counted."""
    assert await get(client) == (200, CONTENT)
    assert await get(client, range="bytes=100-199") == (206, CONTENT[100:200])
    assert await get(client, range="bytes=102000-") == (206, CONTENT[102_000:])
    assert (await get(client, range="bytes=102400-"))[0] == 416
    assert await hub.counts() == {NAME: Count(4, 102_400 + 100 + 400)}
    await hub.set(Options(ranges=False))
    assert await get(client, range="bytes=100-199") == (200, CONTENT)


async def test_fails_and_is_cut(hub: Hub, client: aiohttp.ClientSession) -> None:
    """As often as it was told, then not any more."""
    await hub.set(Options(fail=1, status=500, cut=50_000))
    assert (await get(client))[0] == 500
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(client)
    assert (await hub.counts())[NAME] == Count(2, 50_000)
    assert await get(client) == (200, CONTENT)


async def test_stands_still_until_it_is_released(hub: Hub, client: aiohttp.ClientSession) -> None:
    """Before the very byte."""
    await hub.set(Options(hold=70_001))
    transfer = asyncio.create_task(get(client))
    await hub.held()
    assert (await hub.counts())[NAME].bytes == 70_001
    await hub.release()
    assert await transfer == (200, CONTENT)


async def test_lies(hub: Hub, client: aiohttp.ClientSession) -> None:
    """It announces another checksum, and another place."""

    async def sha256() -> str:
        async with client.get("/api/models/org/name?blobs=true") as response:
            return str((await response.json())["siblings"][0]["lfs"]["sha256"])

    assert await sha256() == hashlib.sha256(CONTENT).hexdigest()
    await hub.set(Options(wrong_sha256=True, redirect_host="localhost:1"))
    assert await sha256() != hashlib.sha256(CONTENT).hexdigest()
    async with client.get("/org/name/resolve/main/m.gguf", allow_redirects=False) as response:
        assert response.headers["location"].startswith(f"http://localhost:1/{NAME}?")


async def test_is_slow(hub: Hub, client: aiohttp.ClientSession) -> None:
    """No faster than it was told; a machine may be slower."""
    await hub.set(Options(rate=1_000_000))
    began = time.monotonic()
    assert await get(client) == (200, CONTENT)
    assert time.monotonic() - began > 0.1


async def test_wants_a_token(hub: Hub, client: aiohttp.ClientSession) -> None:
    """The hub does, the CDN will not see it."""
    await hub.set(Options(token="t"))  # noqa: S106 - nobody's
    assert (await get(client))[0] == 401
    async with client.get(f"{hub.cdn}/{NAME}", headers={"authorization": "Bearer t"}) as response:
        assert response.status == 400
