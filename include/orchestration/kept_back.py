"""What keeps messages back at this moment, and what was kept back before: read of our own tables for `decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from include.sync_health.alerts import Held, SilentReason
from include.sync_health.muting import Suppressors
from include.sync_health.policy import Policy

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBack:
    """
    What `include.sync_health.notifications.decide` must know of messages that do not go.

    Args:
        suppressors: the silences and mutes that hold now.
        spent: messages to each channel that the budget has counted on this day of the reporting time zone.
        spent_before: by day (ISO), channel and rule, those of the earlier days of which the budget still keeps something
            back.
        held: what the ledger has as kept back, and no summary has told of.
    """

    suppressors: Suppressors
    spent: Mapping[str, int]
    spent_before: Mapping[str, Mapping[str, Mapping[str, int]]]
    held: Sequence[Held]


def kept_back(conn: psycopg.Connection[Any], *, policy: Policy, as_of: datetime, now: datetime) -> KeptBack:
    """
    Return what keeps messages back.

    Args:
        conn: a session on the monitoring schema; nothing is written.
        policy: mutes, and the reporting time zone.
        as_of: the tick, whose day the budget is of; aware.
        now: the wall clock, which silences and mutes go by; aware.

    Raises:
        StorageError: the schema is missing or unreachable.
    """
    from include.warehouse.alert_ledger import held_back, spent_by_rule, spent_since
    from include.warehouse.silences import silences_at

    zone = ZoneInfo(policy.reporting_timezone)
    midnight, held = midnight_before(as_of, zone), held_back(conn)
    days = {midnight_before(each.as_of, zone) for each in held if each.why is SilentReason.BUDGET}
    return KeptBack(
        suppressors=Suppressors(at=now, silences=silences_at(conn, now), mutes=policy.alerting.mutes),
        spent=spent_since(conn, midnight),
        spent_before={
            day.date().isoformat(): spent_by_rule(conn, day, before=midnight_before(day + timedelta(hours=36), zone))
            for day in sorted(days)
            if day < midnight
        },
        held=held,
    )


def midnight_before(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return when the day of an aware instant began in a zone."""
    return instant.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
