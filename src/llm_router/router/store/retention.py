"""What is too old goes, a slice at a time: each is a transaction of a few milliseconds, so that others get their turn.

The space is used again by rows to come: the file grows to what `retention_days` need and stays so. Giving it back to
the disk would take a copy of the whole file (SQLite, "VACUUM"), which nobody can write into meanwhile.
"""

from sqlalchemy import Connection, Table, delete, func, select, tuple_

from llm_router.router.store import schema

TRIMMED = (schema.requests, schema.events, schema.request_bodies)

SLICE = schema.BLOCK  # rows: 2 ms
VALUES = 16  # names in the index of blocks, however many blocks each is in: 8 ms


def trim(connection: Connection, table: Table, before: float, now: float, after: int) -> int | None:
    """Delete the rows from before a moment (seconds since the epoch) out of the first slice past the seq `after`.

    The last seq of that slice; None: what follows is not old. A clock that was wrong for a while, and wrote times that
    are still to come, keeps only its own rows. The newest row of all stays, so that numbers are given out once.
    """
    seq, at = table.c.seq, table.c.at
    last = connection.execute(select(func.max(seq))).scalar()
    first = connection.execute(select(func.min(seq)).where(seq > after)).scalar()
    if first is None or first == last:
        return None
    end = min(first + SLICE, last)
    here = (seq >= first) & (seq < end)
    connection.execute(delete(table).where(here, at < before))
    fresh = connection.execute(select(seq).where(here, at <= now).limit(1)).scalar()
    return end - 1 if fresh is None else None


def trim_blocks(connection: Connection, after: tuple[str, str]) -> tuple[str, str] | None:
    """Delete what the index has of blocks without requests, for the first VALUES past `after` (about, value).

    The last of them; None: there are no more.
    """
    table = schema.request_blocks
    first = connection.execute(select(func.min(schema.requests.c.seq))).scalar()
    if first is None:
        return None
    key = tuple_(table.c.about, table.c.value)
    for _ in range(VALUES):
        # One by one: a search in the index each, where DISTINCT would read all of it.
        found = select(table.c.about, table.c.value).where(key > after).order_by(table.c.about, table.c.value).limit(1)
        row = connection.execute(found).first()
        if row is None:
            return None
        after = (row.about, row.value)
        here = (table.c.about == row.about) & (table.c.value == row.value)
        connection.execute(delete(table).where(here, table.c.block < first // schema.BLOCK))
    return after
