"""How long a request waited in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Those that are on record did not wait: there was no queue."""
    op.add_column("requests", sa.Column("waited", sa.Float, nullable=False, server_default="0"))
