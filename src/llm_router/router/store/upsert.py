"""INSERT … ON CONFLICT, which both databases have, though it is no part of SQLAlchemy's common ground."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def inserting(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that may be followed by what is to be done with rows that are there."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 2 MB for who has a file of SQLite's

    return postgresql.insert(table)
