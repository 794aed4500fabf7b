"""
The checks that were missed while nobody looked, and what opened and closed meanwhile.

After an outage of Airflow, or of the source, the windows that nobody judged are judged one after another by the next run
that sees, so that an alert's history has no hole and what came and went is told: all of it in one message, since it is
over. What still fires is told like anything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from include.sync_health.alerts import Alert, AlertEvent, EventKind


def missed_instants(
    last_seen: datetime | None, *, as_of: datetime, every: timedelta, within: timedelta
) -> list[datetime]:
    """
    Return the ends of the windows that were missed before a run, oldest first.

    Args:
        last_seen: the end of the newest window that was seen; aware; None when none ever was, and nothing was missed.
        as_of: the end of the run's own window; aware.
        every: how often the check runs.
        within: those that ended longer than this before ``as_of`` are let go; 0: all of them.
    """
    if last_seen is None or every <= timedelta(0):
        return []
    found = []
    instant = as_of - every
    while instant > last_seen and as_of - instant <= within:
        found.append(instant)
        instant -= every
    return found[::-1]


def came_and_went(
    events: Iterable[AlertEvent], alerts: Mapping[str, Alert], *, instants: Collection[datetime]
) -> list[Alert]:
    """
    Return the alerts that closed, of an episode that opened in one of these instants.

    Args:
        events: what the step of one of them did, or that of the run's own, by which what opened unseen may be over.
        alerts: what it made of the alerts.
        instants: all that were missed.
    """
    closed = [alerts[event.fingerprint] for event in events if event.kind is EventKind.CLOSED]
    return [alert for alert in closed if alert.opened_at in instants]
