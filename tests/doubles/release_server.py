"""A server of releases as Ollama's project has them on GitHub, which can be told to break off, refuse or stand still.

    python tests/doubles/release_server.py DIRECTORY --port 8000 --publish 0.12.3 --program ./my-ollama

packs a program as a release for Linux, macOS and Windows, serves what is in DIRECTORY/v<version>/, and ends when it is
interrupted; `OLLAMA_DOWNLOAD_URL=http://127.0.0.1:8000/releases`. `POST /_faults` takes a `Fault` as JSON, `GET /_seen`
tells what was asked for. In the same process: `async with ReleaseServer(directory) as server: ...`.
"""

import argparse
import asyncio
import gzip
import hashlib
import io
import ssl
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self, TypeAlias

import msgspec
from aiohttp import web

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Members: TypeAlias = Mapping[str, bytes | tuple[str]]  # what a file holds, or what a symbolic link leads to
BLOCK = 16 * 1024  # bytes that are sent at once


class Fault(msgspec.Struct):
    """What happens to the next `times` requests for `file`.

    status: it is answered with `status`, and `retry_after` where that is given. cut: the connection is closed after
    the part `at` of what was asked for. stall: nothing more is sent after it.
    """

    file: str
    kind: Literal["status", "cut", "stall"]
    times: int = 1
    status: int = 503
    retry_after: str = ""
    at: float = 0.4


class Seen(msgspec.Struct, frozen=True):
    """One request, and when it came, in seconds."""

    path: str
    at: float
    range: str
    if_range: str


class ReleaseServer:
    """The server. Change `faults` while it runs, and the switches.

    `ranges`: whether it knows Range. `if_range`: whether it knows If-Range. `tags`: ETags to use instead of its own.
    """

    def __init__(self, directory: Path, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.directory = directory
        self.port = port
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.ranges = True
        self.if_range = True
        self.tags: dict[str, str] = {}
        self.stalled = asyncio.Event()
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What OLLAMA_DOWNLOAD_URL is set to."""
        return f"{self.origin}/releases"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/releases/latest/download/{file}", self._latest)
        app.router.add_get("/releases/download/{tag}/{file}", self._serve)
        app.router.add_post("/_faults", self._fail)
        app.router.add_get("/_seen", self._tell)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def asked(self, file: str) -> list[Seen]:
        """The requests for this file, without those that were redirected."""
        return [seen for seen in self.seen if seen.path.endswith(f"/{file}") and "/latest/" not in seen.path]

    async def _latest(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        versions = sorted(path.name for path in self.directory.glob("v*"))
        raise web.HTTPFound(f"{self.url}/download/{versions[-1]}/{request.match_info['file']}")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        name = request.match_info["file"]
        fault = self._fault(name)
        if fault is not None and fault.kind == "status":
            headers = {"retry-after": fault.retry_after} if fault.retry_after else {}
            return web.Response(status=fault.status, headers=headers)
        path = self.directory / request.match_info["tag"] / name
        if not path.is_file():
            raise web.HTTPNotFound
        return await self._send(request, path.read_bytes(), fault)

    async def _send(self, request: web.Request, whole: bytes, fault: Fault | None) -> web.StreamResponse:
        tag = self.tags.get(request.match_info["file"], f'"{hashlib.sha256(whole).hexdigest()[:16]}"')
        start = self._start(request, tag)
        if start >= len(whole) > 0:
            return web.Response(status=416, headers={"content-range": f"bytes */{len(whole)}", "etag": tag})
        headers = {"etag": tag, "content-length": str(len(whole) - start)}
        if start:
            headers["content-range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        part = whole[start:] if fault is None else whole[start : start + int((len(whole) - start) * fault.at)]
        for offset in range(0, len(part), BLOCK):
            await response.write(part[offset : offset + BLOCK])
        if fault is not None:
            await self._break_off(request, fault)
        return response

    def _start(self, request: web.Request, tag: str) -> int:
        asked = request.headers.get("range", "")
        current = not self.if_range or request.headers.get("if-range", tag) == tag
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges and current else 0

    async def _break_off(self, request: web.Request, fault: Fault) -> None:
        if fault.kind == "stall":
            self.stalled.set()
            await asyncio.Event().wait()  # until the client goes away
        if request.transport is not None:
            request.transport.close()

    def _fault(self, name: str) -> Fault | None:
        fault = next((fault for fault in self.faults if fault.file == name and fault.times > 0), None)
        if fault is not None:
            fault.times -= 1
        return fault

    def _note(self, request: web.Request) -> None:
        headers = request.headers
        seen = Seen(request.path, time.monotonic(), headers.get("range", ""), headers.get("if-range", ""))
        self.seen.append(seen)

    async def _fail(self, request: web.Request) -> web.Response:
        self.faults.append(msgspec.json.decode(await request.read(), type=Fault))
        return web.Response(status=204)

    async def _tell(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.seen), content_type="application/json")


# -- releases


def publish(directory: Path, version: str, packages: Mapping[str, Members]) -> dict[str, str]:
    """Write a release: its packages, by file name, and the list of their checksums, which it returns."""
    release = directory / f"v{version}"
    release.mkdir(parents=True)
    checksums = {}
    for name, members in packages.items():
        content = pack(name, members)
        (release / name).write_bytes(content)
        checksums[name] = hashlib.sha256(content).hexdigest()
    write_checksums(release, checksums)
    return checksums


def write_checksums(release: Path, checksums: Mapping[str, str]) -> None:
    """As `find . -type f | xargs sha256sum` does."""
    (release / "sha256sum.txt").write_text("".join(f"{digest}  ./{name}\n" for name, digest in checksums.items()))


def pack(name: str, members: Members) -> bytes:
    """An archive of the kind that its name says. Files below `bin/`, and those called `ollama`, can be executed."""
    return _zip(members) if name.endswith(".zip") else _tar(members, name.rpartition(".")[2])


def _tar(members: Members, compression: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mode = _mode(name)
            if isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[0]
            else:
                info.size = len(content)
            archive.addfile(info, None if isinstance(content, tuple) else io.BytesIO(content))
    return _compressed(packed.getvalue(), compression)


def _compressed(content: bytes, compression: str) -> bytes:
    if compression == "zst":
        return zstd.compress(content)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(content)
    return packed.getvalue()


def _zip(members: Members) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            link = isinstance(content, tuple)
            info.external_attr = (0o120777 if link else 0o100000 | _mode(name)) << 16
            archive.writestr(info, content[0] if isinstance(content, tuple) else content)
    return packed.getvalue()


def _mode(name: str) -> int:
    return 0o755 if "/bin/" in f"/{name}" or name.rpartition("/")[2] in ("ollama", "ollama.exe") else 0o644


def ollama_packages(program: bytes, filling: bytes = b"") -> dict[str, Members]:
    """What a release has: `program` is Ollama; `filling` makes a package as large as it shall be."""
    libraries: Members = {
        "lib/ollama/libggml-base.so.0": filling,
        "lib/ollama/libggml-base.so": ("libggml-base.so.0",),
    }
    linux: Members = {"bin/ollama": program, **libraries}
    return {
        "ollama-linux-amd64.tar.zst": linux,
        "ollama-linux-amd64-rocm.tar.zst": {"lib/ollama/rocm/libggml-hip.so": filling},
        "ollama-linux-arm64.tar.zst": linux,
        "ollama-darwin.tgz": {"ollama": program, "libggml-base.dylib": filling},
        "ollama-windows-amd64.zip": {"ollama.exe": program, "lib/ollama/ggml-base.dll": filling},
    }


async def _main(arguments: argparse.Namespace) -> None:
    if arguments.publish:
        publish(arguments.directory, arguments.publish, ollama_packages(arguments.program.read_bytes()))
    async with ReleaseServer(arguments.directory, arguments.port) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--publish", metavar="VERSION")
    parser.add_argument("--program", type=Path, default=Path("/bin/true"))
    asyncio.run(_main(parser.parse_args()))
