"""Many rows at once are the same rows."""

import msgspec
import pytest
from sqlalchemy import Column, Connection, Float, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.exc import OperationalError

from llm_router.router.store import bulk


class Reading(msgspec.Struct):
    place: str
    degrees: float


readings = Table(
    "readings", MetaData(), Column("seq", Integer, primary_key=True), Column("place", String), Column("degrees", Float)
)


def kept(connection: Connection) -> list[tuple[int, str, float]]:
    return [tuple(row) for row in connection.execute(select(readings).order_by(readings.c.seq))]


@pytest.mark.parametrize("count", [1, 7, 8, 64, 73, 2 * 64 + 8 + 3])
def test_every_row_is_written_once_in_its_order(count: int) -> None:
    """However many statements of however many rows that takes."""
    rows = [Reading(f"place {number}", number / 8) for number in range(count)]
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        readings.create(connection)
        bulk.append(connection, readings, rows)
        assert kept(connection) == [(seq, row.place, row.degrees) for seq, row in enumerate(rows, 1)]
    engine.dispose()


def test_the_databases_trouble_is_told_as_sqlalchemy_tells_it() -> None:
    """The ledger tells what is worth another try by its class."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection, pytest.raises(OperationalError, match="no such table"):
        bulk.append(connection, readings, [Reading("nowhere", 0.0)])
    engine.dispose()
