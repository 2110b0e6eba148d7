"""What replicas share: who answered, what they must agree on, and messages too long for a NOTIFY."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# A thousand requests per second use up 32 bits in 25 days. SQLite's integers have 64 as they are.
_WIDER = {
    "requests": ("seq", "prompt_tokens", "completion_tokens"),
    "request_blocks": ("block",),
    "events": ("seq",),
    "request_bodies": ("seq",),
}


def upgrade() -> None:
    """Requests that are on record were answered by the one router that there was."""
    op.add_column("requests", sa.Column("replica", sa.String, nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("version", sa.String, nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("models_version", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("registered", sa.Float, nullable=False, server_default="0"))
    op.create_table(
        "shared_values",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "bulletins",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        _widen()


def _widen() -> None:
    for table, columns in _WIDER.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'ALTER {column} TYPE bigint' for column in columns)}")
        if "seq" in columns:
            op.execute(f"ALTER SEQUENCE {table}_seq_seq AS bigint")
