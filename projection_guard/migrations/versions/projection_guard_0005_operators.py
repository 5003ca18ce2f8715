"""What operators need: the request behind an audited action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "projection_guard_0005"
down_revision = "projection_guard_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.add_column("projection_audit_log", sa.Column("request_id", sa.String(length=255), nullable=True))
    op.create_index(
        "ix_projection_audit_log_action_id", "projection_audit_log", ["projection_name", "action_id"], unique=False
    )


def downgrade() -> None:
    """Take that back."""
    op.drop_index("ix_projection_audit_log_action_id", table_name="projection_audit_log")
    op.drop_column("projection_audit_log", "request_id")
