"""The statements about API keys, login links and sessions: functions of a connection, as in `store.queries`."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import Column, Connection, bindparam, delete, insert, select, update

from llm_router.router.access.keys import StoredKey
from llm_router.router.access.sessions import StoredLink, StoredSession
from llm_router.router.store import schema
from llm_router.router.store.upsert import inserting


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
    """Forget keys, by their ids, with the links that were made with them, and sessions, by their hashes."""
    names = select(schema.keys.c.name).where(schema.keys.c.id.in_(keys))
    connection.execute(delete(schema.login_links).where(schema.login_links.c.name.in_(names)))
    connection.execute(delete(schema.keys).where(schema.keys.c.id.in_(keys)))
    connection.execute(delete(schema.sessions).where(schema.sessions.c.hash.in_(sessions)))


def put_sessions(connection: Connection, sessions: Sequence[StoredSession]) -> None:
    """Keep new sessions; one that is there already stays as it is."""
    adding = inserting(connection, schema.sessions).on_conflict_do_nothing()
    connection.execute(adding, [msgspec.structs.asdict(session) for session in sessions])


def add_link(connection: Connection, link: StoredLink, now: float) -> None:
    """Keep a new link; those that are over are forgotten."""
    connection.execute(delete(schema.login_links).where(schema.login_links.c.expires <= now))
    connection.execute(insert(schema.login_links), [msgspec.structs.asdict(link)])


def use_link(connection: Connection, hash_: str, now: float) -> str | None:
    """The name of the key that the link of this hash was made with; None: there is no such link, or no more."""
    links = schema.login_links
    used = delete(links).where(links.c.hash == hash_, links.c.expires > now).returning(links.c.name)
    return connection.execute(used).scalar()


def note_uses(
    connection: Connection, keys: Mapping[str, float], sessions: Sequence[StoredSession], over: Collection[str]
) -> None:
    """Keep when keys were last used (id -> seconds since the epoch) and until when sessions last; forget those `over`.

    Another replica may know better: what it has ended does not come back, and what it has seen later stays. Rows are
    taken in the order of their names, as in `queries.write`.
    """
    _put_later(connection, schema.keys.c.id, schema.keys.c.last_used, keys)
    _put_later(connection, schema.sessions.c.hash, schema.sessions.c.expires, {s.hash: s.expires for s in sessions})
    remove(connection, (), over)


def _put_later(connection: Connection, key: Column[str], moment: Column[float], moments: Mapping[str, float]) -> None:
    """Put moments where they are later than what is there."""
    if moments:
        put = (
            update(key.table)
            .where(key == bindparam("row"), moment < bindparam("new"))
            .values({moment: bindparam("new")})
        )
        connection.execute(put, [{"row": row, "new": new} for row, new in sorted(moments.items())])
