"""What stands between the player and the trace's answers: a fleet's machines, and a router of ours in front of them."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from bench.fleet.fleet import FLEETS
from bench.fleet.machine import Stats
from bench.fleet.trace import MODELS
from bench.fleet.warm_first import STANDS_IN_FOR
from bench.processes import NotReadyError, Program, running, wait_until
from llm_router.contract import Attach, NodeView, model_entries

Urls = Mapping[str, str]  # machine's name -> its address

WARM_FIRST = "warm-first"  # the reference that only this bench has

# Settings of a router of ours, in seconds of the trace.
PROBE_EVERY = 5.0
QUEUE_SIZE = 100
QUEUE_TIMEOUT = 60.0


def router_command(policy: str) -> list[str]:
    """What starts a router; `router_environment` tells it the policy."""
    module = "bench.fleet.warm_first" if policy == WARM_FIRST else "llm_router"
    return [sys.executable, "-m", module, "serve"]


def router_environment(policy: str, scale: float) -> dict[str, str]:
    """The settings of a router whose machines are `scale` times faster than real ones."""
    return {
        "LLM_ROUTER_POLICY": STANDS_IN_FOR if policy == WARM_FIRST else policy,
        "LLM_ROUTER_PROBE_EVERY": str(PROBE_EVERY / scale),
        "LLM_ROUTER_QUEUE_SIZE": str(QUEUE_SIZE),
        "LLM_ROUTER_QUEUE_TIMEOUT": str(QUEUE_TIMEOUT / scale),
    }


@asynccontextmanager
async def machines(fleet: str, scale: float, first_port: int, log: Path) -> AsyncIterator[tuple[Program, Urls]]:
    """A fleet's machines; ports as `bench.fleet.runtime` has them."""
    options = ["--fleet", fleet, "--scale", str(scale), "--first-port", str(first_port)]
    async with running([sys.executable, "-m", "bench.fleet.runtime", *options], {}, log) as program:
        yield program, msgspec.json.decode(program.line, type=dict[str, str])


@asynccontextmanager
async def router(policy: str, scale: float, home: Path) -> AsyncIterator[tuple[Program, str]]:
    """A router of ours that knows nobody yet, and its URL."""
    options = ["--home", str(home), "--host", "127.0.0.1", "--port", "0", "--with-parent"]
    options += ["--log-format", "json", "--log-level", "warning"]
    command, env = [*router_command(policy), *options], router_environment(policy, scale)
    async with running(command, env, home / "router.log") as program:
        yield program, program.line.rsplit(maxsplit=1)[-1]


async def attach(session: aiohttp.ClientSession, url: str, fleet: str, urls: Urls) -> None:
    """Tell a router of ours about the machines, and wait until it can use them.

    Raises:
        NotReadyError: it refuses one, or does not get that far.
    """
    for spec in FLEETS[fleet]:
        body = msgspec.json.encode(Attach(url=urls[spec.name], kind="ollama", name=spec.name, slots=spec.slots))
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{url}/v0/nodes/attach", data=body, headers=headers) as response:
            if not response.ok:
                raise NotReadyError(f"{url} does not attach {spec.name}: {response.status} {await response.text()}")

    async def all_online() -> bool:
        nodes = msgspec.json.decode(await _get(session, f"{url}/v0/nodes"), type=list[NodeView])
        return sum(n.state == "online" and set(n.models) >= set(MODELS) for n in nodes) == len(urls)

    await wait_until(all_online, f"{url} does not see all machines online")


async def wait_for_models(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until somebody else's router offers every model.

    Raises:
        NotReadyError: it does not.
    """
    address = f"{url.removesuffix('/v1')}/v1/models"

    async def offered() -> bool:
        try:
            return {entry.id for entry in model_entries(await _get(session, address))} >= set(MODELS)
        except aiohttp.ClientError:
            return False

    await wait_until(offered, f"{address} does not list {', '.join(MODELS)}")


async def look(session: aiohttp.ClientSession, urls: Urls) -> dict[str, Stats]:
    """What each machine has done."""
    return {name: msgspec.json.decode(await _get(session, f"{url}/_stats"), type=Stats) for name, url in urls.items()}


async def reset(session: aiohttp.ClientSession, urls: Urls) -> None:
    """Make the machines new."""
    for url in urls.values():
        async with session.post(f"{url}/_reset") as response:
            response.raise_for_status()


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        response.raise_for_status()
        return await response.read()
