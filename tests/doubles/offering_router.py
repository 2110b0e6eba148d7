"""A router that offers models to nodes and gives out their files; it can be told to hold, refuse or spoil them.

    python tests/doubles/offering_router.py DIRECTORY --port 8080

offers every file of DIRECTORY that ends in .gguf, until it is interrupted. In the same process:
`async with OfferingRouter() as router: router.offer("tiny", content)`.
"""

import argparse
import asyncio
import hashlib
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal, Self

import msgspec
from aiohttp import web

from llm_router.contract import NODES, ErrorBody, ErrorDetail
from llm_router.models import gguf
from llm_router.models.manifest import NODE_ID, REGISTRY, Manifest, ModelFile, Offer
from llm_router.models.unreadable import Unreadable

BLOCK = 4096  # bytes sent at once


class OfferingRouter:
    """The server. `sent`: bytes of each file that left it; `asked`: the headers of every request."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.offers: dict[str, Offer] = {}
        self.number = 0
        self.hold_at = -1  # bytes after which a file stands still until `release` is set; -1: none
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self.refusal: tuple[int, str] | None = None  # status and message for files
        self.sent: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.asked: list[dict[str, str]] = []
        self._files: dict[tuple[str, str], bytes] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(NODES + "/{id}/models", self._list)
        app.router.add_get(REGISTRY + "/{model:.+}/manifest.json", self._manifest)
        app.router.add_get(REGISTRY + "/{model:.+}/files/{name:.+}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def offer(
        self,
        model: str,
        *contents: bytes,
        wanted: bool = False,
        preload: bool = False,
        names: tuple[str, ...] = (),
        kind: Literal["gguf", "safetensors"] = "gguf",
        chat_template: str = "",
        sha256: str | None = None,
        peers: tuple[str, ...] = (),
        url: str = "",
    ) -> Offer:
        """Offer a model of these files. `sha256`: what is said of each; None: what is right."""
        names = names or tuple(f"{number}.gguf" for number in range(len(contents)))
        files = []
        for name, content in zip(names, contents, strict=True):
            self._files[model, name] = content
            digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
            files.append(ModelFile(name, len(content), digest, url, [f"{peer}/{name}" for peer in peers]))
        manifest = Manifest(model, kind, files, chat_template=chat_template, facts=_facts(contents[0], kind))
        self.offers[model] = Offer(manifest, wanted=wanted, preload=preload)
        self.number += 1
        return self.offers[model]

    def withdraw(self, model: str) -> None:
        del self.offers[model]
        self.number += 1

    async def _list(self, request: web.Request) -> web.Response:
        self._note(request, "list")
        return _json(200, list(self.offers.values()))

    async def _manifest(self, request: web.Request) -> web.Response:
        self._note(request, "manifest")
        offer = self.offers.get(request.match_info["model"])
        return _json(200, offer.manifest) if offer is not None else _refusal(404, "no such model")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._note(request, "file")
        key = request.match_info["model"], request.match_info["name"]
        if self.refusal is not None:
            return _refusal(*self.refusal)
        if key not in self._files:
            return _refusal(404, "no such file")
        content = self._files[key]
        start = _start(request.headers.get("range", ""))
        answer = web.StreamResponse(status=206 if start else 200, headers={"etag": f'"{len(content)}"'})
        answer.content_length = len(content) - start
        if start:
            answer.headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        await answer.prepare(request)
        for at in range(start, len(content), BLOCK):
            if 0 <= self.hold_at <= at:
                self.held.set()
                await self.release.wait()
            block = content[at : at + BLOCK]
            await answer.write(block)
            self.sent[key[0]] += len(block)
        return answer

    def _note(self, request: web.Request, what: str) -> None:
        self.requests[what] += 1
        self.asked.append({"what": what, "node": request.headers.get(NODE_ID, ""), **request.headers})


def _start(asked: str) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", asked)
    return int(match[1]) if match else 0


def _facts(content: bytes, kind: str) -> gguf.Facts | None:
    """What the real router reads of a file's beginning."""
    if kind != "gguf":
        return None
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(content)
        file.flush()
        try:
            return gguf.read(Path(file.name))
        except Unreadable:
            return None


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def _refusal(status: int, message: str) -> web.Response:
    return _json(status, ErrorBody(ErrorDetail(message, "node_error", "refused")))


async def _main(paths: list[Path], port: int) -> None:
    async with OfferingRouter(port) as router:
        for path in paths:
            router.offer(path.stem.lower(), path.read_bytes())
        sys.stdout.write(f"{router.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_main(sorted(arguments.directory.glob("*.gguf")), arguments.port))
