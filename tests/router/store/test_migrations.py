"""A database of an earlier release is brought up to date with everything that is in it (requirement F4)."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine, text
from tests.router.recording import record

from llm_router.contract import NodeSettings
from llm_router.core.usage import RequestRecord
from llm_router.router.models.statements import load_models
from llm_router.router.store import migrate, queries, schema
from llm_router.router.store.migration import revision
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import KeptRequest, RequestFilter, Window
from llm_router.router.store.sqlite import SqliteDatabase

ROWS = """
INSERT INTO requests (id, at, client, operation, model, node_id, node, status, outcome, streamed, attempts, first_byte,
    seconds, prompt_tokens, completion_tokens, error)
VALUES ('r1', 1.5, 'c', 'openai.chat', 'm', 'n1', 'box', 200, 'done', 1, 1, 0.25, 1.5, 10, 20, ''),
       ('r2', 2.5, 'c', 'openai.chat', 'm', 'n1', 'box', 502, 'failed', 0, 2, 0, 3.0, 0, 0, 'it died')
"""


def database_of(place: Path, revision: str, *statements: str) -> Path:
    """A database as the release with that revision left it, after some statements."""
    migrate.upgrade(f"sqlite:///{place}", revision)
    engine = create_engine(f"sqlite:///{place}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
    return place


@pytest.fixture
def of_0001(tmp_path: Path) -> Path:
    """With two requests on record."""
    return database_of(tmp_path / "router.db", "0001", ROWS)


# Twice 1,500 requests that nobody waited for, with a node that was renamed on the way, and one of another model.
HISTORY = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000)
INSERT INTO requests (id, at, client, operation, model, node_id, node, status, outcome, streamed, attempts, first_byte,
    seconds, prompt_tokens, completion_tokens, error)
SELECT 'r' || n, n, 'c', 'openai.chat', CASE n WHEN 700 THEN 'rare' ELSE 'm' END, 'n1',
    CASE WHEN n <= 1500 THEN 'box' ELSE 'tower' END, 200, 'done', 0, 1, 0.25, 1.5, 10, 20, ''
FROM numbers
"""


@pytest.fixture
def of_0002(tmp_path: Path) -> Path:
    """With 3,000 requests on record."""
    return database_of(tmp_path / "router.db", "0002", HISTORY)


def as_new(kept: KeptRequest) -> RequestRecord:
    """As it comes, without the number that it was given."""
    return RequestRecord(**{name: getattr(kept, name) for name in RequestRecord.__struct_fields__})


async def test_0002_keeps_requests_that_never_waited(of_0001: Path) -> None:
    """They are as they were, and waited for 0 s; a new one keeps its own time in the queue."""
    database = SqliteDatabase(of_0001)
    await database.open()
    assert await database.run(revision) == schema.HEAD
    failed, done = await database.run(queries.latest_requests, 10)
    assert (done.id, done.at, done.seconds, done.completion_tokens, done.waited) == ("r1", 1.5, 1.5, 20, 0.0)
    assert (failed.id, failed.outcome, failed.error, failed.waited) == ("r2", "failed", "it died", 0.0)
    waited = msgspec.structs.replace(done, id="r3", waited=2.5, seq=3)
    await database.append([as_new(waited)])
    assert await database.run(queries.latest_requests, 1) == [waited]
    await database.close()


NODE = """
INSERT INTO nodes (id, name, kind, url, runtimes, slots, os, local, state, models, last_seen, secret_hash,
    secret_proven)
VALUES ('n1', 'box', 'agent', 'http://10.0.0.7:11435', '[]', 4, 'Linux', 0, 'online', '["m"]', 1.5, 'hash', 1)
"""


async def test_0004_knows_of_no_settings_yet(tmp_path: Path) -> None:
    """A node is as it was; nothing was set of it, so that a copy of its own counts."""
    database = SqliteDatabase(database_of(tmp_path / "router.db", "0003", NODE))
    await database.open()
    (node,) = await database.run(queries.load_nodes)
    assert (node.name, node.models, node.secret_hash, node.secret_proven) == ("box", ["m"], "hash", True)
    assert (node.backend, node.settings) == ("cpu", NodeSettings())
    await database.close()


async def test_0007_lets_everybody_in_as_before(tmp_path: Path) -> None:
    """A node is as it was: until it registers again, nothing is shown to it."""
    database = SqliteDatabase(database_of(tmp_path / "router.db", "0004", NODE))
    await database.open()
    (node,) = await database.run(queries.load_nodes)
    assert (node.name, node.secret_hash, node.access) == ("box", "hash", "")
    await database.close()


async def test_0008_begins_with_an_empty_catalogue(tmp_path: Path) -> None:
    """What nodes have, they have; nothing is registered (requirement H6)."""
    database = SqliteDatabase(database_of(tmp_path / "router.db", "0007"))
    await database.open()
    assert await database.run(load_models) == []
    await database.close()


async def test_0003_finds_what_was_on_record(of_0002: Path) -> None:
    """By model, by the node's id and by each of its names; what comes later continues the same history."""
    database = SqliteDatabase(of_0002)
    await database.open()

    async def found(model: str = "", node: str = "") -> list[str]:
        return [r.id for r in await database.run(queries.latest_requests, 2, RequestFilter(model=model, node=node))]

    assert await database.run(revision) == schema.HEAD
    assert await found() == await found(model="m") == await found(node="n1") == await found("m", "tower")
    assert await found(node="tower") == ["r3000", "r2999"]
    assert await found(node="box") == ["r1500", "r1499"]
    assert await found(model="rare") == await found("rare", "box") == ["r700"]
    (rare,) = await database.run(queries.latest_requests, 1, RequestFilter(model="rare"))
    await database.append([as_new(msgspec.structs.replace(rare, id="r3001"))])
    assert await found(model="rare") == await found("rare", "n1") == ["r3001", "r700"]
    await database.close()


async def test_0009_knows_of_one_router(tmp_path: Path) -> None:
    """Nodes and requests are as they were; nobody has said when a node registered."""
    database = SqliteDatabase(database_of(tmp_path / "router.db", "0008", NODE, ROWS))
    await database.open()
    (node,) = await database.run(queries.load_nodes)
    assert (node.name, node.version, node.models_version, node.registered) == ("box", "", 0, 0.0)
    assert [r.id for r in await database.run(queries.newer_requests, 0, "another", 10)] == ["r1", "r2"]
    await database.close()


async def test_replicas_that_start_at_once_migrate_once(postgres_url: str) -> None:
    """The others wait, and find everything done (issue 9)."""
    replicas = [PostgresDatabase(postgres_url, f"r{number}") for number in range(2)]
    await asyncio.gather(*(replica.open() for replica in replicas))
    for replica in replicas:
        assert await replica.run(revision) == schema.HEAD
        await replica.close()


async def test_numbers_of_requests_have_64_bits(postgres: PostgresDatabase) -> None:
    """At a thousand requests per second, 32 bits last 25 days; what is beyond them is found as before."""
    await postgres.run(lambda c: c.execute(text("SELECT setval('requests_seq_seq', 1099511627776)")))
    await postgres.append([record(model="late", prompt_tokens=2**40)])
    (late,) = await postgres.run(queries.latest_requests, 1, RequestFilter(model="late"), Window(0, 2**41))
    assert (late.seq, late.prompt_tokens) == (2**40 + 1, 2**40)
