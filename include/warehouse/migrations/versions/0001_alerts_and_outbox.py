"""
Alerts with their history, the outbox, evaluated windows, credential snapshots and policy versions.

Revision 0001, the first. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEVERITIES = "('low', 'medium', 'high', 'critical')"
CLOSE_REASONS = "('recovered', 'expired', 'target_removed', 'rule_changed')"

STATEMENTS = (
    f"""
    CREATE TABLE monitoring.alert (
        fingerprint    text PRIMARY KEY,
        rule           text NOT NULL,
        identity       jsonb NOT NULL,
        state          text NOT NULL CHECK (state IN ('inactive', 'pending', 'firing', 'recovering')),
        severity       text NOT NULL CHECK (severity IN {SEVERITIES}),
        peak_severity  text NOT NULL CHECK (peak_severity IN {SEVERITIES}),
        state_since    timestamptz NOT NULL,
        last_as_of     timestamptz NOT NULL,
        last_breach_at timestamptz,
        episode_id     uuid,
        opened_at      timestamptz,
        closed_at      timestamptz,
        close_reason   text CHECK (close_reason IN {CLOSE_REASONS}),
        stale_since    timestamptz,
        flaps          integer NOT NULL,
        title          text NOT NULL,
        message        text NOT NULL,
        reason         text NOT NULL,
        credential_id  text,
        company_id     text,
        company_name   text,
        environment    text,
        data_type      text,
        metadata       jsonb NOT NULL,
        error_class    text CHECK (error_class IN ('auth', 'permission', 'rate_limit', 'timeout', 'server', 'decode',
                                                   'validation', 'cancelled', 'unknown')),
        cause          text,
        evidence       jsonb NOT NULL,
        told           jsonb NOT NULL,
        updated_at     timestamptz NOT NULL,
        is_followed    boolean NOT NULL GENERATED ALWAYS AS (
            state <> 'inactive' OR jsonb_path_exists(told, '$.* ? (@.reason <> "closed")')
        ) STORED
    )
    """,
    "COMMENT ON TABLE monitoring.alert IS 'The current state of each fingerprint.'",
    "COMMENT ON COLUMN monitoring.alert.told IS 'Channel to {reason, at, severity}: what it was last told of it.'",
    "COMMENT ON COLUMN monitoring.alert.is_followed IS 'Not inactive, or a channel has yet to hear that it closed.'",
    "CREATE INDEX alert_followed ON monitoring.alert (rule) WHERE is_followed",
    "CREATE INDEX alert_of_credential ON monitoring.alert (credential_id)",
    f"""
    CREATE TABLE monitoring.alert_event (
        fingerprint  text NOT NULL,
        as_of        timestamptz NOT NULL,
        kind         text NOT NULL CHECK (kind IN ('opened', 'recovering', 'relapsed', 'closed', 'pending', 'dropped',
                                                   'observed')),
        episode_id   uuid,
        severity     text NOT NULL CHECK (severity IN {SEVERITIES}),
        reason       text NOT NULL,
        close_reason text CHECK (close_reason IN {CLOSE_REASONS}),
        recorded_at  timestamptz NOT NULL,
        PRIMARY KEY (fingerprint, as_of, kind)
    )
    """,
    "COMMENT ON TABLE monitoring.alert_event IS 'What happened to each alert; rows are only ever added.'",
    "CREATE INDEX alert_event_by_time ON monitoring.alert_event (as_of)",
    """
    CREATE TABLE monitoring.delivery (
        id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key             text NOT NULL UNIQUE,
        channel         text NOT NULL,
        reason          text CHECK (reason IN ('first', 'repeat', 'closed', 'test')),
        silent          text CHECK (silent IN (
            'no_route', 'shadow', 'already_told', 'superseded', 'never_told', 'not_configured', 'notify_never'
        )),
        members         jsonb NOT NULL,
        fingerprints    text[] NOT NULL,
        as_of           timestamptz NOT NULL,
        status          text NOT NULL CHECK (status IN ('pending', 'leased', 'sent', 'dead', 'not_sent')),
        attempts        integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz NOT NULL,
        lease_owner     text,
        lease_until     timestamptz,
        possible_repeat boolean NOT NULL DEFAULT false,
        sent_at         timestamptz,
        receipt         jsonb,
        last_error      text,
        created_at      timestamptz NOT NULL,
        updated_at      timestamptz NOT NULL,
        CHECK ((status = 'not_sent') = (silent IS NOT NULL)),
        CHECK (status = 'not_sent' OR reason IS NOT NULL),
        CHECK ((status = 'leased') = (lease_owner IS NOT NULL AND lease_until IS NOT NULL)),
        CHECK ((status = 'sent') = (sent_at IS NOT NULL))
    )
    """,
    "COMMENT ON TABLE monitoring.delivery IS 'The outbox and its ledger: each message sent, to be sent, or not sent, "
    "and why.'",
    "COMMENT ON COLUMN monitoring.delivery.fingerprints IS 'Of the members: two deliveries that share one keep order.'",
    "CREATE INDEX delivery_sent ON monitoring.delivery (channel, sent_at) WHERE status = 'sent'",
    "CREATE INDEX delivery_unfinished ON monitoring.delivery (channel, id) WHERE status IN ('pending', 'leased')",
    "CREATE INDEX delivery_of_alert ON monitoring.delivery USING gin (fingerprints)",
    "CREATE INDEX delivery_by_time ON monitoring.delivery (created_at)",
    """
    CREATE TABLE monitoring.check_run (
        run_id        uuid PRIMARY KEY,
        check_name    text NOT NULL,
        window_from   timestamptz NOT NULL,
        window_to     timestamptz NOT NULL,
        mode          text NOT NULL CHECK (mode IN ('live', 'historical')),
        filters       jsonb NOT NULL,
        status        text NOT NULL CHECK (status IN ('seen', 'blind')),
        rows_read     bigint NOT NULL,
        source_ms     double precision NOT NULL,
        total_ms      double precision NOT NULL,
        verdicts      jsonb NOT NULL,
        anomalies     jsonb NOT NULL,
        notes         text[] NOT NULL,
        open_sync_ids text[],
        error_cause   text,
        error         text,
        computed_at   timestamptz NOT NULL,
        CHECK (window_from <= window_to)
    )
    """,
    "COMMENT ON TABLE monitoring.check_run IS 'One row per evaluated window.'",
    "COMMENT ON COLUMN monitoring.check_run.open_sync_ids IS 'Open at the end of the window; NULL is no memory of it.'",
    "CREATE INDEX check_run_newest ON monitoring.check_run (check_name, window_to DESC)",
    """
    CREATE TABLE monitoring.credential_snapshot (
        credential_id     text NOT NULL,
        as_of             timestamptz NOT NULL,
        company_id        text,
        company_name      text,
        environment       text,
        connection_status text,
        token_expires_at  timestamptz,
        has_client_id     boolean NOT NULL,
        has_client_secret boolean NOT NULL,
        is_deleted        boolean NOT NULL,
        recorded_at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (credential_id, as_of)
    )
    """,
    "COMMENT ON TABLE monitoring.credential_snapshot IS 'Changes only: a row holds until the credential''s next one.'",
    """
    CREATE TABLE monitoring.policy_version (
        version       text PRIMARY KEY,
        effective     text NOT NULL,
        first_seen_at timestamptz NOT NULL,
        last_seen_at  timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE monitoring.policy_version IS 'Each valid policy that was ever used, as it was effective.'",
)


def upgrade() -> None:
    """Create the tables; the schema itself is there already, made by `include.warehouse.migration` or by a DBA."""
    for statement in STATEMENTS:
        op.execute(statement)
