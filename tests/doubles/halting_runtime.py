"""A runtime that says half of an answer, and the rest only when it is told to: for what must not hold answers back.

    python tests/doubles/halting_runtime.py

prints its address once it listens, on loopback, and ends on SIGTERM, or when its standard input is closed. It is an
OpenAI-compatible server with the one model `halting`; a stream of it is FIRST, a halt until `POST /_go`, and SECOND.
`GET /_left` tells how many clients went away in between. `POST /_take` reads a body as it comes, `GET /_taken` tells
how many bytes of one have come by now.
"""

import asyncio
import sys

import msgspec
from aiohttp import web

MODEL = "halting"
FIRST, SECOND = "first", "second"


class HaltingRuntime:
    """The server."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._left = 0
        self._taken = 0

    async def serve(self) -> None:
        """Run until standard input is closed."""
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/_go", self.go)
        app.router.add_get("/_left", self.left)
        app.router.add_post("/_take", self.take)
        app.router.add_get("/_taken", self.taken)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)  # noqa: T201 - what starts it reads this
        await asyncio.to_thread(sys.stdin.buffer.read)
        await runner.cleanup()

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="well")

    async def models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self._go.clear()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_record(FIRST))
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            self._left += 1
            raise
        await response.write(_record(SECOND) + b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def go(self, _: web.Request) -> web.Response:
        self._go.set()
        return web.Response(status=204)

    async def left(self, _: web.Request) -> web.Response:
        return _json(self._left)

    async def take(self, request: web.Request) -> web.Response:
        self._taken = 0
        async for piece in request.content.iter_any():
            self._taken += len(piece)
        return _json(self._taken)

    async def taken(self, _: web.Request) -> web.Response:
        return _json(self._taken)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _record(text: str) -> bytes:
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}}
    return b"data: " + msgspec.json.encode({"id": "1", "object": "chat.completion.chunk", "choices": [delta]}) + b"\n\n"


if __name__ == "__main__":
    asyncio.run(HaltingRuntime().serve())
