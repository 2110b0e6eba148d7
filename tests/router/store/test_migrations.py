"""A database of an earlier release is brought up to date with everything that is in it (requirement F4)."""

from pathlib import Path

import msgspec
import pytest
from alembic import command
from sqlalchemy import create_engine, text

from llm_router.router.store import migrate, queries, schema
from llm_router.router.store.database import Database, revision
from llm_router.router.store.queries import Batch

ROWS = """
INSERT INTO requests (id, at, client, operation, model, node_id, node, status, outcome, streamed, attempts, first_byte,
    seconds, prompt_tokens, completion_tokens, error)
VALUES ('r1', 1.5, 'c', 'openai.chat', 'm', 'n1', 'box', 200, 'done', 1, 1, 0.25, 1.5, 10, 20, ''),
       ('r2', 2.5, 'c', 'openai.chat', 'm', 'n1', 'box', 502, 'failed', 0, 2, 0, 3.0, 0, 0, 'it died')
"""


@pytest.fixture
def of_0001(tmp_path: Path) -> Path:
    """A database as the first release left it, with two requests on record."""
    place = tmp_path / "router.db"
    settings = migrate.config()
    engine = create_engine(f"sqlite:///{place}")
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0001")
    with engine.begin() as connection:
        connection.execute(text(ROWS))
    engine.dispose()
    return place


async def test_0002_keeps_requests_that_never_waited(of_0001: Path) -> None:
    """They are as they were, and waited for 0 s; a new one keeps its own time in the queue."""
    database = Database(of_0001)
    await database.open()
    assert await database.run(revision) == schema.HEAD
    failed, done = await database.run(queries.latest_requests, 10)
    assert (done.id, done.at, done.seconds, done.completion_tokens, done.waited) == ("r1", 1.5, 1.5, 20, 0.0)
    assert (failed.id, failed.outcome, failed.error, failed.waited) == ("r2", "failed", "it died", 0.0)
    waited = msgspec.structs.replace(done, id="r3", waited=2.5)
    await database.run(queries.write, Batch(requests=[waited]))
    assert await database.run(queries.latest_requests, 1) == [waited]
    await database.close()
