"""The model endpoints of an Ollama, without models behind them.

    python -m tests.doubles.ollama_library --port 0 --model tiny:latest

prints one line with its URL once it listens, and runs until its standard input is closed. In the same process:
`async with OllamaLibrary("tiny:latest") as ollama: ...`. Its answers are those of Ollama 0.9.6, as they were seen.
"""

import argparse
import asyncio
import hashlib
import sys
from typing import Any, Self

import msgspec
from aiohttp import web

MODIFIED = "2026-01-01T00:00:00.123456789Z"
EXPIRES = "2026-01-01T00:05:00.5+02:00"
FILE = f"sha256:{'a' * 64}"  # what every model that is pulled consists of
SIZE = 1000  # its bytes
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "75K",
    "quantization_level": "F32",
}
LARGEST = 1 << 30


class OllamaLibrary:
    """The server.

    `models`: what it has; `loaded`: what is in memory; `blobs`: digest -> bytes that came. `unknown`: what it cannot
    pull. `token`: who does not show it is turned away. `refuses`: path -> status of an error instead of an answer.
    `held`: answers of several records stop before the last one until it is set. `seen`: method, path and body of each
    request, but for blobs'.
    """

    def __init__(self, *models: str, token: str = "") -> None:
        self.models = list(models)
        self.loaded: list[str] = []
        self.blobs: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.token = token
        self.refuses: dict[str, int] = {}
        self.held: asyncio.Event | None = None
        self.waits = asyncio.Event()  # for `held`
        self.left = asyncio.Event()  # a client went away before its answer was complete
        self.most = 0  # bytes of a blob that came at once
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[dict[str, Any]]:
        """The bodies of the requests for this path."""
        return [body for _, at, body in self.seen if at == path]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=LARGEST, middlewares=[self._first])
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/v1/models", self._openai)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/pull", self._pull)
        app.router.add_post("/api/push", self._push)
        app.router.add_post("/api/create", self._create)
        app.router.add_delete("/api/delete", self._delete)
        app.router.add_post("/api/copy", self._copy)
        app.router.add_post("/api/generate", self._unload)
        app.router.add_post("/api/show", self._show)
        app.router.add_head("/api/blobs/{digest}", self._has)
        app.router.add_post("/api/blobs/{digest}", self._take)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _first(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's own
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "who are you?")
        if not request.path.startswith("/api/blobs/"):
            body = msgspec.json.decode(await request.read() or b"{}")
            self.seen.append((request.method, request.path, body))
        if request.path in self.refuses:
            return _error(self.refuses[request.path], "told to fail")
        answer: web.StreamResponse = await handler(request)
        return answer

    # -- lists

    async def _tags(self, _request: web.Request) -> web.Response:
        return _json({"models": [_model(name) | {"modified_at": MODIFIED} for name in self.models]})

    async def _openai(self, _request: web.Request) -> web.Response:
        return _json({"data": [{"id": name} for name in self.models]})

    async def _ps(self, _request: web.Request) -> web.Response:
        more = {"expires_at": EXPIRES, "size_vram": 7, "context_length": 4096}
        return _json({"models": [_model(name) | more for name in self.loaded]})

    # -- streams

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        name = await self._name(request)
        if name in self.unknown:
            missing = "pull model manifest: file does not exist"
            return await self._stream(request, {"status": "pulling manifest"}, {"error": missing})
        file: dict[str, Any] = {"status": "pulling aaaaaaaaaaaa", "digest": FILE, "total": SIZE}
        steps: list[dict[str, Any]] = [
            {"status": "pulling manifest"},
            *(file | {"completed": n} for n in (0, SIZE // 2, SIZE)),
        ]
        return await self._stream(request, *steps, {"status": "success"}, then=name)

    async def _push(self, request: web.Request) -> web.StreamResponse:
        await self._name(request)
        return await self._stream(request, {"status": "retrieving manifest"}, {"status": "success"})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        name = await self._name(request)
        body = msgspec.json.decode(await request.read())
        if any(digest not in self.blobs for digest in body.get("files", {}).values()):
            return await self._stream(request, {"error": "invalid digest", "status": 400})
        return await self._stream(request, {"status": "writing manifest"}, {"status": "success"}, then=name)

    async def _stream(self, request: web.Request, *records: dict[str, Any], then: str = "") -> web.StreamResponse:
        """`then`: the model that it has before it says the last word."""
        last = records[-1]
        if msgspec.json.decode(await request.read()).get("stream") is False:
            self._add(then)
            return _json(last, 500 if "error" in last else 200)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            for record in records[:-1]:
                await response.write(msgspec.json.encode(record) + b"\n")
            if self.held is not None:
                self.waits.set()
                await self.held.wait()
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        self._add(then)
        await response.write(msgspec.json.encode(last) + b"\n")
        return response

    # -- changes

    async def _delete(self, request: web.Request) -> web.Response:
        name = await self._name(request)
        if name not in self.models:
            return _error(404, f"model '{name}' not found")
        self.models.remove(name)
        return web.Response()

    async def _copy(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        if body["source"] not in self.models:
            return _error(404, f'model "{body["source"]}" not found')
        self._add(body["destination"])
        return web.Response()

    async def _show(self, request: web.Request) -> web.Response:
        return _json(_model(await self._name(request)))

    async def _unload(self, request: web.Request) -> web.Response:
        name = await self._name(request)
        if name in self.loaded:
            self.loaded.remove(name)
        return _json({"model": name, "created_at": MODIFIED, "response": "", "done": True, "done_reason": "unload"})

    # -- blobs

    async def _has(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)

    async def _take(self, request: web.Request) -> web.Response:
        """It is counted, not kept."""
        digest, summed, size = request.match_info["digest"], hashlib.sha256(), 0
        if digest in self.blobs:
            return web.Response(status=200)
        async for block in request.content.iter_any():
            summed.update(block)
            size += len(block)
            self.most = max(self.most, len(block))
        if digest != f"sha256:{summed.hexdigest()}":
            return _error(400, f'digest mismatch, expected "{digest}"')
        self.blobs[digest] = size
        return web.Response(status=201)

    async def _name(self, request: web.Request) -> str:
        body = msgspec.json.decode(await request.read())
        name = body.get("model") or body["name"]
        assert isinstance(name, str)
        return name

    def _add(self, name: str) -> None:
        if not name:
            return
        tagged = name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
        if tagged not in self.models:
            self.models.append(tagged)


def _model(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": SIZE, "digest": digest, "details": DETAILS}


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"error": message}, status)


async def _main(arguments: argparse.Namespace) -> None:
    library = OllamaLibrary(*arguments.model)
    library.port = arguments.port
    async with library:
        sys.stdout.write(f"{library.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", action="append", default=[])
    asyncio.run(_main(parser.parse_args()))
