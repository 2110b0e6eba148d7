"""An HTTP proxy: it forwards what has a whole URL (`GET http://host/path`), and opens tunnels (`CONNECT host:port`).

    python tests/doubles/http_proxy.py --port 3128

prints its URL, on standard error what it is asked for, and serves until it is interrupted. In the same process:
`async with HttpProxy() as proxy: ...`.
"""

import argparse
import asyncio
import base64
import contextlib
import sys
from typing import NamedTuple, Self, TextIO
from urllib.parse import urlsplit


class Head(NamedTuple):
    """A request's line, and its other lines as they came."""

    method: str
    target: str
    lines: list[bytes]


class HttpProxy:
    """The proxy. `seen` holds method and target of each request; `login`, as user:password, is what it wants to see."""

    def __init__(self, port: int = 0, login: str = "", log: TextIO | None = None) -> None:
        self.port = port
        self.login = login
        self.seen: list[str] = []
        self._log = log
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self.login}@127.0.0.1:{self.port}" if self.login else f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two went away
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _read_head(reader)
        self.seen.append(f"{head.method} {head.target}")
        if self._log is not None:
            self._log.write(f"{self.seen[-1]}\n")
        if not self._is_welcome(head):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        url = urlsplit(f"//{head.target}" if head.method == "CONNECT" else head.target)
        upstream_reader, upstream_writer = await asyncio.open_connection(url.hostname, url.port or 80)
        try:
            if head.method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream_writer.write(_forwarded(head, f"{url.path}?{url.query}" if url.query else url.path))
            await asyncio.gather(_pass_on(reader, upstream_writer), _pass_on(upstream_reader, writer))
        finally:
            upstream_writer.close()

    def _is_welcome(self, head: Head) -> bool:
        shown = b"Basic " + base64.b64encode(self.login.encode())
        return not self.login or b"Proxy-Authorization: " + shown in head.lines


async def _read_head(reader: asyncio.StreamReader) -> Head:
    lines = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = lines[0].decode().split(" ")
    return Head(method, target, lines[1:])


def _forwarded(head: Head, path: str) -> bytes:
    """The request as the server gets it; the connection is for this one only."""
    kept = [line for line in head.lines if not _is_for_proxies(line)]
    return b"\r\n".join([f"{head.method} {path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""])


def _is_for_proxies(line: bytes) -> bool:
    return line.lower().startswith((b"proxy-", b"connection:"))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()


async def _main(port: int) -> None:
    async with HttpProxy(port, log=sys.stderr) as proxy:
        sys.stdout.write(f"{proxy.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_main(parser.parse_args().port))
