"""The models that the router offers to its nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """There were none: nodes had only what somebody put there."""
    op.create_table(
        "models",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("placement", sa.JSON, nullable=False),
        sa.Column("memory", sa.BigInteger, nullable=False),
        sa.Column("quantization", sa.String, nullable=False),
        sa.Column("context", sa.Integer, nullable=False),
        sa.Column("chat_template", sa.Boolean, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
