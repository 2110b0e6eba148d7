"""The tables. Times are seconds since the epoch; what a table holds, row by row, is described in `queries`.

A change here needs a migration in `migrations/versions` and a new HEAD.
"""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table

HEAD = "0002"  # the revision that these tables are; compared at start, so that Alembic is loaded only when needed

metadata = MetaData()

nodes = Table(
    "nodes",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("url", String, nullable=False),
    Column("runtimes", JSON, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("os", String, nullable=False),
    Column("local", Boolean, nullable=False),
    Column("state", String, nullable=False),
    Column("models", JSON, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("secret_hash", String, nullable=False),
    Column("secret_proven", Boolean, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("client", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("model", String, nullable=False),
    Column("node_id", String, nullable=False),
    Column("node", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_byte", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("error", String, nullable=False),
    Column("waited", Float, nullable=False, server_default="0"),
    Index("requests_by_model", "model", "seq"),
    Index("requests_by_node", "node_id", "seq"),
)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", String, nullable=False),
    Column("node_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("detail", String, nullable=False),
)
