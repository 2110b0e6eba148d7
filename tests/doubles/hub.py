"""A hub of models as Hugging Face has it, with a "CDN" on another port, which can be told to fail in several ways.

    python tests/doubles/hub.py DIRECTORY --options '{"rate": 1000000}'

serves the repositories DIRECTORY/<org>/<name>/, prints its URL and the CDN's, and ends when it is interrupted;
`HF_ENDPOINT` is the first. In a test, as a process of its own: `async with Hub(directory) as hub: ...`.

    GET  /api/models/{repo}[/revision/{revision}]       files with sizes; sha256 of those that lie in LFS
    GET  /api/models/{repo}/tree/{revision}             the same as a list
    GET  /{repo}/resolve/{revision}/{file}              LFS: a redirect to the CDN; others: the file
    POST /_options    Options as JSON                   GET /_counts    {"org/name/file": Count}
    GET  /_held       when a transfer stands at `hold`  POST /_release  those go on
"""

import argparse
import asyncio
import contextlib
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
from aiohttp import web

BLOCK = 16 * 1024  # bytes that are sent at once
LFS = (".gguf", ".safetensors")  # what .gitattributes sends there, of what models have
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Options(msgspec.Struct, omit_defaults=True):
    """How it behaves. What is about bytes is about those that the CDN sends.

    `fail`: so many requests are answered with `status` first. `cut`: each of the next `cuts` transfers ends after so
    many bytes. `ranges`: whether it knows Range. `wrong_sha256`: it announces another checksum. `redirect_host`:
    `host[:port]` that files are said to be at, in place of the CDN. `rate`: bytes per second of each transfer.
    `hold`: a transfer stands still before this byte of its file, until it is released. `token`: what the hub wants to
    be shown; the CDN answers 400 to whoever shows it anything, as signed URLs do.
    """

    fail: int = 0
    status: int = 503
    cut: int = 0
    cuts: int = 1
    ranges: bool = True
    wrong_sha256: bool = False
    redirect_host: str = ""
    rate: int = 0
    hold: int = -1
    token: str = ""


class Count(msgspec.Struct):
    """Of one file: requests for its bytes, and the bytes that were sent."""

    requests: int = 0
    bytes: int = 0


class HubServer:
    """The program: two servers of one process."""

    def __init__(self, directory: Path, options: Options) -> None:
        self.directory = directory
        self.options = options
        self.counts: dict[str, Count] = {}
        self.url = self.cdn = ""
        self._held = asyncio.Event()
        self._go = asyncio.Event()
        self._runners: list[web.AppRunner] = []

    async def start(self, port: int) -> None:
        hub = web.Application()
        hub.router.add_get("/api/models/{org}/{name}", self._info)
        hub.router.add_get("/api/models/{org}/{name}/revision/{revision}", self._info)
        hub.router.add_get("/api/models/{org}/{name}/tree/{revision}", self._tree)
        hub.router.add_get("/{org}/{name}/resolve/{revision}/{file:.+}", self._resolve)
        hub.router.add_post("/_options", self._set)
        hub.router.add_get("/_counts", self._tell)
        hub.router.add_get("/_held", self._wait)
        hub.router.add_post("/_release", self._release)
        cdn = web.Application()
        cdn.router.add_get("/{org}/{name}/{file:.+}", self._serve)
        self.url, self.cdn = await self._listen(hub, port), await self._listen(cdn, 0)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    # -- the hub

    async def _info(self, request: web.Request) -> web.Response:
        repo, files = self._repo(request)
        siblings = [{"rfilename": path, **self._facts(files[path])} for path in sorted(files)]
        commit = hashlib.sha1("".join(files).encode(), usedforsecurity=False).hexdigest()
        return _json({"id": repo, "sha": commit, "private": False, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        _, files = self._repo(request)
        return _json([{"type": "file", "path": path, **self._facts(files[path])} for path in sorted(files)])

    def _facts(self, file: Path) -> dict[str, object]:
        size = file.stat().st_size
        if file.suffix not in LFS:
            return {"size": size}
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"size": size, "lfs": {"sha256": _other(sha256) if self.options.wrong_sha256 else sha256, "size": size}}

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo, files = self._repo(request)
        path = request.match_info["file"]
        if path not in files:
            raise web.HTTPNotFound
        if files[path].suffix not in LFS:
            return web.FileResponse(files[path])
        place = f"http://{self.options.redirect_host}" if self.options.redirect_host else self.cdn
        raise web.HTTPFound(f"{place}/{repo}/{path}?signature=a%2Fb%3D")

    def _repo(self, request: web.Request) -> tuple[str, dict[str, Path]]:
        """Its name, and its files by their paths. As the real one, 401 where a token is missing."""
        token = self.options.token
        if token and request.headers.get("authorization") != f"Bearer {token}":
            raise web.HTTPUnauthorized
        repo = f"{request.match_info['org']}/{request.match_info['name']}"
        root = self.directory / repo
        files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        if not files:
            raise web.HTTPNotFound
        return repo, files

    # -- the CDN

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.path.lstrip("/")
        count = self.counts.setdefault(name, Count())
        count.requests += 1
        if "authorization" in request.headers:
            raise web.HTTPBadRequest
        if self.options.fail > 0:
            self.options.fail -= 1
            return web.Response(status=self.options.status)
        file = self.directory / name
        if not file.is_file():
            raise web.HTTPNotFound
        return await self._send(request, file.read_bytes(), count)

    async def _send(self, request: web.Request, whole: bytes, count: Count) -> web.StreamResponse:
        tag = f'"{hashlib.sha256(whole).hexdigest()[:16]}"'
        span = self._span(request, len(whole), tag)
        if span is not None and span[0] >= len(whole):
            return web.Response(status=416, headers={"content-range": f"bytes */{len(whole)}", "etag": tag})
        start, stop = span or (0, len(whole))
        headers = {"etag": tag, "content-length": str(stop - start), "accept-ranges": "bytes"}
        if span:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{len(whole)}"
        response = web.StreamResponse(status=206 if span else 200, headers=headers)
        await response.prepare(request)
        last = self._cut(start, stop)
        for begin, end in self._blocks(start, last):
            await self._pace(begin)
            with contextlib.suppress(ConnectionError):
                await response.write(whole[begin:end])
                count.bytes += end - begin
        if last < stop and request.transport is not None:
            request.transport.close()
        return response

    def _span(self, request: web.Request, size: int, tag: str) -> tuple[int, int] | None:
        match = RANGE.fullmatch(request.headers.get("range", ""))
        if match is None or not self.options.ranges or request.headers.get("if-range", tag) != tag:
            return None
        return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)

    def _cut(self, start: int, stop: int) -> int:
        if not self.options.cut or self.options.cuts <= 0 or start + self.options.cut >= stop:
            return stop
        self.options.cuts -= 1
        return start + self.options.cut

    def _blocks(self, start: int, last: int) -> Iterable[tuple[int, int]]:
        """Where each begins and ends; one begins at `hold`."""
        begins = set(range(start, last, BLOCK)) | ({self.options.hold} if start <= self.options.hold < last else set())
        return pairwise([*sorted(begins), last])

    async def _pace(self, offset: int) -> None:
        if offset == self.options.hold and not self._go.is_set():
            self._held.set()
            await self._go.wait()
        if self.options.rate:
            await asyncio.sleep(BLOCK / self.options.rate)  # noqa: TID251 - being slow is what is asked for

    # -- whoever tests with it

    async def _set(self, request: web.Request) -> web.Response:
        self.options = msgspec.json.decode(await request.read(), type=Options)
        self._held.clear()
        self._go.clear()
        return web.Response(status=204)

    async def _tell(self, _request: web.Request) -> web.Response:
        return _json(self.counts)

    async def _wait(self, _request: web.Request) -> web.Response:
        await self._held.wait()
        return web.Response(status=204)

    async def _release(self, _request: web.Request) -> web.Response:
        self._go.set()
        return web.Response(status=204)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _other(sha256: str) -> str:
    return sha256[::-1] if sha256 != sha256[::-1] else "0" * 64


# -- in tests


class Hub:
    """The program as a process. `url`: the hub; `cdn`: where it redirects to; `origins`: both, for `model_origins`."""

    def __init__(self, directory: Path, options: Options | None = None, port: int = 0) -> None:
        self.directory = directory
        self.url = self.cdn = ""
        self._options = options or Options()
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def origins(self) -> list[str]:
        return [f"{self.url}/*", f"{self.cdn}/*"]

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        options = msgspec.json.encode(self._options).decode()
        command = [sys.executable, __file__, str(self.directory), "--port", str(self._port), "--options", options]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = (await self._process.stdout.readline()).decode().strip()
        self.cdn = (await self._process.stdout.readline()).decode().strip()
        self._session = aiohttp.ClientSession(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()

    def put(self, repo: str, files: Mapping[str, bytes]) -> None:
        """Have a repository with these files, besides those that it has."""
        for path, content in files.items():
            file = self.directory / repo / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    async def set(self, options: Options) -> None:
        await self._call("POST", "/_options", msgspec.json.encode(options))

    async def counts(self) -> dict[str, Count]:
        return msgspec.json.decode(await self._call("GET", "/_counts"), type=dict[str, Count])

    async def held(self) -> None:
        """Until a transfer stands at `hold`."""
        await self._call("GET", "/_held")

    async def release(self) -> None:
        """Those that stand there go on, and none stands there any more."""
        await self._call("POST", "/_release")

    async def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        assert self._session is not None, "it is started by `async with`"
        async with self._session.request(method, path, data=body) as response:
            return await response.read()


async def _main(arguments: argparse.Namespace) -> None:
    options = msgspec.json.decode(arguments.options, type=Options)
    server = HubServer(arguments.directory, options)
    await server.start(arguments.port)
    sys.stdout.write(f"{server.url}\n{server.cdn}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--options", default="{}", metavar="JSON")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
