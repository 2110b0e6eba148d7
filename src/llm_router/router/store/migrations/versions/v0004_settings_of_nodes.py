"""What operators set of a node, and what its machine computes with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing was set of those that are known; what they compute with they say when they register again."""
    op.add_column("nodes", sa.Column("backend", sa.String, nullable=False, server_default="cpu"))
    op.add_column("nodes", sa.Column("settings", sa.JSON, nullable=False, server_default="{}"))
