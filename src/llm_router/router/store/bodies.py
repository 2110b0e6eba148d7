"""Prompts and answers, where they are kept."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, insert, select

from llm_router.router.store import schema


class Body(msgspec.Struct, frozen=True, gc=False):
    """What was asked and answered, cut to a length; `id` is the request's, `at` in seconds since the epoch."""

    id: str
    at: float
    prompt: str
    answer: str


def add_bodies(connection: Connection, bodies: Sequence[Body]) -> None:
    """Keep these."""
    connection.execute(insert(schema.request_bodies), [msgspec.structs.asdict(body) for body in bodies])


def latest_body(connection: Connection, request_id: str) -> Body | None:
    """What is kept of the newest request with this id; None: nothing."""
    table = schema.request_bodies.c
    found = select(table.id, table.at, table.prompt, table.answer).where(table.id == request_id)
    row = connection.execute(found.order_by(table.seq.desc()).limit(1)).first()
    return None if row is None else Body(row.id, row.at, row.prompt, row.answer)
