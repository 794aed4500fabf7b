"""
Metrics, API calls, syncs by hour, and what the health check found.

Revision 0006, after 0005. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Of a token that is refreshed every few minutes there are many snapshots, and not one of them is here: a figure that
    # asks whether a credential's token ever had hours left need not look at them all.
    "CREATE INDEX credential_snapshot_long_lived ON monitoring.credential_snapshot (credential_id, as_of) "
    "WHERE token_expires_at - as_of >= interval '1 hour'",
    """
    CREATE TABLE monitoring.counted_sync (
        kind    text NOT NULL CHECK (kind IN ('started', 'finished')),
        sync_id text NOT NULL,
        at      timestamptz NOT NULL,
        PRIMARY KEY (kind, sync_id)
    )
    """,
    "COMMENT ON TABLE monitoring.counted_sync IS 'Syncs whose start or end is in sync_counter already: none counts twice. "
    "Kept for as long as a sync may still show up (metrics.late_syncs), and a day more.'",
    "CREATE INDEX counted_sync_by_time ON monitoring.counted_sync (at)",
    """
    CREATE TABLE monitoring.sync_counter (
        environment          text NOT NULL,
        company_id           text NOT NULL,
        credential_id        text NOT NULL,
        data_type            text NOT NULL,
        status               text NOT NULL,
        syncs                bigint NOT NULL CHECK (syncs >= 0),
        duration_count       bigint NOT NULL DEFAULT 0 CHECK (duration_count >= 0),
        duration_seconds_sum double precision NOT NULL DEFAULT 0 CHECK (duration_seconds_sum >= 0),
        last_at              timestamptz,
        last_sync_id         text,
        records_processed    bigint,
        records_successful   bigint,
        records_failed       bigint,
        failed_by_class      jsonb NOT NULL DEFAULT '{}',
        updated_at           timestamptz NOT NULL,
        PRIMARY KEY (credential_id, environment, company_id, data_type, status)
    )
    """,
    "COMMENT ON TABLE monitoring.sync_counter IS 'What has been counted since counting began; a number only ever rises.'",
    "COMMENT ON COLUMN monitoring.sync_counter.status IS 'started, or how a sync ended.'",
    "COMMENT ON COLUMN monitoring.sync_counter.company_id IS 'Empty: not known.'",
    "COMMENT ON COLUMN monitoring.sync_counter.failed_by_class IS 'Of status failed: error class to number of syncs; they "
    "sum to syncs.'",
    "COMMENT ON COLUMN monitoring.sync_counter.last_at IS 'When the newest sync ended, by end and then id; the record "
    "counts are its own.'",
    """
    CREATE TABLE monitoring.sync_hour (
        hour                 timestamptz NOT NULL,
        environment          text NOT NULL,
        data_type            text NOT NULL,
        syncs_started        integer NOT NULL CHECK (syncs_started >= 0),
        syncs_completed      integer NOT NULL CHECK (syncs_completed >= 0),
        syncs_clean          integer NOT NULL CHECK (syncs_clean >= 0),
        syncs_partial        integer NOT NULL CHECK (syncs_partial >= 0),
        syncs_failed         integer NOT NULL CHECK (syncs_failed >= 0),
        syncs_cancelled      integer NOT NULL CHECK (syncs_cancelled >= 0),
        syncs_timed          integer NOT NULL CHECK (syncs_timed >= 0),
        duration_seconds_sum double precision NOT NULL CHECK (duration_seconds_sum >= 0),
        records_processed    bigint NOT NULL,
        records_successful   bigint NOT NULL,
        records_failed       bigint NOT NULL,
        failed_by_class      jsonb NOT NULL,
        computed_at          timestamptz NOT NULL,
        PRIMARY KEY (hour, environment, data_type)
    )
    """,
    "COMMENT ON TABLE monitoring.sync_hour IS 'Syncs by UTC hour: of their start for syncs_started, of their end for the "
    "rest. The hours that a run reads whole are replaced.'",
    """
    CREATE TABLE monitoring.quality_gauge (
        environment   text NOT NULL,
        company_id    text NOT NULL,
        credential_id text NOT NULL,
        data_type     text NOT NULL,
        as_of         timestamptz NOT NULL,
        total         bigint NOT NULL,
        valid         bigint NOT NULL,
        invalid       bigint NOT NULL,
        PRIMARY KEY (credential_id, environment, company_id, data_type)
    )
    """,
    "COMMENT ON TABLE monitoring.quality_gauge IS 'Records of the syncs that ended in the 24 hours up to as_of, as the "
    "quality check read them last; keys without such a sync are gone.'",
    """
    CREATE TABLE monitoring.metric_emission (
        task            text NOT NULL,
        window_to       timestamptz NOT NULL,
        remembered_from timestamptz,
        emitted_at      timestamptz NOT NULL,
        PRIMARY KEY (task, window_to)
    )
    """,
    "COMMENT ON TABLE monitoring.metric_emission IS 'Windows whose metrics went out, or were about to: a retry emits "
    "nothing again, and neither does an older window.'",
    "COMMENT ON COLUMN monitoring.metric_emission.remembered_from IS 'From when on counted_sync knows what was counted: "
    "what started or ended before is not counted any more. NULL for what counts no syncs.'",
    """
    CREATE TABLE monitoring.api_call_hourly (
        hour            timestamptz NOT NULL,
        source          text NOT NULL CHECK (source IN ('table', 'log', 'probe')),
        credential_id   text NOT NULL,
        environment     text NOT NULL,
        company_id      text NOT NULL,
        endpoint        text NOT NULL,
        status_code     integer NOT NULL CHECK (status_code = 0 OR status_code BETWEEN 100 AND 599),
        requests        bigint NOT NULL CHECK (requests >= 0),
        errors          bigint NOT NULL CHECK (errors >= 0),
        retries         bigint NOT NULL DEFAULT 0 CHECK (retries >= 0),
        rate_limited    bigint NOT NULL DEFAULT 0 CHECK (rate_limited >= 0),
        circuit_opened  bigint NOT NULL DEFAULT 0 CHECK (circuit_opened >= 0),
        response_count  bigint NOT NULL DEFAULT 0 CHECK (response_count >= 0),
        response_ms_sum double precision NOT NULL DEFAULT 0 CHECK (response_ms_sum >= 0),
        response_ms_max double precision CHECK (response_ms_max >= 0),
        response_buckets jsonb NOT NULL DEFAULT '{}',
        histogram       bigint[] NOT NULL DEFAULT '{}',
        updated_at      timestamptz NOT NULL,
        PRIMARY KEY (hour, source, credential_id, environment, company_id, endpoint, status_code)
    )
    """,
    "COMMENT ON TABLE monitoring.api_call_hourly IS 'Calls of the ServiceTitan API by UTC hour, with ids masked in the "
    "endpoint. What nobody could tell is empty: credential, company, endpoint; status_code 0.'",
    "COMMENT ON COLUMN monitoring.api_call_hourly.response_buckets IS 'Bucket of include/sync_health/response_times.py to "
    "number of calls; they sum to response_count.'",
    "COMMENT ON COLUMN monitoring.api_call_hourly.histogram IS 'As in api_counter; empty where no call is timed.'",
    "CREATE INDEX api_call_hourly_of_credential ON monitoring.api_call_hourly (credential_id, hour)",
    "CREATE INDEX api_call_hourly_incidents ON monitoring.api_call_hourly (hour) WHERE rate_limited > 0 OR circuit_opened > 0",
    """
    CREATE TABLE monitoring.api_counter (
        source          text NOT NULL,
        credential_id   text NOT NULL,
        environment     text NOT NULL,
        company_id      text NOT NULL,
        endpoint        text NOT NULL,
        status_code     integer NOT NULL,
        requests        bigint NOT NULL CHECK (requests >= 0),
        errors          bigint NOT NULL CHECK (errors >= 0),
        rate_limited    bigint NOT NULL DEFAULT 0 CHECK (rate_limited >= 0),
        circuit_opened  bigint NOT NULL DEFAULT 0 CHECK (circuit_opened >= 0),
        response_count  bigint NOT NULL DEFAULT 0 CHECK (response_count >= 0),
        response_ms_sum double precision NOT NULL DEFAULT 0 CHECK (response_ms_sum >= 0),
        histogram       bigint[] NOT NULL DEFAULT '{}',
        updated_at      timestamptz NOT NULL,
        PRIMARY KEY (source, credential_id, environment, company_id, endpoint, status_code)
    )
    """,
    "COMMENT ON TABLE monitoring.api_counter IS 'What has been counted since counting began; a number only ever rises.'",
    "COMMENT ON COLUMN monitoring.api_counter.histogram IS 'Calls by HISTOGRAM_MS of include/sync_health/response_times.py, "
    "each bound''s own, and those above the last.'",
    """
    CREATE TABLE monitoring.log_position (
        file_key     text PRIMARY KEY,
        path         text NOT NULL,
        offset_bytes bigint NOT NULL CHECK (offset_bytes >= 0),
        lines        bigint NOT NULL CHECK (lines >= 0),
        state        jsonb NOT NULL,
        updated_at   timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE monitoring.log_position IS 'How far each log file is read; moved in the transaction that counts what "
    "was read.'",
    """
    CREATE TABLE monitoring.api_source (
        source       text PRIMARY KEY CHECK (source IN ('table', 'log', 'probe')),
        status       text NOT NULL CHECK (status IN ('available', 'unavailable', 'failing')),
        has_timings  boolean NOT NULL,
        detail       text NOT NULL,
        read_until   timestamptz,
        counts       jsonb NOT NULL,
        updated_at   timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE monitoring.api_source IS 'Whether each source of API calls is there, and what the last run read of it.'",
    """
    CREATE TABLE monitoring.probe_result (
        credential_id text NOT NULL,
        at            timestamptz NOT NULL,
        environment   text NOT NULL,
        status        text NOT NULL CHECK (status IN ('success', 'error')),
        status_code   integer,
        response_ms   double precision CHECK (response_ms >= 0),
        error_class   text,
        error         text,
        PRIMARY KEY (credential_id, at)
    )
    """,
    "COMMENT ON TABLE monitoring.probe_result IS 'What our own calls of the ServiceTitan API came to; where a connection "
    "servicetitan_<credential id> exists.'",
    """
    CREATE TABLE monitoring.health_snapshot (
        as_of         timestamptz PRIMARY KEY,
        status        text NOT NULL CHECK (status IN ('healthy', 'warning', 'degraded', 'unhealthy', 'unknown')),
        report        jsonb NOT NULL,
        every_seconds integer NOT NULL CHECK (every_seconds > 0),
        computed_at   timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE monitoring.health_snapshot IS 'The health check servicetitan_integration, as it was found.'",
)


def upgrade() -> None:
    """Add tables; every row that is there stays as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
