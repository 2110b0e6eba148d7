"""A registry that speaks to Ollama: manifests and blobs below /v2, with Range, to be pulled from and pushed to.

    python -m tests.doubles.ollama_registry --port 0 --model library/tiny

prints one line with its URL once it listens, and serves the built-in model under this name until its standard input is
closed. `ollama pull --insecure http://127.0.0.1:PORT/library/tiny` fetches it. In the same process:
`async with OllamaRegistry() as registry: ...`.

Sources: OCI distribution spec 1.1 (paths); ollama/ollama `server/manifest.go`, `server/layer.go` (media types),
`server/download.go` (HEAD for the size, then a redirect to another host, which is asked for ranges), `server/upload.go`
(uploads in parts, then a PUT with the digest).
"""

import argparse
import asyncio
import hashlib
import os
import sys
from contextlib import suppress
from typing import Any, Self

import msgspec
from aiohttp import web

from llm_router.node.models import builtin

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
TEMPLATE = b"{{ .Prompt }}"
LARGEST = 1 << 28  # bytes of a part that is pushed


class OllamaRegistry:
    """The server. `blobs`: by digest; `manifests`: by name and tag; `seen`: method, path and Range of each request."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, str]] = []
        self._uploads: dict[str, bytearray] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def name(self, model: str) -> str:
        """What a client calls a model of this registry."""
        return f"{self.url}/{model}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=LARGEST)
        app.router.add_get("/v2/{name:.+}/manifests/{tag}", self._manifest)
        app.router.add_put("/v2/{name:.+}/manifests/{tag}", self._take_manifest)
        app.router.add_head("/v2/{name:.+}/blobs/{digest}", self._blob)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._elsewhere, allow_head=False)
        app.router.add_get("/storage/{digest}", self._blob)
        app.router.add_post("/v2/{name:.+}/blobs/uploads/", self._begin)
        app.router.add_patch("/uploads/{id}", self._take_part)
        app.router.add_put("/uploads/{id}", self._end)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def publish(self, model: str, tag: str = "latest", weights: bytes = b"", **parameters: object) -> str:
        """Have a model: the built-in one, unless `weights` are given; its digest, as Ollama lists it."""
        weights = weights or builtin.model_bytes()
        layers = [self._layer("model", weights), self._layer("template", TEMPLATE)]
        if parameters:
            layers.append(self._layer("params", msgspec.json.encode(parameters)))
        config = msgspec.json.encode(_config([layer["digest"] for layer in layers]))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self._keep(config), "size": len(config)},
            "layers": layers,
        }
        encoded = self.manifests[f"{model}:{tag}"] = msgspec.json.encode(manifest)
        return hashlib.sha256(encoded).hexdigest()

    def _layer(self, kind: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": LAYER + kind, "digest": self._keep(content), "size": len(content)}

    def _keep(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    # -- pull

    async def _manifest(self, request: web.Request) -> web.Response:
        self._note(request)
        found = self.manifests.get(_name(request))
        return web.Response(body=found, content_type=MANIFEST) if found else _unknown("MANIFEST_UNKNOWN")

    async def _elsewhere(self, request: web.Request) -> web.Response:
        """As registries have their blobs in a storage of another name; Ollama takes nothing else for an answer."""
        self._note(request)
        raise web.HTTPTemporaryRedirect(f"http://localhost:{self.port}/storage/{request.match_info['digest']}")

    async def _blob(self, request: web.Request) -> web.Response:
        self._note(request)
        content = self.blobs.get(request.match_info["digest"])
        if content is None:
            return _unknown("BLOB_UNKNOWN")
        asked = request.http_range
        part = content[asked]
        if len(part) == len(content):
            return web.Response(body=content)
        start = asked.start or 0
        headers = {"content-range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
        return web.Response(status=206, body=part, headers=headers)

    # -- push

    async def _begin(self, request: web.Request) -> web.Response:
        self._note(request)
        id_ = os.urandom(8).hex()
        self._uploads[id_] = bytearray()
        return web.Response(status=202, headers={"location": f"{self.url}/uploads/{id_}"})

    async def _take_part(self, request: web.Request) -> web.Response:
        self._note(request)
        self._uploads[request.match_info["id"]] += await request.read()
        return web.Response(status=202, headers={"location": str(request.url)})

    async def _end(self, request: web.Request) -> web.Response:
        self._note(request)
        content = bytes(self._uploads.pop(request.match_info["id"])) + await request.read()
        return web.Response(status=201 if self._keep(content) == request.query["digest"] else 400)

    async def _take_manifest(self, request: web.Request) -> web.Response:
        self._note(request)
        self.manifests[_name(request)] = await request.read()
        return web.Response(status=201)

    def _note(self, request: web.Request) -> None:
        self.seen.append((request.method, request.path, request.headers.get("range", "")))


def _name(request: web.Request) -> str:
    return f"{request.match_info['name']}:{request.match_info['tag']}"


def _unknown(code: str) -> web.Response:
    body = msgspec.json.encode({"errors": [{"code": code, "message": "it is not here"}]})
    return web.Response(status=404, body=body, content_type="application/json")


def _config(digests: list[str]) -> dict[str, Any]:
    return {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "75K",
        "file_type": "F32",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
    }


async def _main(arguments: argparse.Namespace) -> None:
    async with OllamaRegistry(arguments.port) as registry:
        for model in arguments.model:
            registry.publish(model, num_thread=1, num_predict=20)
        sys.stdout.write(f"{registry.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", action="append", default=[])
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
