"""Which database the settings ask for, and that its tables are those that the code knows, whichever it is."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError
from llm_router.router.store import migrate, schema
from llm_router.router.store.database import Database, database_of
from llm_router.router.store.migration import revision
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.sqlite import SqliteDatabase
from llm_router.router.store.urls import dsn, shown


async def test_a_new_database_gets_the_tables_that_the_code_knows(database: Database) -> None:
    """The migrations, applied one after another, lead to exactly the tables of `schema`."""

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), schema.metadata))

    assert await database.run(revision) == schema.HEAD
    assert await database.run(differences) == []


def test_head_is_the_newest_migration() -> None:
    """Otherwise a start would migrate every time, or never."""
    assert ScriptDirectory.from_config(migrate.config()).get_heads() == [schema.HEAD]


async def test_a_router_by_itself_has_a_file(tmp_path: Path) -> None:
    """Nothing to set up, and nobody to share it with."""
    database = database_of(RouterConfig(home=tmp_path), "r1")
    assert isinstance(database, SqliteDatabase)
    assert not database.shared
    await database.open()
    await database.close()
    assert (tmp_path / "router" / "router.db").exists()


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_replicas_share_a_postgresql(tmp_path: Path, scheme: str) -> None:
    """By any of the names that people know it by."""
    url = f"{scheme}://user:p%40ss@db.lan:5433/router?sslmode=prefer"
    database = database_of(RouterConfig(home=tmp_path, database_url=url), "r1")
    assert isinstance(database, PostgresDatabase)
    assert database.shared
    assert database.url == "postgresql+asyncpg://user:p%40ss@db.lan:5433/router?sslmode=prefer"
    assert dsn(database.url) == "postgresql://user:p%40ss@db.lan:5433/router?sslmode=prefer"
    assert shown(database.url) == "postgresql+asyncpg://user:***@db.lan:5433/router?sslmode=prefer"


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite:///router.db", "secret", "postgres://u:secret@h:x/d"])
def test_a_url_that_cannot_be_used_is_answered_with_one_that_can(tmp_path: Path, url: str) -> None:
    """And never with the password in it."""
    with pytest.raises(ConfigError, match=r"postgresql\+asyncpg://USER:PASSWORD@HOST/DATABASE") as raised:
        database_of(RouterConfig(home=tmp_path, database_url=url), "r1")
    assert "secret" not in str(raised.value)
