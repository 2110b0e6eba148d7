"""Deleting goes on by itself, and its troubles are its own (requirement F4)."""

import asyncio

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs
from tests.router.recording import record

from llm_router.router import retention as retentions
from llm_router.router.retention import DAY, Retention
from llm_router.router.store import queries
from llm_router.router.store.database import Database

LAST = record(id="last")


def always() -> bool:
    return True


async def ids(database: Database) -> list[str]:
    return [r.id for r in await database.run(queries.latest_requests, 9)]


async def test_days_are_kept(database: Database) -> None:
    """As many as the setting says."""
    await database.append([record(id="old", at=1.9 * DAY), record(id="new", at=2.1 * DAY), LAST])
    await Retention(database, 1, always).run(now=3 * DAY)
    assert await ids(database) == ["last", "new"]


async def test_it_begins_with_the_router(database: Database) -> None:
    """What is old now does not wait for an hour."""
    await database.append([record(id="old", at=1.0), LAST])
    retention = Retention(database, 1, always)
    retention.start()
    while await ids(database) != ["last"]:  # each round waits for the database
        pass
    await retention.stop()


async def test_0_days_are_for_ever(database: Database) -> None:
    """Nothing is deleted, nothing runs."""
    await database.append([record(id="old", at=1.0), LAST])
    before = asyncio.all_tasks()
    retention = Retention(database, 0, always)
    retention.start()
    assert asyncio.all_tasks() == before
    await retention.stop()
    assert await ids(database) == ["last", "old"]


async def test_one_of_several_does_it(database: Database) -> None:
    """Who is not on duty deletes nothing."""
    await database.append([record(id="old", at=1.0), LAST])
    asked = asyncio.Event()

    def is_not_mine() -> bool:
        asked.set()
        return False

    retention = Retention(database, 1, is_not_mine)
    retention.start()
    await asked.wait()
    await retention.stop()
    assert await ids(database) == ["last", "old"]


async def test_a_database_in_trouble_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says so, without what is in the database; the next time it is done."""
    monkeypatch.setattr(retentions, "EVERY", 0.0)
    monkeypatch.setattr(retentions, "LOOK_EVERY", 0.0)
    await database.append([record(id="old", at=1.0), LAST])
    await database.run(sql, "ALTER TABLE events RENAME TO elsewhere")
    retention = Retention(database, 1, always)
    with capture_logs() as logged:
        retention.start()
        while not logged:
            await database.run(sql, "SELECT 1")
        await database.run(sql, "ALTER TABLE elsewhere RENAME TO events")
        while await ids(database) != ["last"]:
            pass
        await retention.stop()
    assert logged[0] == {"event": "retention.failed", "error": "no such table: events", "log_level": "warning"}


def sql(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))
