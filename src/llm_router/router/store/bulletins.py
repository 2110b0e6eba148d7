"""Messages between replicas that are too long for a NOTIFY, which carries their numbers instead."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from llm_router.router.store import schema

_TABLE = schema.bulletins


def add(connection: Connection, bodies: Sequence[str], at: float) -> list[int]:
    """Their numbers, in the same order; `at` in seconds since the epoch."""
    if not bodies:
        return []
    adding = insert(_TABLE).returning(_TABLE.c.seq, sort_by_parameter_order=True)
    return list(connection.execute(adding, [{"body": body, "at": at} for body in bodies]).scalars())


def get(connection: Connection, seq: int) -> str | None:
    """What the message says; None: it is gone."""
    return connection.execute(select(_TABLE.c.body).where(_TABLE.c.seq == seq)).scalar()


def trim(connection: Connection, before: float) -> None:
    """Forget those from before a moment."""
    connection.execute(delete(_TABLE).where(_TABLE.c.at < before))
