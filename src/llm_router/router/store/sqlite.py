"""A file of SQLite's: the connection to it, the one thread that waits for it, and the process that writes requests.

Rule 1: no statement runs on the event loop; callers hand a function to `run`.
Rule 2: one thread and one connection, so work is done in the order in which it was handed over.
Rule 3: what comes with every request goes to a process of its own by `append`: a thread that is always busy makes the
loop fight for the interpreter (measured at 13,000 requests per second: half of the thread's 15 µs per request).

This is what aiosqlite does too; SQLAlchemy's own asyncio layer would add its ORM's 6 MB to the router's memory. Alembic
(14 MB) is loaded by a child process, and only when the schema is not the newest.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from llm_router.core.usage import RequestRecord
from llm_router.errors import ConfigError
from llm_router.router.store import queries, schema
from llm_router.router.store.migration import bring_up_to_date, revision
from llm_router.router.store.troubles import NotNow
from llm_router.router.store.urls import shown
from llm_router.router.store.writer_process import WriterProcess

P = ParamSpec("P")
T = TypeVar("T")

# WAL: readers and the writer do not wait for each other. NORMAL: a power cut may lose the last second, never the file
# (SQLite, "PRAGMA synchronous"). busy_timeout in ms: somebody looking into the file with another program is waited for.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")
_PATIENCE = 5.0  # seconds: the same for the process that writes


class SqliteDatabase:
    """A `Database` by its path or its SQLAlchemy URL."""

    shared = False

    def __init__(self, place: Path | str, patience: float = _PATIENCE) -> None:
        """`patience` in seconds: how long `append` waits for others who write into the database."""
        self._file = place if isinstance(place, Path) else None
        self.url = place if isinstance(place, str) else URL.create("sqlite", database=str(place)).render_as_string()
        self._engine = _engine(self.url)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._writer = WriterProcess(Path(make_url(self.url).database or ""), patience)

    async def open(self) -> None:
        """Create what is missing and bring the schema up to date.

        Raises:
            ConfigError: the database cannot be opened or upgraded; the message says why.
        """
        try:
            if self._file is not None:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if await self.run(revision) != schema.HEAD:
                await bring_up_to_date(self.url)
        except (OSError, SQLAlchemyError) as error:
            raise ConfigError(f"the database {shown(self.url)} cannot be opened: {error}") from error

    async def run(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(connection, *args)`, in one transaction on the database's thread.

        Raises:
            NotNow: nothing of it was done; it is worth another try.
            SQLAlchemyError: nothing of it was done.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._transact(work, *args, **kwargs)
        )

    async def append(self, requests: Sequence[RequestRecord]) -> None:
        """As `Database.append`.

        Raises:
            NotNow, Rejected, OverflowError, ValueError: as there.
        """
        await self._writer.write(queries.appending(requests))

    def _transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:  # locked, disk full, read-only, gone
            raise NotNow(str(error.orig)) from error

    async def close(self) -> None:
        """Finish what was handed over, then close the connections."""
        await self._writer.stop()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


def _engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,  # in its errors: they hold secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver's connection is
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
