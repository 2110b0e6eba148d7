"""The machines of a fleet as a program: each one an HTTP server that speaks Ollama and OpenAI.

    python -m bench.fleet.runtime --fleet unequal --scale 6

prints one line of JSON, `{name: url}`, once all of them listen, and ends when its standard input is closed. Besides the
two APIs, `GET /_stats` of a machine returns its `Stats`; `POST /_reset` makes it a new machine.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import click
import msgspec
from aiohttp import web

from bench.fleet.dialects import BORN, EPOCH, Answered, Asked, Dialect, Json, Ollama, OpenAI
from bench.fleet.fleet import FLEETS
from bench.fleet.machine import Ask, Emit, Machine, Part, Spec
from bench.fleet.trace import MODELS, filler, tokens_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY = 1 << 24  # bytes; the longest conversation has some 100,000
WORD = "tok"  # and a blank: one token


class Runtime:
    """One machine's server."""

    def __init__(self, spec: Spec, scale: float) -> None:
        self._new = partial(Machine, spec, scale)
        self._machine = self._new()

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application(client_max_size=MAX_BODY)
        for dialect in (Ollama(), OpenAI()):
            app.router.add_post(dialect.path, self._chat(dialect))
        for path, answer in LISTS.items():
            app.router.add_get(path, _says(answer))
        app.router.add_get("/api/ps", self._ps)
        app.router.add_get("/_stats", self._stats)
        app.router.add_post("/_reset", self._reset)
        return app

    def close(self) -> None:
        """End what it is loading."""
        self._machine.close()

    def _chat(self, dialect: Dialect) -> Handler:
        async def chat(request: web.Request) -> web.StreamResponse:
            try:
                asked = dialect.read(await request.read())
            except msgspec.DecodeError as error:
                return _json({"error": str(error)}, 400)
            if asked.model not in MODELS:
                return _json({"error": f"model '{asked.model}' not found"}, 404)
            return await (self._stream(request, dialect, asked) if asked.stream else self._whole(dialect, asked))

        return chat

    async def _stream(self, request: web.Request, dialect: Dialect, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": dialect.content_type})

        async def emit(tokens: int) -> None:
            if not response.prepared:  # as the real ones do: no head before the first token
                await response.prepare(request)
            await response.write(dialect.piece(asked.model, filler(WORD, tokens)))

        await response.write_eof(dialect.last(await self._serve(asked, emit)))
        return response

    async def _whole(self, dialect: Dialect, asked: Asked) -> web.Response:
        async def emit(_tokens: int) -> None:
            """Keep it for the end."""

        answered = await self._serve(asked, emit)
        return web.Response(body=dialect.whole(answered, filler(WORD, asked.tokens)), content_type="application/json")

    async def _serve(self, asked: Asked, emit: Emit) -> Answered:
        prompt = tuple(_part(m.role, m.content) for m in asked.messages)
        answer = _part("assistant", filler(WORD, asked.tokens))
        times = await self._machine.serve(Ask(asked.model, prompt, answer), emit)
        return Answered(asked.model, sum(part.tokens for part in prompt), asked.tokens, times)

    async def _ps(self, _request: web.Request) -> web.Response:
        loaded = [_model(name) | {"expires_at": EPOCH, "size_vram": 1} for name in self._machine.loaded]
        return _json({"models": loaded})

    async def _stats(self, _request: web.Request) -> web.Response:
        return _json(self._machine.stats)

    async def _reset(self, _request: web.Request) -> web.Response:
        self._machine.close()
        self._machine = self._new()
        return _json({})


@asynccontextmanager
async def serving(specs: list[Spec], scale: float, first_port: int) -> AsyncIterator[dict[str, str]]:
    """Servers of these machines, on ports from `first_port` on, or on any with 0: `{name: url}`."""
    async with AsyncExitStack() as stack:
        urls = {}
        for n, spec in enumerate(specs):
            runtime = Runtime(spec, scale)
            stack.callback(runtime.close)
            runner = web.AppRunner(runtime.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", first_port + n if first_port else 0).start()
            urls[spec.name] = "http://127.0.0.1:{1}".format(*runner.addresses[0])
        yield urls


@click.command()
@click.option("--fleet", type=click.Choice(list(FLEETS)), default="unequal", show_default=True)
@click.option("--scale", default=6.0, show_default=True, help="How many times faster than real machines.")
@click.option("--first-port", default=0, help="The first of as many ports as there are machines; 0: any.")
def main(fleet: str, scale: float, first_port: int) -> None:
    """Run the machines until standard input is closed."""
    asyncio.run(_serve_until_closed(FLEETS[fleet], scale, first_port))


async def _serve_until_closed(specs: list[Spec], scale: float, first_port: int) -> None:
    async with serving(specs, scale, first_port) as urls:
        click.echo(msgspec.json.encode(urls).decode())
        await asyncio.to_thread(sys.stdin.buffer.read)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _says(answer: Json) -> Handler:
    async def say(_request: web.Request) -> web.Response:
        return _json(answer)

    return say


def _part(role: str, content: str) -> Part:
    return Part(hash((role, content)), tokens_of(content))


def _model(name: str) -> Json:
    details = {"format": "gguf", "family": "llama", "parameter_size": "8B", "quantization_level": "Q4_K_M"}
    return {"name": name, "model": name, "modified_at": EPOCH, "size": 1, "digest": "0" * 64, "details": details}


LISTS: dict[str, Json] = {
    "/health": {"status": "ok"},
    "/api/version": {"version": "0.12.0"},
    "/api/tags": {"models": [_model(name) for name in MODELS]},
    "/v1/models": {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": BORN, "owned_by": "library"} for name in MODELS],
    },
}

if __name__ == "__main__":
    main()
