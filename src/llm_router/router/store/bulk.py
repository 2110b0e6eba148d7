"""Many rows into one table at once, in statements of many rows each.

Why not `executemany`: for each row the driver gives up the interpreter lock and has to get it back, which holds up a
busy event loop a thousand times per batch. A statement of many rows does so once, and SQLite works meanwhile. Measured,
µs of CPU per row of 17 columns and two indexes: dictionaries through SQLAlchemy 34, executemany of tuples 14, this 13;
as one JSON text that SQLite takes apart, 37.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import msgspec
from sqlalchemy import Connection, Dialect, Table, insert

# Rows per statement. The interpreter is held while the parameters of one are bound, 2 to 4 µs per row, and on a machine
# with no idle core the thread may lose its core meanwhile: 64 and more held up the loop visibly longer than 16 did.
# Sizes are few so that each statement stays prepared; the driver keeps 128 of them.
SIZES = (16, 4, 1)


def append(connection: Connection, table: Table, rows: Sequence[msgspec.Struct]) -> None:
    """Insert `rows`, all of one kind, whose fields are columns of `table`, in their order."""
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            part = rows[start : start + size]
            values = tuple(chain.from_iterable(map(msgspec.structs.astuple, part)))
            connection.exec_driver_sql(_statement(connection.dialect, table, part[0].__struct_fields__, size), values)
            start += size


@lru_cache(maxsize=16)  # a few sizes for a few tables
def _statement(dialect: Dialect, table: Table, fields: tuple[str, ...], size: int) -> str:
    """As SQLAlchemy writes it for this database: once, since that takes longer than running it."""
    return str(insert(table).values([dict.fromkeys(fields)] * size).compile(dialect=dialect))
