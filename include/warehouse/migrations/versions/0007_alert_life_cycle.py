"""
The full life cycle of alerts: conversations, silences, acknowledgements, what is kept back, and channels that refuse us.

Revision 0007, after 0006. Plain SQL, and no import of the project: a script must keep doing what it did.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE monitoring.alert
        ADD COLUMN returns        jsonb NOT NULL DEFAULT '[]',
        ADD COLUMN reopened_at    timestamptz,
        ADD COLUMN flapping_since timestamptz,
        ADD COLUMN threads        jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN suppressed     jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN acknowledged   jsonb
    """,
    "COMMENT ON COLUMN monitoring.alert.told IS 'Channel to {reason, at, severity, thread, shown}: what it was last told of "
    "it.'",
    "COMMENT ON COLUMN monitoring.alert.returns IS 'When it reopened or relapsed within the policy''s flap_window.'",
    "COMMENT ON COLUMN monitoring.alert.threads IS 'Channel to the conversation that a reopening goes on with.'",
    "COMMENT ON COLUMN monitoring.alert.suppressed IS 'Channel to {why, by, since}: what keeps it from hearing of it.'",
    "COMMENT ON COLUMN monitoring.alert.acknowledged IS '{by, at, reason, until}: who has it in hand; NULL: nobody.'",
    # A prefix is found whatever the database's collation.
    "CREATE INDEX alert_by_prefix ON monitoring.alert (fingerprint text_pattern_ops)",
    # The constraints have the names that PostgreSQL gave them; rows that are there satisfy the wider ones.
    """
    ALTER TABLE monitoring.alert_event
        DROP CONSTRAINT alert_event_kind_check,
        ADD CONSTRAINT alert_event_kind_check CHECK (kind IN (
            'opened', 'reopened', 'escalated', 'eased', 'stale', 'recovering', 'relapsed', 'flapping', 'settled', 'closed',
            'pending', 'dropped', 'acknowledged', 'unacknowledged', 'observed'
        ))
    """,
    """
    CREATE FUNCTION monitoring.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'rows of %.% are only ever added', TG_TABLE_SCHEMA, TG_TABLE_NAME;
    END
    $$
    """,
    "CREATE TRIGGER alert_event_append_only BEFORE UPDATE ON monitoring.alert_event "
    "FOR EACH ROW EXECUTE FUNCTION monitoring.refuse_change()",
    "COMMENT ON TABLE monitoring.alert_event IS 'What happened to each alert; rows are only ever added, and deleted when old.'",
    """
    ALTER TABLE monitoring.delivery
        ADD COLUMN by             text,
        ADD COLUMN severity       text CHECK (severity IN ('low', 'medium', 'high', 'critical')),
        ADD COLUMN thread         text,
        ADD COLUMN details        jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN accounted_by   text,
        ADD COLUMN fallback_of    text,
        ADD COLUMN rendered       jsonb,
        ADD COLUMN rendered_after bigint,
        DROP CONSTRAINT delivery_reason_check,
        ADD CONSTRAINT delivery_reason_check CHECK (reason IN (
            'first', 'new_in_group', 'reopened', 'unsuppressed', 'escalated', 'repeat', 'closed', 'baseline', 'digest',
            'silence_ended', 'catch_up', 'updated', 'heartbeat', 'test'
        )),
        DROP CONSTRAINT delivery_silent_check,
        ADD CONSTRAINT delivery_silent_check CHECK (silent IN (
            'no_route', 'inhibited', 'silenced', 'muted', 'budget', 'acknowledged', 'shadow', 'already_told', 'superseded',
            'never_told', 'not_configured', 'notify_never', 'cannot_edit'
        ))
    """,
    "COMMENT ON COLUMN monitoring.delivery.by IS 'What suppressed it: a silence''s id, a mute''s name, a cause, a person.'",
    "COMMENT ON COLUMN monitoring.delivery.severity IS 'The worst of its members, when it was decided.'",
    "COMMENT ON COLUMN monitoring.delivery.thread IS 'The conversation in its channel; NULL for a summary.'",
    "COMMENT ON COLUMN monitoring.delivery.accounted_by IS 'Key of the summary that told of it after it had been kept back.'",
    "COMMENT ON COLUMN monitoring.delivery.fallback_of IS 'The channel that refused us, and that it was meant for.'",
    "COMMENT ON COLUMN monitoring.delivery.rendered IS 'The episodes that the message showed, and which of them as over.'",
    "COMMENT ON COLUMN monitoring.delivery.rendered_after IS 'Id of the newest delivery decided before its alerts were read: it "
    "shows what that one and all before it were to say.'",
    "CREATE INDEX delivery_of_thread ON monitoring.delivery (channel, thread) WHERE thread IS NOT NULL",
    "CREATE INDEX delivery_held ON monitoring.delivery (id) "
    "WHERE silent IN ('silenced', 'muted', 'budget') AND accounted_by IS NULL",
    "CREATE INDEX delivery_by_tick ON monitoring.delivery (as_of, channel) WHERE reason IS NOT NULL",
    "CREATE INDEX delivery_rendered ON monitoring.delivery (channel, rendered_after) WHERE status = 'sent'",
    "CREATE INDEX delivery_heartbeats ON monitoring.delivery (channel, as_of) WHERE reason = 'heartbeat'",
    """
    CREATE TABLE monitoring.silence (
        id             uuid PRIMARY KEY,
        match          jsonb NOT NULL,
        starts_at      timestamptz NOT NULL,
        ends_at        timestamptz NOT NULL,
        author         text NOT NULL,
        reason         text NOT NULL,
        created_at     timestamptz NOT NULL,
        ended_early_by text,
        CHECK (starts_at < ends_at OR ended_early_by IS NOT NULL)
    )
    """,
    "COMMENT ON TABLE monitoring.silence IS 'What somebody wants to hear nothing of for a while, and why; ends_at is no longer "
    "part of it.'",
    "COMMENT ON COLUMN monitoring.silence.ended_early_by IS 'Who ended it before its time, at ends_at; before it began, where "
    "that is not after starts_at: it never held.'",
    "CREATE INDEX silence_by_end ON monitoring.silence (ends_at)",
    """
    CREATE TABLE monitoring.channel_state (
        channel       text PRIMARY KEY,
        refused_since timestamptz,
        refusal       text,
        last_sent_at  timestamptz,
        updated_at    timestamptz NOT NULL,
        CHECK ((refused_since IS NULL) = (refusal IS NULL))
    )
    """,
    "COMMENT ON TABLE monitoring.channel_state IS 'Whether each channel takes our messages.'",
)


def upgrade() -> None:
    """Widen what is there and add tables; every row that is there stays as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
