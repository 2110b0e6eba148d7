"""A way to PostgreSQL, for the moment in which a server has said that it ends, and has not cut its connections yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

# ErrorResponse (PostgreSQL's manual, "Message Formats"): severity, code, message, each ended by a zero byte.
_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
ENDS = b"E" + (4 + len(_FIELDS)).to_bytes(4) + _FIELDS


class EndingServer:
    """Passes everything on, both ways. `url` is that of the database behind it."""

    def __init__(self, url: str) -> None:
        self._behind = make_url(url)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = self._behind.set(port=port).render_as_string(hide_password=False)
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._behind.host, self._behind.port)
        self._writers.append(writer)
        self._tasks += [
            asyncio.create_task(_pass_on(reader, there[1])),
            asyncio.create_task(_pass_on(there[0], writer)),
        ]

    def says_that_it_ends(self) -> None:
        """On every connection that there is; those that come are served."""
        for writer in self._writers:
            writer.write(ENDS)
        self._writers.clear()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


@asynccontextmanager
async def ending_server(url: str) -> AsyncIterator[EndingServer]:
    """One in front of the database with this URL."""
    running = EndingServer(url)
    server = await running.start()
    try:
        yield running
    finally:
        server.close()
        await running.stop()
