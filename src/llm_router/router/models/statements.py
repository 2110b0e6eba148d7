"""The statements about the catalogue of models: functions of a connection, as in `store.queries`."""

import msgspec
from sqlalchemy import Connection, delete, select

from llm_router.router.models.entry import Entry
from llm_router.router.store import schema
from llm_router.router.store.upsert import inserting


def load_models(connection: Connection) -> list[Entry]:
    """Every model, by name."""
    fields = Entry.__struct_fields__
    found = connection.execute(select(*(schema.models.c[field] for field in fields)).order_by(schema.models.c.name))
    return [msgspec.convert(dict(zip(fields, row, strict=True)), Entry) for row in found]


def put_model(connection: Connection, entry: Entry) -> None:
    """Keep a model as it is now, a new one too."""
    columns = {"name": entry.name, **msgspec.to_builtins(entry)}
    putting = inserting(connection, schema.models).values(columns)
    connection.execute(putting.on_conflict_do_update(index_elements=["name"], set_=columns))


def remove_model(connection: Connection, name: str) -> None:
    """Forget a model."""
    connection.execute(delete(schema.models).where(schema.models.c.name == name))
