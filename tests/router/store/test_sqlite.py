"""SQLite: the file, the thread that waits for it, and what is said when it cannot be used."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from llm_router.errors import ConfigError
from llm_router.router.store.sqlite import SqliteDatabase
from llm_router.router.store.troubles import NotNow


async def test_an_up_to_date_database_opens_without_alembic(sqlite: SqliteDatabase) -> None:
    """A running router does not carry what only a migration needs, nor an ORM (budget: 80 MB)."""
    code = (
        "import sys, llm_router.router.app; "
        "unwanted = ('alembic', 'asyncpg', 'sqlalchemy.orm', 'sqlalchemy.ext.asyncio'); "
        "print([module for module in sys.modules if module.startswith(unwanted)])"
    )
    shown = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", code], text=True)
    assert shown.strip() == "[]"
    opened = SqliteDatabase(sqlite.url)
    await opened.open()
    await opened.close()


async def test_work_is_done_off_the_loop_in_one_transaction(sqlite: SqliteDatabase) -> None:
    """What fails leaves nothing behind, and the loop's thread has never waited."""

    def insert_and_fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO events (at, event, node_id, name, detail) VALUES (1, 'e', 'n', 'n', '')"))
        assert threading.current_thread() is not threading.main_thread()
        raise LookupError

    with pytest.raises(LookupError):
        await sqlite.run(insert_and_fail)

    def count(connection: Connection) -> int:
        return int(connection.execute(text("SELECT count(*) FROM events")).scalar_one())

    assert await sqlite.run(count) == 0


async def test_what_may_pass_is_said_to_be_worth_another_try(sqlite: SqliteDatabase) -> None:
    """Requirement F4: here, a table that somebody is changing; nothing is said of what was to be written."""
    with pytest.raises(NotNow, match=r"^no such table: nowhere$"):
        await sqlite.run(lambda connection: connection.execute(text("SELECT * FROM nowhere")))


async def test_readers_do_not_disturb(sqlite: SqliteDatabase) -> None:
    """The file is in WAL mode: an operator may look into it while the router writes."""

    def mode(connection: Connection) -> str:
        return str(connection.execute(text("PRAGMA journal_mode")).scalar_one())

    assert await sqlite.run(mode) == "wal"


async def test_the_directory_is_the_owners_alone(tmp_path: Path) -> None:
    """It holds who asked for what."""
    place = tmp_path / "deep" / "a b%?#" / "router.db"
    database = SqliteDatabase(place)
    await database.open()
    await database.close()
    assert place.exists()
    assert sys.platform == "win32" or place.parent.stat().st_mode & 0o777 == 0o700


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    """After a downgrade the router says what is wrong, and where."""
    place = tmp_path / "router.db"
    with sqlite3.connect(place) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    database = SqliteDatabase(place)
    with pytest.raises(ConfigError, match=r"router\.db.*9999"):
        await database.open()
    await database.close()


async def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    """A setting points to some other file."""
    place = tmp_path / "router.db"
    place.write_bytes(b"these are my notes, not a database" * 100)
    database = SqliteDatabase(place)
    with pytest.raises(ConfigError, match=r"router\.db cannot be opened"):
        await database.open()
    await database.close()
