"""The tables. Times are seconds since the epoch; what a table holds, row by row, is described in `queries`.

A change here needs a migration in `migrations/versions` and a new HEAD.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table

HEAD = "0010"  # the revision that these tables are; compared at start, so that Alembic is loaded only when needed

CHANNEL = "llm_router"  # of PostgreSQL's LISTEN and NOTIFY, on which replicas tell each other what has changed

# Numbers that grow with every request: 32 bits last 25 days at a thousand per second. SQLite's integers have 64 anyway,
# and only an INTEGER counts by itself there.
_Big = BigInteger().with_variant(Integer(), "sqlite")

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
    Column("backend", String, nullable=False, server_default="cpu"),
    Column("settings", JSON, nullable=False, server_default="{}"),
    Column("access", String, nullable=False, server_default=""),
    Column("version", String, nullable=False, server_default=""),
    Column("models_version", BigInteger, nullable=False, server_default="0"),
    Column("registered", Float, nullable=False, server_default="0"),
)

requests = Table(
    "requests",
    metadata,
    Column("seq", _Big, primary_key=True),
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
    Column("prompt_tokens", _Big, nullable=False),
    Column("completion_tokens", _Big, nullable=False),
    Column("error", String, nullable=False),
    Column("waited", Float, nullable=False, server_default="0"),
    Column("trace", String, nullable=False, server_default=""),
    Column("replica", String, nullable=False, server_default=""),  # who answered it, where there are several
)

# An index of blocks instead of rows: `value` occurs in requests whose seq // BLOCK is `block`, as their model (`about`
# is "model") or as their node's id or name ("node"). An index of rows costs 3 µs of CPU per request, two of them 40 %
# more space, and names would need a third; this costs 2 µs for all three, and next to no space. Whole blocks are read:
# to find 100 requests for a model that is asked for once per block takes 12 ms.
request_blocks = Table(
    "request_blocks",
    metadata,
    Column("about", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("block", _Big, primary_key=True),
    sqlite_with_rowid=False,  # the key is all there is
)
# Requests. Twice as many halve the entries to write, and double what is read. It stands in the rows: another number
# needs a migration.
BLOCK = 512

events = Table(
    "events",
    metadata,
    Column("seq", _Big, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", String, nullable=False),
    Column("node_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("detail", String, nullable=False),
)

# Only where `--log-bodies` says so. A table of its own: rows of requests stay small, and quick to look through.
request_bodies = Table(
    "request_bodies",
    metadata,
    Column("seq", _Big, primary_key=True),
    Column("id", String, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("prompt", String, nullable=False),
    Column("answer", String, nullable=False),
)

# API keys; `hash` is their SHA-256 in hex. An `expires` or `last_used` of 0 is never.
keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("hash", String, nullable=False, unique=True),
    Column("scope", String, nullable=False),
    Column("models", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("last_used", Float, nullable=False),
)

# Of people at the dashboard; `name`: of the key that they signed in with, "" for none.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
)

# One-time links that have not been used; `name`: of the key that they were made with, "" for none.
login_links = Table(
    "login_links",
    metadata,
    Column("hash", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("expires", Float, nullable=False),
)

# The catalogue. `manifest` and `placement` as JSON: nothing is looked for by what is in them.
models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("placement", JSON, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("quantization", String, nullable=False),
    Column("context", Integer, nullable=False),
    Column("chat_template", Boolean, nullable=False),
    Column("created", Float, nullable=False),
)

# What all replicas must agree on, such as the join token.
shared_values = Table(
    "shared_values",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

# Messages between replicas that are too long for a NOTIFY; they are of use for seconds.
bulletins = Table(
    "bulletins",
    metadata,
    Column("seq", _Big, primary_key=True),
    Column("body", String, nullable=False),
    Column("at", Float, nullable=False),
)
