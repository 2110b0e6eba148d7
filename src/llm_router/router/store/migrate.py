"""Brings a database to the newest schema: `python -m llm_router.router.store.migrate`, its URL on standard input.

A process of its own, so that a router that runs for weeks does not carry Alembic.
"""

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from llm_router.router.store.urls import POSTGRES

MIGRATIONS = Path(__file__).parent / "migrations"
# Of replicas that start at once, one migrates and the others wait for it. Any number that nobody else takes.
_LOCK = int.from_bytes(b"llm-migr")


def config() -> Config:
    """Alembic's settings: where the migrations are; there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))  # it interpolates `%`
    return settings


def upgrade(url: str, to: str = "head") -> None:
    """Apply what is missing up to a revision, each migration in its own transaction."""
    if make_url(url).drivername == POSTGRES:
        asyncio.run(_upgrade_postgres(url, to))
        return
    engine = create_engine(url)
    with engine.connect() as connection:
        _apply(connection, to)
    engine.dispose()


async def _upgrade_postgres(url: str, to: str) -> None:
    from llm_router.router.store import postgres  # noqa: PLC0415 - half of the start, for who has a file of SQLite's

    engine = postgres.engine_of(url, command_timeout=None)  # a big table may be rewritten
    with postgres.as_troubles():
        async with engine.connect() as connection:
            await connection.run_sync(_lock)
            await connection.run_sync(_apply, to)
    await engine.dispose()


def _lock(connection: Connection) -> None:
    """Until the connection is closed."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()  # Alembic wants to begin its transactions itself


def _apply(connection: Connection, to: str) -> None:
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, to)


def main() -> int:
    """Exit status 1, with the reason as the last line on standard error, when it cannot be done."""
    try:
        upgrade(sys.stdin.read())
    except (CommandError, SQLAlchemyError) as error:
        sys.stderr.write(str(error).splitlines()[0] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
