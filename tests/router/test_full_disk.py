"""A disk that is full is the history's trouble and no request's (requirement F4): a router in a process of its own.

Its log goes into a file, too, and is no more allowed to stand in the way.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.doubles.fake_runtime import FakeRuntime, Options

from llm_router.contract import Attach

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")

ROUTER = """
import asyncio, sys
from pathlib import Path
from llm_router.config import RouterConfig
from llm_router.router import ledger
from llm_router.router.app import run

ledger.BATCH, ledger.PENDING_LIMIT = 2, 4  # entries; a test does not wait for 40,000
config = RouterConfig(home=Path(sys.argv[1]), host="127.0.0.1", port=0, announce=False)
asyncio.run(run(config, ready=lambda port: print(port, flush=True)))
"""


class Disk:
    """What the router's processes may write into files."""

    def __init__(self, router: int) -> None:
        self._router = psutil.Process(router)

    def fill(self) -> None:
        self._limit(0)

    def clear(self) -> None:
        self._limit(psutil.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for process in (self._router, *self._router.children(recursive=True)):
            process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, Disk]]:
    command = (sys.executable, "-c", ROUTER, str(home))
    with (home / "router.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        yield api, Disk(process.pid)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def chat(api: aiohttp.ClientSession, id_: str) -> int:
    body = msgspec.json.encode({"model": "tiny", "messages": []})
    async with api.post("/v1/chat/completions", data=body, headers={"x-request-id": id_}) as response:
        await response.read()
        return response.status


async def fetch(api: aiohttp.ClientSession, path: str) -> Any:  # noqa: ANN401 - any JSON
    async with api.get(path) as response:
        assert response.status == 200
        return msgspec.json.decode(await response.read())


async def figures(api: aiohttp.ClientSession) -> dict[str, float]:
    async with api.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {s.name: s.value for family in families for s in family.samples if s.name.startswith("llm_router")}


async def test_requests_go_on_while_the_disk_is_full(tmp_path: Path) -> None:
    """What is not kept is counted, the metrics miss none, and the history says when it was and goes on afterwards."""
    async with (
        FakeRuntime(Options(kind="openai", models=["tiny"], tokens=1)) as runtime,
        running(tmp_path) as (api, disk),
    ):
        async with api.post("/v0/nodes/attach", data=msgspec.json.encode(Attach(runtime.url, "openai"))):
            pass
        assert await chat(api, "before") == 200
        await fetch(api, "/v0/requests")  # it is written, by a process that is there now
        assert (await fetch(api, "/health"))["ledger"] == {"pending": 0, "lost": 0, "trouble": ""}

        disk.fill()
        assert await chat(api, "meanwhile") == 200
        while not (health := await fetch(api, "/health"))["ledger"]["trouble"]:
            await fetch(api, "/v0/requests")
        assert health["status"] == "degraded"
        assert [await chat(api, f"r{n}") for n in range(10)] == [200] * 10
        found = await figures(api)
        assert found["llm_router_requests_total"] == 12
        assert found["llm_router_ledger_writable"] == 0
        assert found["llm_router_ledger_lost_entries_total"] >= 1

        disk.clear()
        while (health := await fetch(api, "/health"))["status"] != "ok" or health["ledger"]["pending"]:
            await fetch(api, "/v0/events")
        assert await chat(api, "after") == 200
        kept = [r["id"] for r in await fetch(api, "/v0/requests")]
        assert [kept[0], kept[-2], kept[-1]] == ["after", "meanwhile", "before"]
        events = {e["event"]: e for e in await fetch(api, "/v0/events")}
        assert events["ledger.delayed"]["at"] < events["ledger.caught_up"]["at"]
        assert "entries lost" in events["ledger.caught_up"]["detail"]
