"""An `ollama serve` without models behind it, for those who start one.

    HOME=dir OLLAMA_HOST=127.0.0.1:11500 OLLAMA_MODELS=dir/models python -m tests.doubles.fake_ollama serve

Files in OLLAMA_MODELS are its models. Files in HOME say what goes wrong: with `broken` it does not start, with `mute`
it does not listen, with `offline` it cannot fetch a model. It writes its environment to `environment.json` there, and
runs a process that would hold a model in memory. `install(path)` makes it a program of that name.
"""

import asyncio
import os
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
from aiohttp import web
from tests.doubles.fake_runtime import FakeRuntime, Options

ROOT = Path(__file__).parents[2]
RUNNER = "import time; time.sleep(3600)"
SIZES = {"sha256:aa": 1000, "sha256:bb": 50}  # the files of every model that can be fetched, in bytes


def install(path: Path) -> None:
    """Make it the program `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join([sys.executable, "-m", "tests.doubles.fake_ollama"])
    path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {command} "$@"\n')
    path.chmod(0o755)


class FakeOllama(FakeRuntime):
    """The server; it has what lies in `models`, and fetches into it."""

    def __init__(self, host: str, port: int, home: Path, models: Path) -> None:
        stored = sorted(path.name for path in models.iterdir())
        super().__init__(Options(kind="ollama", host=host, port=port, models=stored, unloaded=stored))
        self._home = home
        self._models = models

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/pull":
            return await self._pull(request)
        return await super()._answer(request)

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        """As Ollama 0.9.6 answers, also where it cannot resolve its library's name."""
        model = msgspec.json.decode(await request.read())["model"]
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await _write(response, status="pulling manifest")
        if (self._home / "offline").exists():
            await _write(response, error="pull model manifest: no such host")
            return response
        for digest, size in SIZES.items():
            for done in (0, size // 2, size):
                await _write(response, status=f"pulling {digest}", digest=digest, total=size, completed=done)
        (self._models / model).touch()
        self.options.models = [*self.options.models, model]
        await _write(response, status="success")
        return response


async def _write(response: web.StreamResponse, **record: object) -> None:
    await response.write(msgspec.json.encode(record) + b"\n")


async def serve(home: Path, models: Path) -> None:
    """Run until a signal ends it."""
    host, port = os.environ["OLLAMA_HOST"].split(":")
    async with FakeOllama(host, int(port), home, models) as fake:
        sys.stderr.write(f"Listening on {fake.url}\n")
        await asyncio.Event().wait()


def main() -> None:
    """What its files say."""
    home, models = Path(os.environ["HOME"]), Path(os.environ["OLLAMA_MODELS"])
    models.mkdir(parents=True, exist_ok=True)
    (home / "environment.json").write_bytes(msgspec.json.encode(dict(os.environ)))
    if (home / "broken").exists():
        sys.exit("Error: told not to start")
    with subprocess.Popen([sys.executable, "-c", RUNNER]) as runner:
        if (home / "mute").exists():
            runner.wait()
        asyncio.run(serve(home, models))


if __name__ == "__main__":
    main()
