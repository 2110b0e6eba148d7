"""PostgreSQL, which replicas share: connections to it, and what they say when something is wrong.

Rule 1: nobody waits for a server that does not answer: each statement has its seconds, and then its connection is cut.
Rule 2: who asked is told NotNow of everything that may pass, and that is all but what is wrong with the values.
Rule 3: statements are plain functions of a connection, as for SQLite; SQLAlchemy's asyncio layer runs them on the loop,
        where they wait without holding it up.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import asyncpg
import msgspec
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from llm_router.core.usage import RequestRecord
from llm_router.errors import ConfigError
from llm_router.router.store import postgres_requests, schema, storable
from llm_router.router.store.migration import bring_up_to_date, revision
from llm_router.router.store.troubles import NotNow, Rejected
from llm_router.router.store.urls import dsn, postgres_url, shown

P = ParamSpec("P")
T = TypeVar("T")
Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# One for the ledger, one for a person who reads the history, one for all else; opened when they are needed. PostgreSQL
# has 100 unless told otherwise: with those that listen, enough for twenty replicas.
CONNECTIONS = 3
CONNECT_TIMEOUT = 5.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
COMMAND_TIMEOUT = 10.0  # seconds: the longest of ours, a search through part of the history, takes a tenth of one
# InternalClientError: what it says of a connection whose server has said that it ends, but has not cut it yet.
_OF_ASYNCPG = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_SETTINGS = {
    "application_name": "llm-router",
    # Milliseconds. A replica that is stopped in the middle of a transaction holds its rows no longer.
    "idle_in_transaction_session_timeout": "10000",
    # Each statement has an index that gives it what it wants in its order, block by block. PostgreSQL does not know
    # what blocks are about, and would rather read and sort the whole history: seconds instead of milliseconds.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_material": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",  # where one of them is needed all the same, it looks dear enough to be compiled
}

# Classes of errors that lie in the values themselves (PostgreSQL's manual, "Error Codes"): cardinality, data,
# integrity, a check of a view, a limit of the program. All others, from a lost connection to a missing table, may pass.
_IN_THE_VALUES = frozenset({"21", "22", "23", "44", "54"})


class PostgresDatabase:
    """A `Database` by its URL. `replica`: who answered the requests that are written here."""

    shared = True

    def __init__(self, url: str, replica: str) -> None:
        """Raises ConfigError: the URL cannot be used."""
        self.url = postgres_url(url)
        self._replica = replica
        self._engine = engine_of(self.url, COMMAND_TIMEOUT)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """As `Database.open`.

        Raises:
            ConfigError: as there.
        """
        try:
            encoding, found = await self.run(lambda c: (_encoding(c), revision(c)))
        except SQLAlchemyError as error:
            raise ConfigError(f"the database {shown(self.url)} cannot be opened: {error}") from error
        if encoding != "UTF8":
            raise ConfigError(f"the database {shown(self.url)} cannot hold every text: its encoding is {encoding}")
        if found != schema.HEAD:
            await bring_up_to_date(self.url)

    async def run(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Database.run`.

        Raises:
            NotNow: as there.
            Rejected: a value that cannot be written, or that must not be there twice.
        """
        return await self._apart(self._transact(lambda connection: work(connection, *args, **kwargs)))

    async def append(self, requests: Sequence[RequestRecord]) -> None:
        """As `Database.append`. What PostgreSQL cannot hold of a text is replaced.

        Raises:
            NotNow, Rejected: as there.
        """
        await self._apart(self._append(requests))

    async def close(self) -> None:
        """Finish what was handed over, then close the connections."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._engine.dispose()

    async def _apart(self, doing: Coroutine[Any, Any, T]) -> T:
        """In a task of its own, which goes on if the caller is cancelled: a half is neither read nor written."""
        task = asyncio.create_task(doing)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        async with self._connected() as (connection, _):
            result = await connection.run_sync(work)
            await connection.commit()
            return result

    async def _append(self, requests: Sequence[RequestRecord]) -> None:
        try:
            given = postgres_requests.encoded(requests)
            await self._send(given)
        except (Rejected, ValueError):
            await self._send(postgres_requests.cleaned(requests))

    async def _send(self, requests: str) -> None:
        """By asyncpg itself: one statement is a transaction, and SQLAlchemy would add nothing to it."""
        async with self._connected() as (_, driver):
            await driver.execute(postgres_requests.APPEND, self._replica, requests)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[AsyncConnection, Driver]]:
        """A connection, as SQLAlchemy has it and as asyncpg has; cut if the server does not answer on it."""
        with as_troubles():
            async with self._engine.connect() as connection:
                driver = await _driver(connection)
                try:
                    yield connection, driver
                except (TimeoutError, asyncpg.InternalClientError):
                    driver.terminate()
                    await connection.invalidate()
                    raise


async def _driver(connection: AsyncConnection) -> Driver:
    driver: Driver | None = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - it is one that was just taken out of the pool
    return driver


def _encoding(connection: Connection) -> str:
    return str(connection.execute(text("SHOW server_encoding")).scalar_one())


# -- connections


class _Patient(asyncpg.Connection):
    """Says goodbye, but does not wait for the server's for ever."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's signature
        with contextlib.suppress(TimeoutError):  # it is cut then
            await super().close(timeout=min(timeout or CLOSE_TIMEOUT, CLOSE_TIMEOUT))


def engine_of(url: str, command_timeout: float | None) -> AsyncEngine:
    """Connections to the database, opened as they are needed; `command_timeout` in seconds for each statement."""
    connect = partial(
        asyncpg.connect,
        dsn(url),  # whole, so that all that PostgreSQL's own libraries read in it is understood (sslmode=…)
        timeout=CONNECT_TIMEOUT,
        command_timeout=command_timeout,
        server_settings=_SETTINGS,
        connection_class=_Patient,
    )
    engine = create_async_engine(
        url,
        async_creator=connect,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=COMMAND_TIMEOUT,
        hide_parameters=True,  # in its errors: they hold secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
    )
    event.listen(engine.sync_engine, "checkout", _is_open)
    event.listen(engine.sync_engine, "before_cursor_execute", _storable, retval=True)
    return engine


def _is_open(_connection: object, record: Any, _proxy: object) -> None:  # noqa: ANN401 - SQLAlchemy's, for the pool
    """A server that ended or was started again has said so, so that nobody need ask it before each statement."""
    if record.driver_connection.is_closed():
        raise DisconnectionError


def _storable(
    _connection: Connection,
    _cursor: object,
    statement: str,
    given: Sequence[Any],
    _context: object,
    _many: bool,  # noqa: FBT001 - as SQLAlchemy calls it
) -> tuple[str, Sequence[Any]]:
    """Parameters of which none is too strange for PostgreSQL, of one row or of many."""
    return statement, storable.parameter(given)


# -- troubles


@contextmanager
def as_troubles() -> Iterator[None]:
    """What goes wrong in the block, said as NotNow or Rejected."""
    try:
        yield
    except (StatementError, NoConnectionFree, OSError, *_OF_ASYNCPG) as error:
        raise _trouble(error) from error


def _trouble(error: Exception) -> NotNow | Rejected:
    cause = _cause(error)
    if isinstance(cause, asyncpg.PostgresError):
        if (cause.sqlstate or "")[:2] in _IN_THE_VALUES:
            # The server's words alone: asyncpg's own, which are no `message`, quote the value.
            return Rejected(cause.message or _DOES_NOT_FIT)
        return NotNow(cause.message or str(cause))
    if isinstance(cause, (OSError, NoConnectionFree, *_OF_ASYNCPG)):
        return NotNow(_NO_ANSWER if isinstance(cause, TimeoutError | NoConnectionFree) else str(cause))
    return Rejected(_DOES_NOT_FIT)  # SQLAlchemy could not make a parameter of it


_DOES_NOT_FIT = "a value that does not fit"
_NO_ANSWER = "it does not answer"


def _cause(error: Exception) -> BaseException:
    """What asyncpg said, where SQLAlchemy has wrapped it: twice."""
    wrapped = error.orig if isinstance(error, StatementError) and error.orig else error
    inner = wrapped.__cause__
    return inner if isinstance(inner, _OF_ASYNCPG) else wrapped
