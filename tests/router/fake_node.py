"""A small server that a router can look at: an agent's or a runtime's list of models, with a will of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from tests.ports import lasting_port

from llm_router.contract import Address, Registration


class FakeNode:
    """Answers `GET /v1/models`, `/api/tags` and `/api/ps` with `models`; `answer` replaces the first one's answer."""

    def __init__(self) -> None:
        self.models: list[str] = ["m"]
        self.answer: Callable[[], web.Response] | None = None
        self.held: asyncio.Event | None = None  # set it to let the answers go
        self.looks = 0
        self.shown: list[str] = []  # the Authorization header of each look
        self.open = 0  # looks that are under way
        self.most_open = 0
        self.looked = asyncio.Event()  # set at each look
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    def registration(self, node_id: str = "n1", version: int = 0) -> Registration:
        return Registration(node_id, "fake machine", self.port, models_version=version)

    async def start(self) -> None:
        """Listen: on the same port as the last time."""
        app = web.Application()
        app.router.add_get("/v1/models", self._openai)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._loaded)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)  # to aiohttp, 0 is forever
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port or lasting_port(), reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _openai(self, request: web.Request) -> web.Response:
        self.shown.append(request.headers.get("authorization", ""))
        await self._look()
        if self.answer is not None:
            return self.answer()
        return web.json_response({"data": [{"id": model} for model in self.models]})

    async def _tags(self, _request: web.Request) -> web.Response:
        await self._look()
        return web.json_response({"models": [{"name": model} for model in self.models]})

    async def _loaded(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": model} for model in self.models[:1]]})

    async def _look(self) -> None:
        self.looks += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.looked.set()
        try:
            if self.held is not None:
                await self.held.wait()
        finally:
            self.open -= 1


@asynccontextmanager
async def fake_node() -> AsyncIterator[FakeNode]:
    node = FakeNode()
    await node.start()
    try:
        yield node
    finally:
        if node.held is not None:
            node.held.set()
        await node.stop()
