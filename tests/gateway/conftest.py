"""A gateway on loopback, upstreams that follow a script, and a client that sees every byte."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from llm_router.config import RouterConfig
from llm_router.contract import Address
from llm_router.core.health import State
from llm_router.core.policies import least_requests
from llm_router.core.registry import EVERY_DIALECT, Node, Registry
from llm_router.core.scheduler import Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.server import Gateway
from llm_router.gateway.upstream import Pool

Script = Callable[["Conversation"], Awaitable[None]]

BODY = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true}'
WHOLE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Conversation:
    """One connection to a scripted upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Head and body of the next request; raises IncompleteReadError when the gateway closes instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else head

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Until the gateway has closed its side."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """End the connection as a machine does that crashed: with a reset, not with an end."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Upstream:
    """Plays one script per connection, the last one again and again."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = list(scripts)
        self.connections = 0
        self.requests: list[bytes] = []
        self._server: asyncio.Server | None = None
        self.address = Address("127.0.0.1", 0)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, limit=2**20)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Conversation(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Client:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, path: str, body: bytes, headers: str = "", version: str = "1.1") -> None:
        head = f"POST {path} HTTP/{version}\r\nHost: gateway\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.strip().split("\r\n")
        return int(first.split(" ")[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole response with a length."""
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def chunks(self) -> list[bytes]:
        """A chunked body to its end; a body that is cut off raises IncompleteReadError with what came in `partial`."""
        found = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            found.append((await self.reader.readexactly(size + 2))[:-2])
        await self.reader.readexactly(2)
        return found

    async def rest(self) -> bytes:
        """Everything until the gateway closes."""
        return await self.reader.read()

    def abort(self) -> None:
        self.writer.transport.abort()


class House:
    """What a test needs: add upstreams as nodes, connect clients, look at what was recorded."""

    def __init__(self, home: Path) -> None:
        self.registry = Registry()
        self.records: asyncio.Queue[RequestRecord] = asyncio.Queue()
        self.failures: list[tuple[str, str]] = []
        self._upstreams: list[Upstream] = []
        self._clients: list[Client] = []
        self._home = home
        self.gateway: Gateway
        self.port = 0

    async def start(self, **settings: object) -> None:
        config = RouterConfig.load({"home": self._home, "port": 0, **settings}, {})
        control = Upstream([control_app])
        await self._run(control)
        plane = DataPlane(
            self.registry,
            Scheduler(self.registry, least_requests),
            Pool(connect_timeout=config.connect_timeout),
            control=control.address,
            record=self.records.put_nowait,
            failed=lambda node, reason: self.failures.append((node.id, reason)),
        )
        self.gateway = Gateway(plane, config)
        self.port = await self.gateway.start()

    async def stop(self) -> None:
        for client in self._clients:
            client.abort()
        await self.gateway.drain(0.1)
        for upstream in self._upstreams:
            await upstream.stop()

    async def node(
        self, name: str, *scripts: Script, dialects: frozenset[str] = EVERY_DIALECT, models: Sequence[str] = ("m",)
    ) -> Upstream:
        upstream = Upstream(scripts)
        await self._run(upstream)
        self.registry.add(
            Node(name, name, "openai", upstream.address, dialects=dialects, state=State.ONLINE, models=models), 0.0
        )
        return upstream

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**20))
        self._clients.append(client)
        return client

    async def record(self) -> RequestRecord:
        return await asyncio.wait_for(self.records.get(), 5)

    async def _run(self, upstream: Upstream) -> None:
        await upstream.start()
        self._upstreams.append(upstream)


async def control_app(conversation: Conversation) -> None:
    """Answers every request with what it was sent."""
    while True:
        request = await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request), request))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes = WHOLE, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def answers(*pieces: bytes) -> Script:
    """Every request of the connection gets these bytes."""

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.request()
            for piece in pieces:
                await conversation.send(piece)

    return script


def breaks_after(*pieces: bytes) -> Script:
    """These bytes, and the connection is gone."""

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        for piece in pieces:
            await conversation.send(piece)

    return script


async def post(house: House, body: bytes = BODY, path: str = "/v1/chat/completions", **how: str) -> Client:
    client = await house.client()
    await client.post(path, body, **how)
    return client


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.start()
    yield house
    await house.stop()
