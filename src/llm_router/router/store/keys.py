"""The statements about API keys and sessions: functions of a connection, as in `queries`."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from llm_router.router.access.keys import StoredKey
from llm_router.router.access.sessions import StoredSession
from llm_router.router.store import schema


def load_keys(connection: Connection) -> list[StoredKey]:
    """Every key, the oldest first."""
    return [StoredKey(*row) for row in connection.execute(select(schema.keys).order_by(schema.keys.c.created))]


def load_sessions(connection: Connection) -> list[StoredSession]:
    """Every session, the oldest first."""
    found = connection.execute(select(schema.sessions).order_by(schema.sessions.c.created))
    return [StoredSession(*row) for row in found]


def add_key(connection: Connection, key: StoredKey) -> None:
    """Keep a new key."""
    connection.execute(insert(schema.keys), [msgspec.structs.asdict(key)])


def remove(connection: Connection, keys: Collection[str], sessions: Collection[str]) -> None:
    """Forget keys, by their ids, and sessions, by their hashes."""
    connection.execute(delete(schema.keys).where(schema.keys.c.id.in_(keys)))
    connection.execute(delete(schema.sessions).where(schema.sessions.c.hash.in_(sessions)))


def put_sessions(connection: Connection, sessions: Sequence[StoredSession]) -> None:
    """Keep sessions as they are now, new ones too."""
    remove(connection, (), [session.hash for session in sessions])
    if sessions:
        connection.execute(insert(schema.sessions), [msgspec.structs.asdict(session) for session in sessions])


def note_uses(
    connection: Connection, keys: Mapping[str, float], sessions: Sequence[StoredSession], over: Collection[str]
) -> None:
    """Keep when keys were last used (id -> seconds since the epoch), and sessions as they are; forget those `over`."""
    for id_, used in keys.items():
        connection.execute(update(schema.keys).where(schema.keys.c.id == id_).values(last_used=used))
    put_sessions(connection, sessions)
    remove(connection, (), over)
