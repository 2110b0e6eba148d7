"""The connection by which replicas hear of each other: LISTEN and NOTIFY, and the lock of the one on duty.

Rule 1: `send` never waits and never fails. While there is no connection nothing is kept for later: whoever comes back
        says hello, reads the tables, and is told the rest.
Rule 2: duty is an advisory lock of this connection, so it ends with it, whatever happens to the process.
Rule 3: without a database every replica is on its own, and does what it can: nobody else is known to do it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeAlias

import asyncpg
import structlog

from llm_router.router.replicas import messages
from llm_router.router.replicas.messages import Letter, Message
from llm_router.router.store.schema import CHANNEL
from llm_router.router.store.urls import dsn

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Heard = Callable[[str, Message], None]  # told of a sender and what it said; must not fail

log = structlog.get_logger()

PATIENCE = 5.0  # seconds for anything that the database is asked here: what takes longer is taken for gone
REST = 0.25  # seconds until the next try after a connection was lost, doubled each time
LONGEST_REST = 2.0  # seconds: a database that was restarted is to be found soon
DUTY_EVERY = 2.0  # seconds between two tries to get the lock, which is free only when its holder is gone
QUIET = 10.0  # seconds after which a connection on which nothing was sent is tried: a network can go without a word
# Seconds between two letters, so that the heartbeats of a large fleet travel together: 200 of them a second take 2 % of
# a core of each who hears them, and 5 % in a letter each. Beside the quarter of a second of the counts it is little.
TOGETHER = 0.02
DUTY = 0x6C6C6D2D  # the lock's number, of our own choice: "llm-" in ASCII

# InternalClientError: what asyncpg says of a connection whose server has said that it ends, but has not cut it yet.
_TROUBLE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class Bus:
    """`start` before use, `stop` after."""

    def __init__(self, url: str, replica: str) -> None:
        """`url`: of the database, as SQLAlchemy writes it. `replica`: the name of this one."""
        self.replica = replica
        self.trouble = ""  # why nothing is heard; empty while something would be
        self._url = dsn(url)
        self._heard: Heard = _heard_by_nobody
        self._connected: Callable[[], None] = _nobody_waits
        self._outbox: list[Message] = []
        self._unread: list[int] = []  # bulletins that were told of
        self._news = asyncio.Event()  # there is something to send, to read, or to see to
        self._on_duty = False
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def on_duty(self) -> bool:
        """Whether what only one replica should do is for this one to do."""
        return self._on_duty or bool(self.trouble)

    def send(self, message: Message) -> None:
        """Tell all others, soon."""
        if not self.trouble:
            self._outbox.append(message)
            self._news.set()

    async def start(self, heard: Heard, connected: Callable[[], None]) -> None:
        """Connect, and stay so; `connected` is called now, and each time that a connection was lost and is back.

        Raises:
            OSError, TimeoutError, PostgresError, InterfaceError: the database cannot be reached.
        """
        self._heard, self._connected = heard, connected
        connection = await self._connect()
        self._connected()
        self._task = asyncio.create_task(self._stay(connection))

    async def stop(self) -> None:
        """Send what waits, and leave."""
        self._stopping.set()
        self._news.set()
        if self._task is not None:
            await self._task

    # -- the connection

    async def _stay(self, connection: Connection) -> None:
        while True:
            try:
                await self._serve(connection)
            except _TROUBLE as error:
                self._lost(error)
            except Exception as error:
                log.exception("replicas.failed")  # a fault of ours: it ends a connection, not what we hear
                self._lost(error)
            connection.terminate()
            found = await self._find_again()
            if found is None:
                return
            connection = found
            log.info("replicas.connected", replica=self.replica)
            self.trouble = ""
            self._connected()

    async def _connect(self) -> Connection:
        connection = await asyncpg.connect(self._url, timeout=PATIENCE, command_timeout=PATIENCE)
        try:
            await connection.add_listener(CHANNEL, self._receive)
        except _TROUBLE:
            connection.terminate()
            raise
        connection.add_termination_listener(self._ended)
        return connection

    async def _find_again(self) -> "Connection | None":
        """A new connection, however long that takes; None: we stop."""
        rest = REST
        while not self._stopping.is_set():
            with contextlib.suppress(*_TROUBLE):
                return await self._connect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stopping.wait()
            rest = min(2 * rest, LONGEST_REST)
        return None

    async def _serve(self, connection: Connection) -> None:
        """Send, read and look after the lock, until we stop. Raises what the connection does when it is lost."""
        tried = 0.0
        while not connection.is_closed():
            last = self._stopping.is_set()
            if not self._on_duty and time.monotonic() - tried >= DUTY_EVERY:
                tried = time.monotonic()
                await self._take_duty(connection)
            await self._send_all(connection)
            await self._read_all(connection)
            if last:
                await connection.close()
                return
            await asyncio.sleep(TOGETHER)  # noqa: TID251 - the pause between two letters
            if not await self._is_wanted(QUIET if self._on_duty else DUTY_EVERY):
                await connection.execute("SELECT 1")
        raise ConnectionResetError("the server has ended the connection")

    async def _is_wanted(self, seconds: float) -> bool:
        """Whether there is something to do before so many seconds are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        return self._news.is_set()

    async def _take_duty(self, connection: Connection) -> None:
        self._on_duty = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", DUTY))
        if self._on_duty:
            log.info("replicas.on_duty", replica=self.replica)

    async def _send_all(self, connection: Connection) -> None:
        self._news.clear()
        outbox, self._outbox = self._outbox, []
        letters = []
        for text, is_long in messages.packed(self.replica, outbox):
            letters.append(await self._put_up(connection, text) if is_long else text)
        if letters:
            await connection.execute("SELECT pg_notify($1, letter) FROM unnest($2::text[]) AS letter", CHANNEL, letters)

    async def _put_up(self, connection: Connection, text: str) -> str:
        """Put a letter that is too long where others find it; the letter that says where."""
        added = "INSERT INTO bulletins (body, at) VALUES ($1, $2) RETURNING seq"
        return messages.pointer(self.replica, await connection.fetchval(added, text, time.time()))

    async def _read_all(self, connection: Connection) -> None:
        unread, self._unread = self._unread, []
        for seq in unread:
            body = await connection.fetchval("SELECT body FROM bulletins WHERE seq = $1", seq)
            letter = messages.opened(body or "")
            if letter is not None:
                self._deliver(letter)

    def _lost(self, error: Exception) -> None:
        self.trouble = str(error) or type(error).__name__
        log.warning("replicas.alone", reason=self.trouble, replica=self.replica)
        self._on_duty = False
        self._outbox.clear()
        self._unread.clear()

    def _ended(self, _connection: object) -> None:
        self._news.set()  # whoever waits for something to do finds out

    # -- what comes

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        letter = messages.opened(str(payload))
        if letter is None or letter.sender == self.replica:
            return
        if letter.bulletin:
            self._unread.append(letter.bulletin)
            self._news.set()
        else:
            self._deliver(letter)

    def _deliver(self, letter: Letter) -> None:
        for message in messages.messages_of(letter):
            self._heard(letter.sender, message)


def _heard_by_nobody(sender: str, message: Message) -> None:
    """Before the start."""


def _nobody_waits() -> None:
    """As above."""
