"""Which models and nodes each block of requests is about, in place of an index entry per request."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INDEX = """
INSERT INTO request_blocks (about, value, block)
SELECT DISTINCT 'model', model, seq / 512 FROM requests
UNION SELECT DISTINCT 'node', node_id, seq / 512 FROM requests
UNION SELECT DISTINCT 'node', node, seq / 512 FROM requests
"""


def upgrade() -> None:
    """Requests that are on record are found as before."""
    op.create_table(
        "request_blocks",
        sa.Column("about", sa.String, primary_key=True),
        sa.Column("value", sa.String, primary_key=True),
        sa.Column("block", sa.Integer, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.execute(_INDEX)
    op.drop_index("requests_by_model", "requests")
    op.drop_index("requests_by_node", "requests")
