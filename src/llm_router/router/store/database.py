"""The connection to the database, the one thread that waits for it, and the process that writes requests.

Rule 1: no statement runs on the event loop; callers hand a function to `run`.
Rule 2: one thread and one connection, so work is done in the order in which it was handed over.
Rule 3: what comes with every request goes to a process of its own by `append`: a thread that is always busy makes the
loop fight for the interpreter (measured at 13,000 requests per second: half of the thread's 15 µs per request).

This is what aiosqlite does too; SQLAlchemy's own asyncio layer would add its ORM's 6 MB to the router's memory. Alembic
(14 MB) is loaded by a child process, and only when the schema is not the newest.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from llm_router.core.usage import RequestRecord
from llm_router.errors import ConfigError
from llm_router.router.store import queries, schema
from llm_router.router.store.writer_process import WriterProcess

P = ParamSpec("P")
T = TypeVar("T")

# WAL: readers and the writer do not wait for each other. NORMAL: a power cut may lose the last second, never the file
# (SQLite, "PRAGMA synchronous"). busy_timeout in ms: somebody looking into the file with another program is waited for.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")
_PATIENCE = 5.0  # seconds: the same for the process that writes


class Database:
    """A database by its path (SQLite) or its SQLAlchemy URL. `open` before use, `close` after."""

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
                await _migrate(self.url)
        except (OSError, SQLAlchemyError) as error:
            raise ConfigError(f"the database {_shown(self.url)} cannot be opened: {error}") from error

    async def run(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(connection, *args)`, in one transaction on the database's thread.

        Raises:
            SQLAlchemyError: nothing of it was done.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._transact(work, *args, **kwargs)
        )

    async def append(self, requests: Sequence[RequestRecord]) -> None:
        """Add `requests`, in their order and in one transaction. Not to be cancelled, nor called again meanwhile.

        Raises:
            NotNow: nothing of it was done, or nobody knows: it is worth another try.
            Rejected, OverflowError, ValueError: nothing of it was done, and never will be.
        """
        await self._writer.write(queries.appending(requests))

    def _transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._engine.begin() as connection:
            return work(connection, *args, **kwargs)

    async def close(self) -> None:
        """Finish what was handed over, then close the connections."""
        await self._writer.stop()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


def revision(connection: Connection) -> str | None:
    """The schema's revision as Alembic left it; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


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


async def _migrate(url: str) -> None:
    command = (sys.executable, "-m", "llm_router.router.store.migrate", url)
    child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, stderr = await child.communicate()
    if child.returncode:
        reason = (stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"the database {_shown(url)} cannot be brought up to date: {reason}")


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
