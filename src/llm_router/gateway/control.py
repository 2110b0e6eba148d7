"""Runs the control app beside the gateway, where only the gateway can reach it.

It listens on a Unix socket in a directory of its own; where there are none (Windows), on a loopback port that answers
only to a secret header. The gateway tells the client's address in the header CLIENT, which it strips from what clients
send.
"""

import asyncio
import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from llm_router.contract import Address
from llm_router.errors import RouterError

CLIENT = b"x-llm-router-client"
SECRET = b"x-llm-router-control"
WHO = b"x-llm-router-who"  # `guard.Grant.line`, which is stripped from what clients send, as the others are

log = structlog.get_logger()


class ControlServer:
    """An ASGI app on a private address, in this event loop."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - ASGI's own types differ from one framework to the next
        self._secret = secrets.token_hex(16).encode()
        self._directory = Path(
            tempfile.mkdtemp(prefix="llm-router-")
        )  # mode 0700; short, since socket paths are limited to ~100
        unix = sys.platform != "win32"
        where: dict[str, Any] = (
            {"uds": str(self._directory / "control.sock")} if unix else {"host": "127.0.0.1", "port": 0}
        )
        wrapped = _Front(app, b"" if unix else self._secret)
        # No access log: what clients ask of the control app is not what an operator looks for in a log.
        config = uvicorn.Config(
            wrapped, **where, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def headers(self) -> bytes:
        """Header lines that the gateway adds to every request to the app."""
        return b"%b: %b\r\n" % (SECRET, self._secret)

    async def start(self) -> Address:
        """Listen; the address to proxy to.

        Raises:
            OSError: the socket cannot be made.
        """
        self._task = asyncio.create_task(self._server.serve())
        await asyncio.wait(
            {self._task, asyncio.create_task(self._server.listening.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if self._task.done():
            raise OSError("the control app could not be started")
        if self._server.config.uds:
            return Address(self._server.config.uds, 0)
        return Address("127.0.0.1", self._server.servers[0].sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end what is open (event streams never end by themselves)."""
        self._server.should_exit = self._server.force_exit = True
        if self._task is not None:
            await self._task
        shutil.rmtree(self._directory, ignore_errors=True)


class _Server(uvicorn.Server):
    """uvicorn's server, without its hold on the process's signals, and saying when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process's composition root handles signals."""
        yield


class _Front:
    """Gives the app the client's real address, and keeps others out where the socket alone does not.

    An answer that has begun and cannot go on ends in the middle: its length, or its framing, tells the client.
    """

    def __init__(self, app: Any, secret: bytes) -> None:  # noqa: ANN401 - as above
        self._app = app
        self._secret = secret
        logging.getLogger("uvicorn.error").addFilter(_is_not_of_a_cut)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - as above
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if self._secret and not secrets.compare_digest(headers.get(SECRET, b""), self._secret):
                await send({"type": "http.response.start", "status": 403, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            scope["client"] = (headers.get(CLIENT, b"").decode("ascii", "replace"), 0)
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if not (reason := _why_cut(error)):
                raise
            log.info("control.cut", path=scope["path"], reason=reason)


def _why_cut(error: Exception) -> str:
    """Why an answer could not go on, if that is an error of ours; Litestar raises it as the cause of one of its own."""
    cause = error.__cause__
    ours, others = cause.split(RouterError) if isinstance(cause, ExceptionGroup) else (None, cause)
    return "" if ours is None or others is not None else "; ".join(map(str, ours.exceptions))


def _is_not_of_a_cut(record: logging.LogRecord) -> bool:
    """The server closes the connection of what was cut, as it should, and complains."""
    return "without completing response" not in record.getMessage()
