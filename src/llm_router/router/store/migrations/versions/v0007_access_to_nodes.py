"""The token by which each node lets its router in."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Those that are known let everybody in; they say otherwise when they register again."""
    op.add_column("nodes", sa.Column("access", sa.String, nullable=False, server_default=""))
