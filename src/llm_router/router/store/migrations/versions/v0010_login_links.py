"""One-time login links, which replicas share and a restart does not end."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Links that were made before are over: routers kept them in memory."""
    op.create_table(
        "login_links",
        sa.Column("hash", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
