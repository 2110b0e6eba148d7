"""What is measured: going direct, nginx, a router of ours, and routers of others."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from bench.data_plane.meter import Meter
from bench.data_plane.nginx import nginx
from bench.data_plane.results import DIRECT, NGINX
from bench.data_plane.upstreams import MODELS, PATH
from bench.processes import NotReadyError, running, wait_until
from llm_router.contract import UNREADABLE, Attach, NodeView, model_entries

OURS = "llm-router"

MOST = 100_000  # connections, so that the limit of open files is the only one: those that idle need no second one
LEAST_SLOTS = 1000  # of an upstream: here nobody waits for one


class Subject(msgspec.Struct, frozen=True):
    """Something that can be asked. `meter` is None where its process is not known, or is none of ours to look at."""

    name: str
    url: str
    meter: Meter | None = None


class Other(msgspec.Struct, frozen=True):
    """A router of other people: its address without /v1, and its process if that is known."""

    name: str
    url: str
    pid: int | None = None


def read_other(text: str) -> Other:
    """Read NAME=URL or NAME=URL@PID.

    Raises:
        ValueError: it is something else, or has a name that is taken.
    """
    name, _, url = text.partition("=")
    address, at, pid = url.rpartition("@")
    if at and pid.isdecimal():
        url = address
    if name in {"", DIRECT, NGINX, OURS} or not url.startswith("http://"):
        raise ValueError(text)
    return Other(name, url.rstrip("/").removesuffix("/v1"), int(pid) if at and pid.isdecimal() else None)


def direct(port: int) -> Subject:
    """The upstream there, with nothing in front of it."""
    return Subject(DIRECT, f"http://127.0.0.1:{port}{PATH}")


async def other(session: aiohttp.ClientSession, router: Other) -> Subject:
    """Somebody else's router, once it offers the models of the upstreams.

    Raises:
        NotReadyError: it does not.
    """
    meter = None if router.pid is None else Meter(router.pid)
    await _wait_for_models(session, router.url)
    return Subject(router.name, router.url + PATH, meter)


@asynccontextmanager
async def proxy(
    session: aiohttp.ClientSession, upstreams: Sequence[int], files: int, home: Path
) -> AsyncIterator[Subject]:
    """nginx, running.

    Raises:
        NotReadyError: it is not.
    """
    async with nginx(home, upstreams, files) as (program, port):
        url = f"http://127.0.0.1:{port}"
        await _wait_for_models(session, url)
        yield Subject(NGINX, url + PATH, Meter(int(program.line)))


@asynccontextmanager
async def router(
    session: aiohttp.ClientSession,
    upstreams: Sequence[int],
    slots: int,
    home: Path,
    *,
    name: str = OURS,
    database: str = "",
) -> AsyncIterator[Subject]:
    """A router of ours as `serve` starts it, request history and all; `database`: the URL of one that is shared.

    Raises:
        NotReadyError: it did not start, or does not use the upstreams.
    """
    options = ["--home", str(home), "--host", "127.0.0.1", "--port", "0", "--with-parent", "--log-level", "warning"]
    options += ["--max-connections", str(MOST)]
    env = {"LLM_ROUTER_DATABASE_URL": database}
    async with running([sys.executable, "-m", "llm_router", "serve", *options], env, home / "router.log") as program:
        url = program.line.rsplit(maxsplit=1)[-1]
        await _attach(session, url, upstreams, max(slots, LEAST_SLOTS))
        yield Subject(name, url + PATH, Meter(program.pid))


async def _attach(session: aiohttp.ClientSession, url: str, upstreams: Sequence[int], slots: int) -> None:
    for port in upstreams:
        body = msgspec.json.encode(Attach(url=f"http://127.0.0.1:{port}", kind="openai", name=f"{port}", slots=slots))
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{url}/v0/nodes/attach", data=body, headers=headers) as response:
            if not response.ok:
                raise NotReadyError(f"{url} attaches no upstream: {response.status} {await response.text()}")

    async def all_online() -> bool:
        nodes = msgspec.json.decode(await _get(session, f"{url}/v0/nodes"), type=list[NodeView])
        return sum(node.state == "online" and set(node.models) >= MODELS for node in nodes) == len(upstreams)

    await wait_until(all_online, f"{url} does not see all upstreams online")


async def _wait_for_models(session: aiohttp.ClientSession, url: str) -> None:
    async def offered() -> bool:
        try:
            listed = model_entries(await _get(session, f"{url}/v1/models"))
            return {entry.id for entry in listed} >= MODELS
        except (aiohttp.ClientError, *UNREADABLE):
            return False

    await wait_until(offered, f"{url} does not offer {', '.join(sorted(MODELS))}")


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        response.raise_for_status()
        return await response.read()
