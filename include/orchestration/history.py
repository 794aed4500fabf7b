"""What a backfill reads and writes by, and which days it has to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from include.orchestration.backfill_days import Which
from include.orchestration.daily_quality_run import require_trusted_times
from include.sync_health.errors import MonitorError

if TYPE_CHECKING:
    from include.sync_health.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """
    What a backfill reads and writes by.

    Args:
        source_conninfo, monitoring_conninfo: of the Hub Plus database, or its replica, and of ours.
        policy: in force; its ``source`` has the connection and the time-out of ``backfill``; errors name these keys.
        as_of: the present moment, by whose day days are final; aware.
    """

    source_conninfo: str
    monitoring_conninfo: str
    policy: Policy
    as_of: datetime


def open_history(*, now: datetime) -> History:
    """
    Return what a backfill reads and writes by, as connections and the policy file say now.

    The last good policy is no substitute for a wrong file here: somebody is there to mend it.

    Raises:
        MonitorError: a connection is missing (with the key ``backfill.connection`` where that names it), the policy is
            wrong, our schema is missing or of another version, or a check doubts the source's time zone.
    """
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.source_session import SourceInForce

    policy = policy_in_force().loaded.policy
    storage = postgres_conninfo(storage_connection())
    with connect(storage) as conn:
        require_current(conn)
    require_trusted_times(storage)
    source = SourceInForce.of(
        policy.source,
        statement_timeout=policy.backfill.statement_timeout,
        timeout_key="backfill.statement_timeout",
    )
    if policy.backfill.connection:
        source = replace(source, connection=policy.backfill.connection, connection_key="backfill.connection")
    try:
        source_conninfo = postgres_conninfo(source.connection)
    except MonitorError as error:
        if not policy.backfill.connection:
            raise
        # Whoever has no such connection need not have it: the key that asks for it may be what is wrong.
        raise MonitorError(f"{source.connection_key}: {error}") from None
    return History(
        source_conninfo=source_conninfo,
        monitoring_conninfo=storage,
        policy=replace(policy, source=source),
        as_of=now,
    )


def wanted_days(history: History, days: Sequence[date], *, which: Which) -> list[date]:
    """
    Return those of some days that are to be restated.

    ``missing`` are those that are not stored as final by today's definitions and in today's reporting time zone: never
    computed, computed otherwise, or still provisional. A day that the zone's calendar skips is none.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    from include.sync_health.daily_quality import CALC_VERSION, day_bounds
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_daily import missing_days

    zone = history.policy.reporting_timezone
    real = [day for day in days if (bounds := day_bounds(day, timezone=zone))[0] < bounds[1]]
    if which is Which.ALL or not real:
        return real
    with connect(history.monitoring_conninfo) as conn:
        missing = set(missing_days(conn, first=min(real), last=max(real), timezone=zone, calc_version=CALC_VERSION))
    return [day for day in real if day in missing]
