"""Many nodes as one program: each registers and reports as an agent does, and one small server answers for all.

    python -m bench.live.nodes --router http://127.0.0.1:8080 --nodes 1000

prints one line, the server's URL, once all of them are registered, and ends when its standard input is closed. The
server has Ollama's /api/chat and the list of models; `GET /_counts` returns `Counts`.
"""

import asyncio
import os
import sys

import aiohttp
import click
import msgspec
from aiohttp import web

from bench.processes import NotReadyError
from llm_router.contract import HEARTBEAT_EVERY, NODES, Gpu, Heartbeat, Registered, Registration, RuntimeFacts

MODELS = ("llama3:8b", "qwen3:4b", "gemma3:12b", "mistral:7b")
TOKENS = 16
AT_ONCE = 20  # registrations under way: the router fetches a list of models for each
GB = 1_000_000_000
JSON = {"Content-Type": "application/json"}


class Counts(msgspec.Struct):
    """What has happened so far; `refused` are reports that were not answered with 200."""

    chats: int = 0
    reports: int = 0
    refused: int = 0


class Server:
    """The one behind all nodes."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._models = msgspec.json.encode({"object": "list", "data": [{"id": name} for name in MODELS]})

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/api/chat", self._chat)
        app.router.add_get("/_counts", self._show)
        return app

    async def _list(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._models, content_type="application/json")

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.counts), content_type="application/json")

    async def _chat(self, request: web.Request) -> web.Response:
        model = msgspec.json.decode(await request.read())["model"]
        self.counts.chats += 1
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in _records(model))
        return web.Response(body=lines, content_type="application/x-ndjson")


def _records(model: str) -> list[dict[str, object]]:
    """A stream of TOKENS words, and its end."""
    start = {"model": model, "created_at": "2026-01-01T00:00:00Z"}
    words = [start | {"message": {"role": "assistant", "content": "word "}, "done": False} for _ in range(TOKENS)]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return [*words, start | end | {"prompt_eval_count": 20, "eval_count": TOKENS}]


class Node:
    """One of them, as its agent."""

    def __init__(self, number: int, session: aiohttp.ClientSession, counts: Counts) -> None:
        self._number = number
        self._session = session
        self._counts = counts
        self._path = NODES
        self._headers = dict(JSON)

    async def register(self, port: int) -> None:
        """Introduce itself.

        Raises:
            NotReadyError: the router does not want it.
        """
        number = self._number
        message = Registration(
            f"node-{number:04}",
            f"machine-{number:04}",
            port,
            runtimes=[RuntimeFacts("ollama")],
            os="Linux",
            version="1",
        )
        async with self._session.post(NODES, data=msgspec.json.encode(message), headers=JSON) as response:
            if response.status not in (200, 201):
                raise NotReadyError(f"{message.node_id}: {response.status} {await response.text()}")
            told = msgspec.json.decode(await response.read(), type=Registered)
        self._path = f"{NODES}/{told.node_id}/heartbeat"
        self._headers["Authorization"] = f"Bearer {told.node_secret}"

    async def report(self, turn: int) -> None:
        """Say how it is: other figures each time, as a machine's are."""
        cpu = float((self._number + 7 * turn) % 60)
        gpu = Gpu("A card", 24 * GB, (turn % 20) * GB, cpu, 50.0, "cuda")
        message = Heartbeat(0, cpu, 40.0, 64 * GB, 0, 4, [MODELS[self._number % len(MODELS)]], gpus=[gpu])
        try:
            async with self._session.post(
                self._path, data=msgspec.json.encode(message), headers=self._headers
            ) as response:
                await response.read()
                well = response.status == 200
        except aiohttp.ClientError:
            well = False
        self._counts.reports += 1
        self._counts.refused += not well


def give_way() -> None:
    """Have this process run when no other wants to: who measures shall not keep what is measured from a processor."""
    if sys.platform != "win32":
        os.nice(10)


async def register(nodes: list[Node], port: int) -> None:
    """All of them, AT_ONCE at a time. Raises as `Node.register` does."""
    waiting = iter(nodes)

    async def some() -> None:
        for node in waiting:
            await node.register(port)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


async def report(nodes: list[Node], every: float) -> None:
    """Each once in `every` seconds, evenly spread, for ever."""
    loop, step = asyncio.get_running_loop(), every / len(nodes)
    began, turn = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while True:
            for place, node in enumerate(nodes):
                due = began + turn * every + place * step
                await asyncio.sleep(max(due - loop.time(), 0.0))  # noqa: TID251 - the time between two heartbeats
                group.create_task(node.report(turn))
            turn += 1


async def run(router: str, count: int, every: float) -> None:
    """The program.

    Raises:
        NotReadyError: a node is not wanted.
    """
    server = Server()
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    connector = aiohttp.TCPConnector(limit=2 * AT_ONCE)
    async with aiohttp.ClientSession(router, connector=connector) as session:
        nodes = [Node(number, session, server.counts) for number in range(count)]
        await register(nodes, port)
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()
        reporting = asyncio.create_task(report(nodes, every))
        await asyncio.to_thread(sys.stdin.read)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    await runner.cleanup()


@click.command()
@click.option("--router", required=True, help="The router's URL.")
@click.option("--nodes", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--every", type=float, default=HEARTBEAT_EVERY, show_default=True, help="Seconds between heartbeats.")
def main(router: str, nodes: int, every: float) -> None:
    """Be so many nodes."""
    give_way()
    asyncio.run(run(router, nodes, every))


if __name__ == "__main__":
    main(prog_name="python -m bench.live.nodes")
