"""Prompts and answers, and the trace that a request belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing of either was kept."""
    op.add_column("requests", sa.Column("trace", sa.String, nullable=False, server_default=""))
    op.create_table(
        "request_bodies",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("answer", sa.String, nullable=False),
    )
