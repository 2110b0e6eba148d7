"""Real parts, small: a server to look at, a database in a directory of the test's own, a whole router."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from tests.router.fake_node import FakeNode, fake_node

from llm_router.config import RouterConfig
from llm_router.router.app import serving
from llm_router.router.store import migrate
from llm_router.router.store.database import Database
from llm_router.router.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from tests.postgres import Cluster


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, made once: each test gets a copy."""
    place = tmp_path_factory.mktemp("database") / "router.db"
    migrate.upgrade(f"sqlite:///{place}")
    return place


@pytest.fixture(scope="session")
def postgres_template(cluster: "Cluster") -> str:
    """The name of a PostgreSQL database with its tables, made once: each test gets a copy."""
    url = cluster.create()
    migrate.upgrade(url)
    return url.rpartition("/")[2]


@pytest.fixture
def postgres_place(cluster: "Cluster", postgres_template: str) -> Iterator[str]:
    url = cluster.create(postgres_template)
    yield url
    cluster.drop(url)


@pytest.fixture
def config(tmp_path: Path, empty_database: Path) -> RouterConfig:
    (tmp_path / "router").mkdir()
    shutil.copy(empty_database, tmp_path / "router")
    return RouterConfig(home=tmp_path, host="127.0.0.1", port=0, drain_timeout=1.0, probe_every=0.05, pull_timeout=30.0)


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with fake_node() as running:
        yield running


@pytest.fixture
async def database(tmp_path: Path, empty_database: Path) -> AsyncIterator[Database]:
    opened = SqliteDatabase(Path(shutil.copy(empty_database, tmp_path)))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def api(config: RouterConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """A running router, as a client of it."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield client
