"""What all replicas must agree on, and one of them made: functions of a connection, as in `queries`."""

from sqlalchemy import Connection, select

from llm_router.router.store import schema
from llm_router.router.store.upsert import inserting

_TABLE = schema.shared_values


def load(connection: Connection, name: str) -> str | None:
    """The value; None: nobody has put one."""
    return connection.execute(select(_TABLE.c.value).where(_TABLE.c.name == name)).scalar()


def put_new(connection: Connection, name: str, value: str) -> str:
    """Put a value unless there is one; the one that counts, which may be another's."""
    insert = inserting(connection, _TABLE).values(name=name, value=value)
    connection.execute(insert.on_conflict_do_nothing())
    return load(connection, name) or value


def put(connection: Connection, name: str, value: str) -> None:
    """Put a value, whatever there was."""
    insert = inserting(connection, _TABLE).values(name=name, value=value)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
