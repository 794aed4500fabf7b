"""
The SQL of the outbox: what is due, how it is handed out and marked, and what a message that went out late leaves to say.

Which messages showed what is told by ids, not by clocks: ids follow the commits of what was decided, so a message whose
alerts were read after delivery 7 was decided shows what 7 was to say.
"""

from __future__ import annotations

from collections.abc import Iterable

from include.sync_health.alerts import OF_WHAT_IS_OPEN, NotifyReason


def listed(words: Iterable[str]) -> str:
    """Return constants of the code as SQL lists them, such as ``('first', 'repeat')``."""
    return "(" + ", ".join(f"'{word}'" for word in sorted(words)) + ")"


# One that may be handed out now: due, or leased by a worker whose time is over; and none before it about its alerts or in
# its conversation, which else might begin twice. What only edits a message holds back no message: it shows whatever is true
# when it goes out. But two edits of one message are not in flight at once: the older could arrive last.
_DUE = """
    (candidate.status = 'pending' AND candidate.next_attempt_at <= %(now)s
     OR candidate.status = 'leased' AND candidate.lease_until <= %(now)s)
    AND NOT EXISTS (
        SELECT FROM monitoring.delivery AS earlier
        WHERE earlier.channel = candidate.channel AND earlier.id < candidate.id
          AND earlier.status IN ('pending', 'leased')
          AND CASE earlier.reason
                  WHEN 'updated' THEN candidate.reason = 'updated' AND earlier.thread = candidate.thread
                                      AND earlier.status = 'leased' AND earlier.lease_until > %(now)s
                  ELSE earlier.fingerprints && candidate.fingerprints OR earlier.thread = candidate.thread
              END
    )
"""

# One look per channel that stops at its first find: comparing all that waits with all that waits would be quadratic.
DUE_CHANNELS = f"""
    SELECT unfinished.channel
    FROM (SELECT DISTINCT channel FROM monitoring.delivery WHERE status IN ('pending', 'leased')) AS unfinished
    CROSS JOIN LATERAL (
        SELECT candidate.id FROM monitoring.delivery AS candidate
        WHERE candidate.channel = unfinished.channel AND {_DUE}
        ORDER BY candidate.id LIMIT 1
    ) AS first
    ORDER BY first.id
"""  # noqa: S608 -- only constants of this module

# The alerts are read after this statement, so they are at least as new as the newest delivery that it saw.
LEASE_NEXT = f"""
    WITH next AS MATERIALIZED (
        SELECT candidate.id, candidate.status = 'leased' AS is_in_doubt
        FROM monitoring.delivery AS candidate
        WHERE candidate.channel = %(channel)s AND {_DUE}
        ORDER BY candidate.id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE monitoring.delivery AS delivery
    SET status = 'leased', lease_owner = %(owner)s, lease_until = %(until)s, attempts = delivery.attempts + 1,
        possible_repeat = delivery.possible_repeat OR next.is_in_doubt,
        rendered_after = (SELECT max(id) FROM monitoring.delivery), updated_at = %(now)s
    FROM next WHERE delivery.id = next.id
    RETURNING delivery.id, delivery.key, delivery.channel, delivery.reason, delivery.members, delivery.as_of,
              delivery.attempts, delivery.possible_repeat, delivery.created_at, delivery.thread, delivery.details,
              delivery.severity, delivery.fallback_of, delivery.fingerprints
"""  # noqa: S608 -- only constants of this module

PARENT = """
    SELECT receipt FROM monitoring.delivery
    WHERE channel = %(channel)s AND thread = %(thread)s AND status = 'sent' AND receipt @> '{"parent": true}'
    ORDER BY sent_at DESC, id DESC LIMIT 1
"""

CLOSED_BEFORE = """
    SELECT DISTINCT ON (fingerprint) fingerprint, as_of FROM monitoring.alert_event
    WHERE fingerprint = ANY(%(fingerprints)s) AND kind = 'closed' AND as_of < %(as_of)s
    ORDER BY fingerprint, as_of DESC
"""
"""When the episodes before those that a tick opened closed."""

IN_THREAD = """
    SELECT fingerprint FROM monitoring.delivery CROSS JOIN unnest(fingerprints) AS fingerprint
    WHERE channel = %(channel)s AND thread = %(thread)s AND status = 'sent'
    GROUP BY fingerprint ORDER BY min(id), fingerprint
"""

MARK_SENT = """
    UPDATE monitoring.delivery
    SET status = 'sent', sent_at = %(now)s, receipt = %(receipt)s, rendered = %(rendered)s, last_error = NULL,
        lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

MARK_RETRY = """
    UPDATE monitoring.delivery
    SET status = 'pending', next_attempt_at = %(next_attempt_at)s, last_error = %(error)s,
        possible_repeat = possible_repeat OR %(ambiguous)s,
        lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

MARK_DEAD = """
    UPDATE monitoring.delivery
    SET status = 'dead', last_error = %(error)s, lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

DROP = """
    UPDATE monitoring.delivery
    SET status = 'not_sent', silent = %(why)s, lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

# `shown` is each episode that a message showed which was rendered after this one was decided; `is_edit` where that was no
# message, but an edit of one that is there already, of which nobody was notified.
_TOLD = f"""
    mine.reason IN {listed(OF_WHAT_IS_OPEN | {NotifyReason.CLOSED})}
    AND jsonb_array_length(mine.members) > 0
    AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(mine.members) AS member
        WHERE NOT EXISTS (
            SELECT FROM shown
            WHERE shown.fingerprint = member ->> 'fingerprint' AND shown.episode_id = member ->> 'episode_id'
              AND NOT shown.is_edit AND (shown.is_over OR mine.reason <> 'closed')
        )
    )
"""  # noqa: S608 -- only constants of this module

# The edit that comes shows what this one would; so does the thread's first message, or an edit of it, that went out after
# this one was decided, where it showed these alerts.
_SHOWN_ANYWAY = """
    mine.reason = 'updated'
    AND (
        EXISTS (
            SELECT FROM monitoring.delivery AS newer
            WHERE newer.channel = mine.channel AND newer.thread = mine.thread AND newer.id > mine.id
              AND newer.reason = 'updated' AND newer.status = 'pending'
        )
        OR NOT EXISTS (
            SELECT FROM jsonb_array_elements(mine.members) AS member
            WHERE NOT EXISTS (
                SELECT FROM shown
                WHERE shown.fingerprint = member ->> 'fingerprint' AND shown.thread = mine.thread
                  AND (shown.is_edit OR shown.is_parent)
            )
        )
    )
"""

# Where a row of before `rendered` was kept says that it told of the close, all its members are over. What is compared comes
# as values, not from the row: only those tell the planner how few messages went out since. Of a long backlog that goes out
# that is all of it, so a message that speaks of others elsewhere is left out unread; an edit shows its neighbours too.
COALESCE = f"""
    WITH late AS MATERIALIZED (
        SELECT thread, rendered AS episodes, false AS is_over, reason = 'updated' AS is_update,
               coalesce(receipt @> '{{"parent": true}}', false) AS is_parent
        FROM monitoring.delivery
        WHERE channel = %(channel)s AND status = 'sent' AND rendered_after >= %(id)s AND rendered IS NOT NULL
          AND (fingerprints && %(fingerprints)s::text[] OR reason = 'updated' OR thread = %(thread)s)
        UNION ALL
        SELECT thread, members, true, false, false
        FROM monitoring.delivery
        WHERE channel = %(channel)s AND status = 'sent' AND sent_at >= %(created_at)s
          AND receipt @> '{{"told_of_close": true}}'
    ), shown AS MATERIALIZED (
        SELECT late.thread, late.is_parent, late.is_update AND NOT late.is_parent AS is_edit,
               episode ->> 'fingerprint' AS fingerprint, episode ->> 'episode_id' AS episode_id,
               late.is_over OR coalesce((episode ->> 'is_over')::boolean, false) AS is_over
        FROM late CROSS JOIN jsonb_array_elements(late.episodes) AS episode
    )
    UPDATE monitoring.delivery AS mine
    SET status = 'not_sent', silent = CASE mine.reason WHEN 'updated' THEN 'superseded' ELSE 'already_told' END,
        lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE mine.id = %(id)s AND ({_TOLD} OR {_SHOWN_ANYWAY})
    RETURNING mine.silent
"""  # noqa: S608 -- only constants of this module

TOLD_AS_OVER = """
    SELECT episode ->> 'fingerprint', episode ->> 'episode_id'
    FROM monitoring.delivery CROSS JOIN jsonb_array_elements(rendered) AS episode
    WHERE channel = %(channel)s AND status = 'sent' AND rendered_after >= %(id)s AND rendered IS NOT NULL
      AND (reason <> 'updated' OR receipt @> '{"parent": true}') AND (episode ->> 'is_over')::boolean
"""
"""Episodes that the channel has read to be over, in messages that went out after a delivery was decided."""

# Dropped as superseded, unless the channel has heard of one of its episodes: then it is owed the rest.
DROP_SUPERSEDED = """
    UPDATE monitoring.delivery AS over
    SET status = 'not_sent', silent = 'superseded', lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
      AND NOT EXISTS (
          SELECT FROM monitoring.delivery AS sent
          WHERE sent.channel = over.channel AND sent.status = 'sent' AND sent.fingerprints && over.fingerprints
            AND EXISTS (
                SELECT jsonb_array_elements(over.members) INTERSECT SELECT jsonb_array_elements(sent.members)
            )
      )
"""

ABANDON = """
    UPDATE monitoring.delivery SET status = 'dead', last_error = %(error)s, updated_at = %(now)s
    WHERE key = %(key)s AND status = 'pending'
"""

# An edit of what the channel has can be made nowhere else. What the fallback has been told by itself it is not told twice.
# What another worker is just sending may arrive: that worker will say, and what must not overtake it waits for that. Members
# are compared sorted: that one array contains the other would be found out by comparing each with each.
HAND_TO_FALLBACK = """
    WITH in_flight AS MATERIALIZED (
        SELECT id, fingerprints, thread FROM monitoring.delivery
        WHERE channel = %(channel)s AND status = 'leased' AND lease_owner <> %(owner)s AND lease_until > %(now)s
          AND reason <> 'updated'
    ), refused AS (
        UPDATE monitoring.delivery AS mine
        SET status = CASE reason WHEN 'updated' THEN 'not_sent' ELSE 'dead' END,
            silent = CASE reason WHEN 'updated' THEN 'cannot_edit' END,
            possible_repeat = possible_repeat OR status = 'leased' AND lease_owner <> %(owner)s,
            last_error = %(error)s, lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
        WHERE channel = %(channel)s AND id = coalesce(%(only)s, id)
          AND (status = 'pending' OR status = 'leased' AND (lease_owner = %(owner)s OR lease_until <= %(now)s))
          AND NOT EXISTS (
              SELECT FROM in_flight
              WHERE in_flight.id < mine.id
                AND (in_flight.fingerprints && mine.fingerprints OR in_flight.thread = mine.thread)
          )
        RETURNING id, key, channel, reason, members, fingerprints, as_of, severity, details, possible_repeat
    )
    INSERT INTO monitoring.delivery
        (key, channel, reason, members, fingerprints, as_of, severity, details, fallback_of, possible_repeat, status,
         next_attempt_at, created_at, updated_at)
    SELECT refused.key || '|fallback', %(fallback)s, refused.reason, refused.members, refused.fingerprints, refused.as_of,
           refused.severity, refused.details, refused.channel, refused.possible_repeat, 'pending', %(now)s, %(now)s, %(now)s
    FROM refused
    WHERE refused.reason <> 'updated'
      AND NOT EXISTS (
          SELECT FROM monitoring.delivery AS own
          WHERE own.as_of = refused.as_of AND own.channel = %(fallback)s AND own.reason = refused.reason
            AND own.fallback_of IS NULL AND own.fingerprints = refused.fingerprints
            AND (SELECT array_agg(member ORDER BY member) FROM jsonb_array_elements(own.members) AS member)
                = (SELECT array_agg(member ORDER BY member) FROM jsonb_array_elements(refused.members) AS member)
      )
    ORDER BY refused.id
    ON CONFLICT (key) DO NOTHING
"""
