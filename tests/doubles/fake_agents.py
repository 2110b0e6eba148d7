"""Agents of machines that are not there: a small, mixed fleet to look at, or a thousand of them.

    python -m tests.doubles.fake_agents --router http://127.0.0.1:8080 --count 7

Each registers and sends heartbeats with figures that move; behind each answers a `fake_runtime`, some of them one
together. It prints one line once all are registered, and ends on SIGTERM or when its standard input is closed.
"""

import argparse
import asyncio
import math
import os
import random
import signal
import stat
import sys
from contextlib import AsyncExitStack, suppress

import aiohttp
import msgspec
from tests.doubles.fake_runtime import FakeRuntime, Options

from llm_router.contract import HEARTBEAT_EVERY, NODES, Gpu, Heartbeat, Progress, Registration, RuntimeFacts

GIB = 2**30
SHARED = 8  # runtimes at most; more agents than that share them
LARGE = 40 * 10**9  # bytes of the model that one of them fetches
LLAMA = RuntimeFacts("llamacpp", "b6840", 4)
OLLAMA = RuntimeFacts("ollama", "0.12.6", 4)
SMALL = ["qwen3:4b", "llama3.2:3b", "nomic-embed-text", "gemma3:4b"]
MIDDLE = ["qwen3:14b", "gpt-oss:20b", "gemma3:12b", *SMALL]
BIG = ["gpt-oss:120b", "qwen3:32b", "llama3.3:70b", *MIDDLE]


class Machine(msgspec.Struct, frozen=True):
    """What one of them is."""

    name: str
    os: str
    runtimes: list[RuntimeFacts]
    models: list[str]
    gpus: list[Gpu]
    pace: float  # seconds between two tokens
    busy: float  # percent of its processor, about


def _cuda(name: str, gib: float, driver: str = "580.95") -> Gpu:
    return Gpu(name, int(gib * GIB), backend="cuda", driver=driver)


MACHINES = [
    Machine("atlas", "Linux 6.12 x86_64", [LLAMA, OLLAMA], BIG, [_cuda("NVIDIA RTX 6000 Ada", 48)] * 2, 0.012, 35),
    Machine("borealis", "Linux 6.12 x86_64", [OLLAMA], MIDDLE, [_cuda("NVIDIA RTX 4090", 24)], 0.015, 28),
    Machine("desk-hana", "Windows 11", [OLLAMA], SMALL, [_cuda("NVIDIA RTX 4070", 12)], 0.03, 52),
    Machine(
        "mac-studio", "macOS 15.6 arm64", [LLAMA], BIG, [Gpu("Apple M3 Ultra", 96 * GIB, backend="metal")], 0.02, 18
    ),
    Machine("mini-1", "macOS 15.6 arm64", [LLAMA], SMALL, [Gpu("Apple M4", 24 * GIB, backend="metal")], 0.03, 41),
    Machine("nuc-lab", "Linux 6.8 x86_64", [LLAMA], SMALL[:2], [], 0.06, 71),
    Machine(
        "tuner", "Linux 6.8 x86_64", [OLLAMA], MIDDLE, [Gpu("AMD RX 7900 XTX", 24 * GIB, backend="rocm")], 0.02, 22
    ),
]


class FakeAgent:
    """One of them, as the router sees it."""

    def __init__(self, number: int, machine: Machine, port: int) -> None:
        self.machine = machine
        self.port = port
        self.id = f"fake-agent-{number:04}"
        self.name = machine.name if number < len(MACHINES) else f"{machine.name}-{number:04}"
        self._secret = ""
        self._drawn = random.Random(number)  # noqa: S311 - figures to look at
        self._beats = self._drawn.randrange(100)

    async def register(self, session: aiohttp.ClientSession) -> None:
        machine = self.machine
        backend = machine.gpus[0].backend if machine.gpus else "cpu"
        body = Registration(
            self.id, self.name, self.port, runtimes=machine.runtimes, gpus=machine.gpus, backend=backend, os=machine.os
        )
        answer = await self._post(session, NODES, body)
        self._secret = msgspec.json.decode(answer)["node_secret"]

    async def beat(self, session: aiohttp.ClientSession) -> None:
        self._beats += 1
        await self._post(session, f"{NODES}/{self.id}/heartbeat", self._report())

    async def _post(self, session: aiohttp.ClientSession, path: str, body: msgspec.Struct) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        async with session.post(path, data=msgspec.json.encode(body), headers=headers) as response:
            response.raise_for_status()
            return await response.read()

    def _report(self) -> Heartbeat:
        machine, wave = self.machine, math.sin(self._beats / 5)
        level = max(1.0, min(99.0, machine.busy + 15 * wave + self._drawn.uniform(-6, 6)))
        return Heartbeat(
            cpu=level,
            memory=machine.busy / 2 + 30,
            memory_total=64 * GIB,
            slots=sum(runtime.slots for runtime in machine.runtimes),
            loaded=machine.models[:2],
            gpus=[self._gpu(gpu, level) for gpu in machine.gpus],
            backend=machine.gpus[0].backend if machine.gpus else "cpu",
            progress=self._fetching(),
        )

    def _gpu(self, gpu: Gpu, level: float) -> Gpu:
        used = int(gpu.memory_total * (0.45 + level / 250))
        return msgspec.structs.replace(
            gpu, memory_used=used, utilization=min(99.0, level * 1.4), temperature=48 + level / 4
        )

    def _fetching(self) -> list[Progress]:
        if self.name != "mini-1":
            return []
        rate = 61_000_000.0
        return [Progress("model", "qwen3:14b", "downloading", int(self._beats * 5 * rate) % LARGE, LARGE, rate)]


async def run(router: str, count: int) -> None:
    """Register all, then report until a signal ends it."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        runtimes = [
            await stack.enter_async_context(_runtime(MACHINES[i % len(MACHINES)])) for i in range(min(count, SHARED))
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession(router))
        agents = [FakeAgent(i, MACHINES[i % len(MACHINES)], runtimes[i % len(runtimes)].port) for i in range(count)]
        for agent in agents:
            await agent.register(session)
        sys.stdout.write(f"{count} agents of {router}\n")
        sys.stdout.flush()
        parent = asyncio.create_task(_end_with_parent(ended))
        while not ended.is_set():
            await _round(agents, session, ended)
        parent.cancel()


def _runtime(machine: Machine) -> FakeRuntime:
    return FakeRuntime(Options(models=machine.models, unloaded=machine.models[2:], tokens=60, delay=machine.pace))


async def _round(agents: list[FakeAgent], session: aiohttp.ClientSession, ended: asyncio.Event) -> None:
    """One heartbeat of each, spread over the time between two."""
    for agent in agents:
        with suppress(aiohttp.ClientError):  # a router that restarts, a node that was removed: as a real agent, go on
            await agent.beat(session)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), HEARTBEAT_EVERY / len(agents))


async def _end_with_parent(ended: asyncio.Event) -> None:
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    ended.set()


def main() -> None:
    """What its options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--router", required=True)
    parser.add_argument("--count", type=int, default=len(MACHINES))
    options = parser.parse_args()
    asyncio.run(run(options.router, options.count))


if __name__ == "__main__":
    main()
