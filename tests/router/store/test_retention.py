"""What is old goes, a slice at a time, and what is not old stays (requirement F4)."""

from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, insert, select, text
from tests.router.recording import record

from llm_router.router.store import schema
from llm_router.router.store.bodies import Body, add_bodies
from llm_router.router.store.database import Database
from llm_router.router.store.retention import SLICE, TRIMMED, VALUES, trim, trim_blocks

NOW = 1_000_000.0


def at_times(connection: Connection, *times: float) -> None:
    """Events of these times, in this order."""
    rows = [{"at": at, "event": "e", "node_id": "", "name": "", "detail": ""} for at in times]
    connection.execute(insert(schema.events), rows)


def times(connection: Connection, table: Table = schema.events) -> list[float]:
    return list(connection.execute(select(table.c.at).order_by(table.c.seq)).scalars())


async def trimmed(database: Database, table: Table, before: float) -> int:
    """How many slices it took."""
    slices, after = 0, -1
    while True:
        slices += 1
        end = await database.run(trim, table, before, NOW, after)
        if end is None:
            return slices
        after = end


async def test_the_old_goes_and_the_rest_stays(database: Database) -> None:
    """To the moment."""
    await database.run(at_times, 1.0, 9.9, 10.0, 11.0)
    await trimmed(database, schema.events, before=10.0)
    assert await database.run(times) == [10.0, 11.0]


async def test_a_slice_is_no_more_than_a_slice(database: Database) -> None:
    """Others get their turn in between, however much is old."""
    await database.run(at_times, *[1.0] * (3 * SLICE), 11.0)
    assert await database.run(trim, schema.events, 10.0, NOW, -1) is not None
    assert len(await database.run(times)) == 2 * SLICE + 1
    await trimmed(database, schema.events, before=10.0)
    assert await database.run(times) == [11.0]


async def test_it_ends_where_the_old_ends(database: Database) -> None:
    """Nobody reads a week of requests to find the few that are older."""
    await database.run(at_times, 1.0, *[11.0] * (5 * SLICE))
    assert await trimmed(database, schema.events, before=10.0) == 1


async def test_the_newest_stays_however_old(database: Database) -> None:
    """So the next one gets a number that none had before: those who page through the history rely on it."""
    await database.run(at_times, 1.0, 2.0, 3.0)
    await trimmed(database, schema.events, before=10.0)
    await database.run(at_times, 11.0)
    assert await database.run(times) == [3.0, 11.0]
    assert await database.run(lambda c: c.execute(select(func.max(schema.events.c.seq))).scalar()) == 4


async def test_a_clock_that_was_wrong_stops_nothing(database: Database) -> None:
    """Rows from a time to come stay, and those behind them go nevertheless."""
    await database.run(at_times, *[NOW + 1e9] * (2 * SLICE), 1.0, 2.0, 11.0)
    await trimmed(database, schema.events, before=10.0)
    assert await database.run(times) == [*[NOW + 1e9] * (2 * SLICE), 11.0]


@pytest.mark.parametrize("table", TRIMMED, ids=str)
async def test_an_empty_table_stays_empty(database: Database, table: Table) -> None:
    """Nothing there, nothing to do."""
    assert await trimmed(database, table, before=10.0) == 1


async def test_requests_go_with_what_the_index_has_of_them(database: Database) -> None:
    """No entry stays of a block without requests, and every one of a block that has some."""
    for block in range(3):  # the first block is one short: numbers begin with 1
        size = SLICE - 1 if block == 0 else SLICE
        await database.append([record(at=float(block), model=f"m{block}")] * size)
    await trimmed(database, schema.requests, before=2.0)
    assert set(await database.run(times, schema.requests)) == {2.0}
    await database.run(trim_blocks, ("", ""))
    assert await database.run(index) == [("model", "m2", 2), ("node", "box", 2), ("node", "n1", 2)]


async def test_the_index_is_cleared_in_slices(database: Database) -> None:
    """A client may have asked for any number of names."""
    await database.append([record(at=1.0, model=f"m{n:04}") for n in range(1, SLICE)])
    await database.append([record(at=9.0)])
    await trimmed(database, schema.requests, before=9.0)
    after: tuple[str, str] | None = ("", "")
    slices = 0
    while after is not None:
        after = await database.run(trim_blocks, after)
        slices += 1
    assert {block for _, _, block in await database.run(index)} == {1}
    assert slices == SLICE // VALUES + 1


def index(connection: Connection) -> list[Any]:
    return [tuple(row) for row in connection.execute(text("SELECT about, value, block FROM request_blocks"))]


async def test_bodies_go_too(database: Database) -> None:
    """They are the last thing that anybody wants to be kept for longer."""
    await database.run(add_bodies, [Body("r1", 1.0, "p", "a"), Body("r2", 11.0, "p", "a")])
    await trimmed(database, schema.request_bodies, before=10.0)
    assert await database.run(times, schema.request_bodies) == [11.0]
