"""A control app of ours, running as it does beside a gateway, and a client of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from litestar.handlers import HTTPRouteHandler

from llm_router.gateway.control import ControlServer
from llm_router.gateway.control_app import control_app


class Answer(msgspec.Struct):
    """A whole response."""

    status: int
    body: bytes
    kind: str

    def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        return msgspec.json.decode(self.body)

    def records(self) -> list[Any]:
        """The records of NDJSON."""
        return [msgspec.json.decode(line) for line in self.body.splitlines()]


class Client:
    """Asks the app."""

    def __init__(self, session: aiohttp.ClientSession, base: str, secret: dict[str, str]) -> None:
        self._session = session
        self._base = base
        self._secret = secret

    async def call(
        self, method: str, path: str, body: object = None, *, client: str = "10.0.0.1", **query: str
    ) -> Answer:
        """Bytes and what comes in pieces are sent as they are, anything else as JSON."""
        async with self.talk(method, path, body, client=client, **query) as response:
            return Answer(response.status, await response.read(), response.headers.get("content-type", ""))

    def talk(
        self, method: str, path: str, body: object = None, *, client: str = "10.0.0.1", **query: str
    ) -> aiohttp.client._RequestContextManager:
        """The response, to be read by the caller. `client`: who asks, as the gateway says it."""
        as_it_is = body is None or isinstance(body, (bytes, AsyncGenerator))
        data: Any = body if as_it_is else msgspec.json.encode(body)
        headers = self._secret | {"x-llm-router-client": client}
        return self._session.request(method, self._base + path, data=data, params=query, headers=headers)


@asynccontextmanager
async def running(routes: Sequence[HTTPRouteHandler]) -> AsyncIterator[Client]:
    """An app of these routes; a client of it."""
    control = ControlServer(control_app(routes))
    address = await control.start()
    lines = (line.partition(": ")[::2] for line in control.headers.decode().split("\r\n") if line)
    connector = aiohttp.TCPConnector() if address.port else aiohttp.UnixConnector(address.host)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            base = address.url if address.port else "http://control"
            yield Client(session, base, dict(lines))
    finally:
        await control.stop()
