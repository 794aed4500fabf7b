"""
Record counts that could not be read are unknown, which is not 0.

Revision 0008, after 0007. Plain SQL, and no import of the project: a script must keep doing what it did. The release before stored 0
where the source's counts could not be read. Of an hour that cannot be told from a true 0, but for two signs: no hour at all has a
record; or hours have records, of which in no hour at all any succeeded or failed. What they show is unknown from now on; the next
run measures the last hours again.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE monitoring.sync_hour
        ALTER COLUMN syncs_clean DROP NOT NULL,
        ALTER COLUMN syncs_partial DROP NOT NULL,
        ALTER COLUMN records_processed DROP NOT NULL,
        ALTER COLUMN records_successful DROP NOT NULL,
        ALTER COLUMN records_failed DROP NOT NULL
    """,
    "COMMENT ON COLUMN monitoring.sync_hour.syncs_clean IS 'Completed with no failed record. NULL, as syncs_partial and "
    "the records: syncs completed or failed, and the source''s counts could not be read.'",
    """
    UPDATE monitoring.sync_hour
    SET syncs_clean = NULL, syncs_partial = NULL, records_processed = NULL, records_successful = NULL, records_failed = NULL
    WHERE syncs_completed + syncs_failed > 0
      AND NOT EXISTS (
          SELECT FROM monitoring.sync_hour AS any_hour
          WHERE any_hour.records_processed <> 0 OR any_hour.records_successful <> 0 OR any_hour.records_failed <> 0
      )
    """,
    """
    UPDATE monitoring.sync_hour
    SET syncs_clean = NULL, syncs_partial = NULL, records_successful = NULL, records_failed = NULL
    WHERE records_processed <> 0
      AND NOT EXISTS (
          SELECT FROM monitoring.sync_hour AS any_hour
          WHERE any_hour.records_successful <> 0 OR any_hour.records_failed <> 0
      )
    """,
    """
    ALTER TABLE monitoring.quality_gauge
        ALTER COLUMN total DROP NOT NULL,
        ALTER COLUMN valid DROP NOT NULL,
        ALTER COLUMN invalid DROP NOT NULL
    """,
    "COMMENT ON COLUMN monitoring.quality_gauge.total IS 'Processed records. NULL, as valid and invalid: the source''s counts "
    "could not be read.'",
    """
    UPDATE monitoring.quality_gauge SET valid = NULL, invalid = NULL
    WHERE total <> 0
      AND NOT EXISTS (
          SELECT FROM monitoring.quality_gauge AS any_gauge WHERE any_gauge.valid <> 0 OR any_gauge.invalid <> 0
      )
    """,
    """
    ALTER TABLE monitoring.metric_emission
        ADD COLUMN counts_known  text[],
        ADD COLUMN counts_unread text
    """,
    "COMMENT ON COLUMN monitoring.metric_emission.counts_known IS 'Record counts that could be read in the source; NULL: "
    "nobody wrote it down.'",
    "COMMENT ON COLUMN monitoring.metric_emission.counts_unread IS 'Why the others could not, and what to do.'",
    "ALTER TABLE monitoring.quality_day ADD COLUMN tells_outcomes boolean",
    "COMMENT ON COLUMN monitoring.quality_day.tells_outcomes IS 'Whether the sync log that was read told how many records "
    "succeeded and failed; NULL: nobody wrote it down.'",
)


def upgrade() -> None:
    """Let counts be unknown; rows that are there stay as they are, but for zeros that cannot be true."""
    for statement in STATEMENTS:
        op.execute(statement)
