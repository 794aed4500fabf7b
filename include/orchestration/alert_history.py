"""All that is known of one alert, gathered from our tables for whoever asks what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.sync_health.alerts import Alert, SilentReason
from include.sync_health.errors import RequestError
from include.sync_health.time_lines import Cause, History, LedgerLine
from include.warehouse import alert_ledger
from include.warehouse.silences import silences_since

if TYPE_CHECKING:
    import psycopg


def history_of(conn: psycopg.Connection[Any], fingerprint: str) -> History:
    """
    Return the history of the alert with this fingerprint: the whole of it.

    Args:
        conn: a session with our database; nothing is committed.
        fingerprint: 64 hex digits.

    Raises:
        RequestError: there is no such alert.
        StorageError: the schema is missing or the database unreachable.
    """
    known = alert_ledger.time_line(conn, fingerprint)
    ledger = tuple(map(_line, known.deliveries))
    causes = {}
    for cause in _causes(known.alert, ledger):
        try:
            told = alert_ledger.time_line(conn, cause)
        except RequestError:
            continue  # nobody keeps it any more
        causes[cause] = Cause(alert=told.alert, ledger=tuple(map(_line, told.deliveries)))
    began = min((event.as_of for event in known.events), default=known.alert.opened_at or known.alert.state_since)
    return History(
        alert=known.alert,
        events=known.events,
        ledger=ledger,
        silences=silences_since(conn, began),
        causes=causes,
    )


def _causes(alert: Alert, ledger: tuple[LedgerLine, ...]) -> list[str]:
    """Return the fingerprints of what hides it, or hid it."""
    named = [line.by for line in ledger if line.silent is SilentReason.INHIBITED]
    named += [each.by for each in alert.suppressed.values() if each.why is SilentReason.INHIBITED]
    return list(dict.fromkeys(by for by in named if by))


def _line(line: alert_ledger.LedgerLine) -> LedgerLine:
    return LedgerLine(
        channel=line.channel,
        reason=line.reason,
        silent=line.silent,
        by=line.by,
        status=line.status,
        as_of=line.as_of,
        attempts=line.attempts,
        sent_at=line.sent_at,
        next_attempt_at=line.next_attempt_at,
        last_error=line.last_error,
        others=max(line.alerts - 1, 0),
        fallback_of=line.fallback_of,
    )
