"""The same promises on both databases."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.sqlite import SqliteDatabase


@pytest.fixture
def sqlite_place(empty_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path))


@pytest.fixture(params=["sqlite", "postgresql"])
def closed(request: pytest.FixtureRequest) -> Database:
    if request.param == "sqlite":
        return SqliteDatabase(request.getfixturevalue("sqlite_place"))
    return PostgresDatabase(request.getfixturevalue("postgres_place"), "r1")


@pytest.fixture
async def database(closed: Database) -> AsyncIterator[Database]:
    """Either."""
    await closed.open()
    yield closed
    await closed.close()


@pytest.fixture
async def sqlite(sqlite_place: Path) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(sqlite_place)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def postgres(postgres_place: str) -> AsyncIterator[PostgresDatabase]:
    opened = PostgresDatabase(postgres_place, "r1")
    await opened.open()
    yield opened
    await opened.close()
