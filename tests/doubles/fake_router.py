"""A router that only listens to its nodes, and can be told to treat them badly.

    python tests/doubles/fake_router.py --port 8080

prints what nodes say, until it is interrupted. In the same process: `async with FakeRouter() as router: ...`.
"""

import argparse
import asyncio
import sys
from typing import Self

import msgspec
from aiohttp import web

from llm_router.contract import NODES, ErrorBody, ErrorDetail, NodeSettings, Registered, Seen

SECRET = "given-by-the-fake-router"  # noqa: S105 - opens nothing


class Said(msgspec.Struct):
    """One call of a node. `what`: register, heartbeat or goodbye; `secret`: what it showed."""

    what: str
    secret: str
    body: bytes


class FakeRouter:
    """The server. Change `refusals` while it runs: each is used for one call, and then things go well again."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.refusals: list[tuple[int, bytes]] = []  # status and body of the next answers
        self.known: set[str] = set()
        self.state = "online"  # that it says nodes are in
        self.settings = NodeSettings()  # what it says that operators set of every node
        self.catalogue = 0  # the number that it gives to what it offers every node
        self.calls: asyncio.Queue[Said] = asyncio.Queue()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post(NODES, self._register)
        app.router.add_post(NODES + "/{id}/{what:heartbeat|goodbye}", self._hear)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def forget(self) -> None:
        """As a router whose database was lost."""
        self.known.clear()

    async def next(self, what: str) -> Said:
        """The next call of this kind; others before it are passed over."""
        async with asyncio.timeout(30):
            while (said := await self.calls.get()).what != what:
                pass
            return said

    async def _register(self, request: web.Request) -> web.Response:
        body = await self._take(request, "register")
        if self.refusals:
            return self._refuse()
        node_id = msgspec.json.decode(body)["node_id"]
        status = 200 if node_id in self.known else 201
        self.known.add(node_id)
        return _json(status, msgspec.json.encode(Registered(node_id, self.state, SECRET)))

    async def _hear(self, request: web.Request) -> web.Response:
        await self._take(request, request.match_info["what"])
        if self.refusals:
            return self._refuse()
        if request.match_info["id"] not in self.known:
            return _json(404, refusal("no such node", "node_not_found"))
        return _json(200, msgspec.json.encode(Seen(self.state, self.settings, self.catalogue)))

    async def _take(self, request: web.Request, what: str) -> bytes:
        body = await request.read()
        secret = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.calls.put_nowait(Said(what, secret, body))
        return body

    def _refuse(self) -> web.Response:
        return _json(*self.refusals.pop(0))


def refusal(message: str, code: str) -> bytes:
    """The body of an error answer of `/v0`."""
    return msgspec.json.encode(ErrorBody(ErrorDetail(message, "node_error", code)))


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


async def _main(port: int) -> None:
    async with FakeRouter(port) as router:
        sys.stdout.write(f"{router.url}\n")
        while True:
            said = await router.calls.get()
            sys.stdout.write(f"{said.what} {said.body.decode()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_main(parser.parse_args().port))
