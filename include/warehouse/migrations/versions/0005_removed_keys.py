"""
One more verdict after a revision: absent, of a key of a final day whose syncs are of another key or day now.

Revision 0005, after 0004. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The constraint has the name that PostgreSQL gave it; rows that are there satisfy the wider one.
    """
    ALTER TABLE monitoring.quality_revision
        DROP CONSTRAINT quality_revision_verdict_after_check,
        ADD CONSTRAINT quality_revision_verdict_after_check
            CHECK (verdict_after IN ('good', 'fair', 'poor', 'unknown', 'absent'))
    """,
    "COMMENT ON COLUMN monitoring.quality_revision.verdict_after IS 'absent: the row was removed, because its syncs are of "
    "another data type or day now; the numbers after are 0.'",
    "COMMENT ON COLUMN monitoring.quality_daily.is_vanished IS 'Its syncs are gone from the source, with their credential or by "
    "its retention: the last known numbers are kept. A row whose syncs moved to another one is removed.'",
)


def upgrade() -> None:
    """Widen what 0003 made; every row that is there stays as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
