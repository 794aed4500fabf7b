"""
The daily quality, the newest start that a check saw, and two more words of the outbox: baseline and inhibited.

Revision 0002, after 0001. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE monitoring.check_run ADD COLUMN newest_started_at timestamptz",
    "COMMENT ON COLUMN monitoring.check_run.newest_started_at IS 'The newest start in the whole sync log, as it was read; "
    "NULL: nothing was read, or nobody recorded it.'",
    # Both constraints have the names that PostgreSQL gave them; rows that are there satisfy the wider ones.
    """
    ALTER TABLE monitoring.delivery
        DROP CONSTRAINT delivery_reason_check,
        ADD CONSTRAINT delivery_reason_check CHECK (reason IN ('first', 'repeat', 'baseline', 'closed', 'test')),
        DROP CONSTRAINT delivery_silent_check,
        ADD CONSTRAINT delivery_silent_check CHECK (silent IN (
            'no_route', 'inhibited', 'shadow', 'already_told', 'superseded', 'never_told', 'not_configured',
            'notify_never'
        ))
    """,
    """
    CREATE TABLE monitoring.quality_daily (
        day                  date NOT NULL,
        credential_id        text NOT NULL,
        data_type            text NOT NULL,
        company_id           text,
        company_name         text,
        environment          text,
        syncs_total          integer NOT NULL CHECK (syncs_total >= 0),
        syncs_completed      integer NOT NULL CHECK (syncs_completed >= 0),
        syncs_clean          integer NOT NULL CHECK (syncs_clean >= 0),
        syncs_partial        integer NOT NULL CHECK (syncs_partial >= 0),
        syncs_failed         integer NOT NULL CHECK (syncs_failed >= 0),
        syncs_cancelled      integer NOT NULL CHECK (syncs_cancelled >= 0),
        syncs_open           integer NOT NULL CHECK (syncs_open >= 0),
        records_processed    bigint NOT NULL,
        records_successful   bigint NOT NULL,
        records_failed       bigint NOT NULL,
        quality_score        double precision CHECK (quality_score BETWEEN 0 AND 100),
        inconsistent         integer NOT NULL CHECK (inconsistent >= 0),
        score_low            double precision CHECK (score_low BETWEEN 0 AND 100),
        score_high           double precision CHECK (score_high BETWEEN 0 AND 100),
        duration_avg_seconds double precision CHECK (duration_avg_seconds >= 0),
        duration_p95_seconds double precision CHECK (duration_p95_seconds >= 0),
        is_final             boolean NOT NULL,
        is_vanished          boolean NOT NULL DEFAULT false,
        computed_at          timestamptz NOT NULL,
        calc_version         integer NOT NULL,
        PRIMARY KEY (day, credential_id, data_type),
        CHECK (syncs_completed + syncs_failed + syncs_cancelled + syncs_open <= syncs_total),
        CHECK (syncs_clean + syncs_partial <= syncs_completed),
        CHECK (num_nulls(quality_score, score_low, score_high) IN (0, 3)),
        CHECK (num_nulls(duration_avg_seconds, duration_p95_seconds) IN (0, 2))
    )
    """,
    "COMMENT ON TABLE monitoring.quality_daily IS 'One row per day of the reporting time zone, credential and data type.'",
    "COMMENT ON COLUMN monitoring.quality_daily.quality_score IS 'Percent of the records processed that succeeded; NULL: "
    "none was processed, or the counts contradict themselves.'",
    "COMMENT ON COLUMN monitoring.quality_daily.inconsistent IS 'Syncs whose counts contradict themselves.'",
    "COMMENT ON COLUMN monitoring.quality_daily.score_low IS 'With score_high, the 95 % interval of the score (Wilson).'",
    "COMMENT ON COLUMN monitoring.quality_daily.is_final IS 'The day was over, and late data too, when it was computed; "
    "only ever false to true.'",
    "COMMENT ON COLUMN monitoring.quality_daily.is_vanished IS 'Its syncs, or its credential, are gone from the source: "
    "the last known numbers are kept.'",
    "CREATE INDEX quality_daily_of_credential ON monitoring.quality_daily (credential_id, day)",
)


def upgrade() -> None:
    """Add to what 0001 made; every row that is there stays as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
