"""
The daily quality in full: error classes and detail, a ledger of the days computed, fields, and revisions of final days.

Revision 0003, after 0002. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Rows of the first definition know nothing of these: NULL, until their day is computed again.
    """
    ALTER TABLE monitoring.quality_daily
        ADD COLUMN syncs_empty         integer CHECK (syncs_empty BETWEEN 0 AND syncs_completed),
        ADD COLUMN syncs_timed         integer CHECK (syncs_timed BETWEEN 0 AND syncs_completed),
        ADD COLUMN failed_auth         integer CHECK (failed_auth >= 0),
        ADD COLUMN failed_permission   integer CHECK (failed_permission >= 0),
        ADD COLUMN failed_rate_limit   integer CHECK (failed_rate_limit >= 0),
        ADD COLUMN failed_timeout      integer CHECK (failed_timeout >= 0),
        ADD COLUMN failed_server       integer CHECK (failed_server >= 0),
        ADD COLUMN failed_decode       integer CHECK (failed_decode >= 0),
        ADD COLUMN failed_validation   integer CHECK (failed_validation >= 0),
        ADD COLUMN failed_unknown      integer CHECK (failed_unknown >= 0),
        ADD COLUMN syncs_with_detail   integer CHECK (syncs_with_detail >= 0),
        ADD COLUMN records_with_detail bigint CHECK (records_with_detail >= 0),
        ADD COLUMN missing_required    bigint CHECK (missing_required >= 0),
        ADD COLUMN completeness        double precision CHECK (completeness BETWEEN 0 AND 100),
        ADD CONSTRAINT quality_daily_in_full CHECK (
            calc_version < 2
            OR num_nulls(syncs_empty, syncs_timed, syncs_with_detail, records_with_detail, missing_required, failed_auth,
                         failed_permission, failed_rate_limit, failed_timeout, failed_server, failed_decode,
                         failed_validation, failed_unknown) = 0
               AND failed_auth + failed_permission + failed_rate_limit + failed_timeout + failed_server + failed_decode
                   + failed_validation + failed_unknown = syncs_failed
        )
    """,
    "COMMENT ON COLUMN monitoring.quality_daily.syncs_empty IS 'Completed syncs that processed no record.'",
    "COMMENT ON COLUMN monitoring.quality_daily.syncs_timed IS 'Completed syncs whose duration is known: the weight of the "
    "average.'",
    "COMMENT ON COLUMN monitoring.quality_daily.failed_unknown IS 'With the other failed_ columns, the failed syncs by the "
    "class of their error; they sum to syncs_failed.'",
    "COMMENT ON COLUMN monitoring.quality_daily.syncs_with_detail IS 'Completed and failed syncs whose details tell how many "
    "records lack which fields; divided by all of those, the coverage of completeness.'",
    "COMMENT ON COLUMN monitoring.quality_daily.completeness IS 'Percent of the required fields that were there, over the "
    "syncs with detail: 100 * (1 - missing_required / (records_with_detail * required fields of the data type)); NULL: no "
    "detail, or the data type has no required fields of its own.'",
    "COMMENT ON COLUMN monitoring.quality_daily.company_name IS 'As it was on that day, as far as it was recorded; views "
    "add the name as it is.'",
    """
    CREATE TABLE monitoring.quality_day (
        day          date PRIMARY KEY,
        read_at      timestamptz NOT NULL,
        rows         integer NOT NULL CHECK (rows >= 0),
        is_final     boolean NOT NULL,
        timezone     text,
        calc_version integer NOT NULL
    )
    """,
    "COMMENT ON TABLE monitoring.quality_day IS 'One row per day that was ever computed, with or without syncs.'",
    "COMMENT ON COLUMN monitoring.quality_day.read_at IS 'When the source began to be read for it: of two readings of a day "
    "the later one holds.'",
    "COMMENT ON COLUMN monitoring.quality_day.rows IS 'Rows of quality_daily that this reading gave.'",
    "COMMENT ON COLUMN monitoring.quality_day.timezone IS 'The reporting time zone it was computed in; NULL: not recorded.'",
    """
    INSERT INTO monitoring.quality_day (day, read_at, rows, is_final, timezone, calc_version)
    SELECT day, max(computed_at), count(*) FILTER (WHERE NOT is_vanished), bool_and(is_final), NULL, min(calc_version)
    FROM monitoring.quality_daily GROUP BY day
    """,
    """
    CREATE TABLE monitoring.field_quality_daily (
        day           date NOT NULL,
        credential_id text NOT NULL,
        data_type     text NOT NULL,
        field         text NOT NULL,
        is_required   boolean NOT NULL,
        syncs         integer NOT NULL CHECK (syncs > 0),
        failures      bigint NOT NULL CHECK (failures >= 0),
        missing       bigint NOT NULL CHECK (missing BETWEEN 0 AND failures),
        share         double precision CHECK (share BETWEEN 0 AND 100),
        sample        text,
        PRIMARY KEY (day, credential_id, data_type, field)
    )
    """,
    "COMMENT ON TABLE monitoring.field_quality_daily IS 'Which fields failed, as far as error details and known validation "
    "messages tell; it goes with the row of quality_daily that has its day, credential and data type.'",
    "COMMENT ON COLUMN monitoring.field_quality_daily.failures IS 'Records in which the field failed; a sync that names it "
    "without a number counts as one.'",
    "COMMENT ON COLUMN monitoring.field_quality_daily.missing IS 'Of the failures, those in which it was empty or absent.'",
    "COMMENT ON COLUMN monitoring.field_quality_daily.share IS 'Percent: failures / records processed by the syncs that tell "
    "how many records failed; NULL: none does.'",
    "COMMENT ON COLUMN monitoring.field_quality_daily.sample IS 'One reason, redacted and without values.'",
    """
    CREATE TABLE monitoring.quality_revision (
        revision_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        day              date NOT NULL,
        credential_id    text NOT NULL,
        data_type        text NOT NULL,
        revised_at       timestamptz NOT NULL,
        verdict_before   text NOT NULL CHECK (verdict_before IN ('good', 'fair', 'poor', 'unknown', 'absent')),
        verdict_after    text NOT NULL CHECK (verdict_after IN ('good', 'fair', 'poor', 'unknown')),
        score_before     double precision,
        score_after      double precision,
        processed_before bigint,
        processed_after  bigint NOT NULL,
        failed_before    bigint,
        failed_after     bigint NOT NULL,
        syncs_before     integer,
        syncs_after      integer NOT NULL,
        version_before   integer,
        version_after    integer NOT NULL,
        CHECK (verdict_before <> verdict_after),
        UNIQUE (day, credential_id, data_type, revised_at)
    )
    """,
    "COMMENT ON TABLE monitoring.quality_revision IS 'A final day whose verdict changed when it was computed again; history "
    "for people, never an alert.'",
    "COMMENT ON COLUMN monitoring.quality_revision.verdict_before IS 'By the thresholds in force at revised_at, both before "
    "and after; absent: the day was final and had no such row.'",
    "CREATE INDEX quality_revision_of_day ON monitoring.quality_revision (day, credential_id)",
)


def upgrade() -> None:
    """Add to what 0002 made; every row that is there stays as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
