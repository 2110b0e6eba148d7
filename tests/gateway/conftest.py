"""A gateway on loopback, upstreams that follow a script, and a client that sees every byte."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm_router.config import RouterConfig
from llm_router.contract import Address
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.health import State
from llm_router.core.node import EVERY_DIALECT, Lease, Node
from llm_router.core.policies import LeastRequests
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.gateway import server
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
        while data := await self.chunk():
            found.append(data)
        return found

    async def chunk(self) -> bytes:
        """One chunk's data; the last one's is empty."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

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
        self.unreachable: list[str] = []
        self.restored: list[str] = []
        self.trials: list[str] = []
        self.sign_every = 0.0
        self._upstreams: list[Upstream] = []
        self._clients: list[Client] = []
        self._home = home
        self.gateway: Gateway
        self.plane: DataPlane
        self.port = 0

    async def start(self, **settings: object) -> None:
        config = RouterConfig.load({"home": self._home, "host": "127.0.0.1", "port": 0, **settings}, {})
        control = Upstream([control_app])
        await self._run(control)
        plane = DataPlane(
            self.registry,
            Scheduler(
                self.registry,
                LeastRequests(),
                Estimates(),
                queue_size=config.queue_size,
                queue_timeout=config.queue_timeout,
            ),
            Pool(connect_timeout=config.connect_timeout),
            control=control.address,
            record=self.records.put_nowait,
            failed=self._failed,
            restored=lambda lease: self.restored.append(lease.node.id),
            sign_every=self.sign_every,
            answer_timeout=config.answer_timeout,
            token_timeout=config.token_timeout,
        )
        self.plane = plane
        self.gateway = Gateway(plane, config)
        self.port = await self.gateway.start()

    def _failed(self, lease: Lease, reason: str, unreachable: bool) -> None:  # noqa: FBT001 - DataPlane's call
        self.failures.append((lease.node.id, reason))
        if unreachable:
            self.unreachable.append(lease.node.id)
        if lease.trial:
            self.trials.append(lease.node.id)

    async def stop(self) -> None:
        for client in self._clients:
            client.abort()
        await self.gateway.drain(0.1)
        for upstream in self._upstreams:
            await upstream.stop()

    async def node(
        self,
        name: str,
        *scripts: Script,
        dialects: frozenset[str] = EVERY_DIALECT,
        models: Sequence[str] = ("m",),
        slots: int = 0,
    ) -> Upstream:
        upstream = Upstream(scripts)
        await self._run(upstream)
        self.registry.add(
            Node(
                name,
                name,
                "openai",
                upstream.address,
                dialects=dialects,
                slots=slots,
                state=State.ONLINE,
                models=models,
            ),
            0.0,
        )
        return upstream

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**20))
        self._clients.append(client)
        return client

    async def record(self) -> RequestRecord:
        return await asyncio.wait_for(self.records.get(), 5)

    async def settled(self, requests: int = 1) -> list[RequestRecord]:
        """Every request is over and recorded once, and nothing is held for any of them (requirement B7)."""
        records = [await self.record() for _ in range(requests)]
        await until(lambda: not self.plane.under_way and not any(node.in_flight for node in self.registry))
        assert self.records.empty()
        assert self.plane.scheduler.waiting == 0
        return records

    def occupy(self, model: str = "m") -> Lease:
        """Take a place that only `vacate` gives back, as a request would that takes its time."""
        lease = self.plane.scheduler.on_request(Ask(model, self.plane.now()), self.plane.now())
        assert isinstance(lease, Lease)
        return lease

    def vacate(self, lease: Lease) -> None:
        self.plane.deliver(self.plane.scheduler.on_done(lease, self.plane.now(), failed=False))

    def look(self, later: float = 0.0) -> None:
        """Look after every client, as the gateway would so many seconds from now."""
        for client in list(self.gateway.clients):
            client.sweep(self.plane.now() + later)

    async def waiting(self, requests: int) -> None:
        """Until so many wait in the queue."""
        await until(lambda: self.plane.scheduler.waiting == requests)

    async def _run(self, upstream: Upstream) -> None:
        await upstream.start()
        self._upstreams.append(upstream)


class Held:
    """A script that reads requests, and answers when it is let go. `first` is sent at once; `closes`: it ends there."""

    def __init__(self, *pieces: bytes, first: bytes = b"", closes: bool = False) -> None:
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._first = first
        self._pieces = pieces
        self._closes = closes

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            self.requests.append(await conversation.request())
            if self._first:
                await conversation.send(self._first)
            self.asked.set()
            await self.go.wait()
            for piece in self._pieces:
                await conversation.send(piece)
            if self._closes:
                return


async def until(so: Callable[[], bool]) -> None:
    """Until it is so, where nothing tells."""
    async with asyncio.timeout(5):
        while not so():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.002)  # noqa: TID251 - as above


async def control_app(conversation: Conversation) -> None:
    """Answers every request with what it was sent."""
    while True:
        request = await conversation.request()
        body = b"" if request.startswith(b"HEAD ") else request
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request), body))


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


@asynccontextmanager
async def opened(home: Path, *, sign_every: float = 0.0, **settings: object) -> AsyncIterator[House]:
    house = House(home)
    house.sign_every = sign_every
    await house.start(**settings)
    try:
        yield house
    finally:
        await house.stop()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


@pytest.fixture
async def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A gateway that looks after its clients only when it is told to, and bears ten minutes without an answer."""
    monkeypatch.setattr(server, "SWEEP_EVERY", 3600)
    async with opened(tmp_path, answer_timeout=600) as house:
        yield house


@pytest.fixture
async def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A gateway that gives signs of life as often as it looks, which is often."""
    monkeypatch.setattr(server, "SWEEP_EVERY", 0.01)
    async with opened(tmp_path, sign_every=0.02) as house:
        yield house
