"""
The figures of credentials: how many are active or in error, whose tokens expire, and when each last completed a sync.

They are of ``monitoring.credential_snapshot``, which has every credential that the checks saw: as the newest snapshot up to
``as_of`` shows it. A credential that is gone from the source counts nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.credential_facts import ERROR_STATUS
from include.sync_health.policy import ACTIVE_STATUSES
from include.sync_health.rule_policies import TokenExpiryPolicy
from include.warehouse.figures import conditions
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.snapshots import KNOWN_CREDENTIALS
from include.warehouse.stored_values import aware

MONITORED_STATUSES = (*ACTIVE_STATUSES, ERROR_STATUS)
"""The shipped policy's ``credentials.monitored_statuses``."""

LAST_SUCCESS_COLUMNS = (
    "credential_id",  # str
    "company_id",  # str or None
    "company_name",  # str or None
    "environment",  # str
    "connection_status",  # str or None
    "last_success_at",  # datetime64[us, UTC]: exact; NaT: never counted, or the daily figures know of a later day
    "last_success_day",  # datetime.date of the reporting time zone, or None: no success is known at all
    "source",  # str: sync_counter, quality_daily (which knows the day alone), or none
)
"""One row per credential that the source has, those never successful first, then the longest ago, then by id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialCounts:
    """
    The credentials at an instant. All numbers are 0 where no credential was ever seen, and ``seen_at`` is None.

    Args:
        total: that the source has.
        active: with a status of `ACTIVE_STATUSES`.
        connection_errors: with status ``error``.
        by_status: all of them by connection_status, by name; "unknown": without any.
        expiring: tokens that have not expired and do within so long: the literal count. ServiceTitan's own tokens live 15
            minutes, so nearly every credential is among them in perfect health.
        expiring_long_lived: of these, the ones that matter: monitored, with client id and secret, and of a lifetime that
            makes them long-lived.
        expired, expired_long_lived: likewise, of tokens that have expired; exactly at the instant is expired.
        seen_at: when the newest snapshot was taken (UTC). Snapshots are of changes: it may be old in perfect health.
    """

    total: int = 0
    active: int = 0
    connection_errors: int = 0
    by_status: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    expiring: int = 0
    expiring_long_lived: int = 0
    expired: int = 0
    expired_long_lived: int = 0
    seen_at: datetime | None = None


_NEWEST = sql.SQL(
    f"""
    WITH RECURSIVE {KNOWN_CREDENTIALS}, newest AS MATERIALIZED (
        SELECT latest.*
        FROM known CROSS JOIN LATERAL (
            SELECT * FROM monitoring.credential_snapshot AS snapshot
            WHERE snapshot.credential_id = known.credential_id AND snapshot.as_of <= %(as_of)s
            ORDER BY snapshot.as_of DESC LIMIT 1
        ) AS latest
        WHERE NOT latest.is_deleted {{asked}}
    )
    """  # noqa: S608 -- only constants of our own
)

# A lifetime is the longest that a snapshot ever saw a token to have left, a lower bound: one such snapshot is enough, and
# the ORDER BY makes the plan look along the credential's own rows for it.
_COUNTS = sql.SQL(
    """
    {newest}, judged AS (
        SELECT coalesce(connection_status, 'unknown') AS status,
               token_expires_at <= %(as_of)s AS is_expired,
               token_expires_at > %(as_of)s AND token_expires_at <= %(until)s AS is_expiring,
               CASE WHEN token_expires_at <= %(until)s AND has_client_id AND has_client_secret
                         AND connection_status = ANY (%(monitored)s)
                    THEN coalesce((
                        SELECT true FROM monitoring.credential_snapshot AS past
                        WHERE past.credential_id = newest.credential_id AND past.as_of <= %(as_of)s
                          AND past.token_expires_at - past.as_of >= %(long_lived_from)s
                        ORDER BY past.as_of LIMIT 1
                    ), false)
                    ELSE false END AS is_long_lived,
               as_of
        FROM newest
    )
    SELECT status, count(*), count(*) FILTER (WHERE is_expiring), count(*) FILTER (WHERE is_expiring AND is_long_lived),
           count(*) FILTER (WHERE is_expired), count(*) FILTER (WHERE is_expired AND is_long_lived), max(as_of)
    FROM judged GROUP BY status ORDER BY status COLLATE "C"
    """
)

_SUCCESSES = sql.SQL(
    """
    {newest}
    SELECT newest.credential_id, newest.company_id, newest.company_name, coalesce(newest.environment, 'unknown'),
           newest.connection_status, counted.last_at, daily.day
    FROM newest
    LEFT JOIN LATERAL (
        SELECT max(last_at) AS last_at FROM monitoring.sync_counter AS counter
        WHERE counter.credential_id = newest.credential_id AND counter.status = 'completed'
    ) AS counted ON true
    LEFT JOIN LATERAL (
        SELECT day FROM monitoring.quality_daily AS daily
        WHERE daily.credential_id = newest.credential_id AND daily.syncs_completed > 0
        ORDER BY daily.day DESC LIMIT 1
    ) AS daily ON true
    """
)


@storage_errors()
def credential_counts(
    conn: psycopg.Connection[Any],
    *,
    as_of: datetime,
    environment: str | None = None,
    policy: TokenExpiryPolicy | None = None,
    monitored: Collection[str] = MONITORED_STATUSES,
) -> CredentialCounts:
    """
    Return how many credentials there are, how they are, and whose tokens expire.

    A lifetime is that of the rule ``token_expiry`` as far as snapshots tell it; the rule also knows when the source's row
    was last touched, and so may take a token for long-lived a check earlier.

    Args:
        conn: any session; nothing is written or committed; one statement.
        as_of: the instant; aware.
        environment: of this one only; None for all.
        policy: ``within`` and ``long_lived_from`` are looked at; None: the shipped ones, 7 days and 24 hours.
        monitored: the values of ``connection_status`` that are in use.

    Raises:
        ValueError: ``as_of`` is naive.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    limits = policy or TokenExpiryPolicy()
    moment = aware(as_of)
    asked, parameters = conditions({"environment": environment}, prefix="latest")
    rows = conn.execute(
        _COUNTS.format(newest=_NEWEST.format(asked=asked)),
        {
            "as_of": moment,
            "until": _after(moment, limits.within),
            "long_lived_from": limits.long_lived_from,
            "monitored": sorted(monitored),
            **parameters,
        },
    ).fetchall()
    if not rows:
        return CredentialCounts()
    by_status = {str(status): int(count) for status, count, *_ in rows}
    expiring, expiring_long, expired, expired_long = (sum(row[place] for row in rows) for place in range(2, 6))
    return CredentialCounts(
        total=sum(by_status.values()),
        active=sum(by_status.get(status, 0) for status in ACTIVE_STATUSES),
        connection_errors=by_status.get(ERROR_STATUS, 0),
        by_status=MappingProxyType(by_status),
        expiring=expiring,
        expiring_long_lived=expiring_long,
        expired=expired,
        expired_long_lived=expired_long,
        seen_at=max(row[-1] for row in rows).astimezone(UTC),
    )


@storage_errors()
def last_successes(
    conn: psycopg.Connection[Any], *, as_of: datetime, timezone: str, environment: str | None = None
) -> pd.DataFrame:
    """
    Return when each credential last completed a sync: `LAST_SUCCESS_COLUMNS`.

    Exact to the microsecond where ``sync_counter`` counted it. What completed before counting began, or where counting
    lags behind, is known from ``quality_daily``: its day alone. Both are as they are now; ``as_of`` says which credentials.

    Args:
        conn: any session; nothing is written or committed; one statement.
        as_of: the instant whose credentials are told of; aware.
        timezone: the reporting time zone, an IANA name.
        environment: of this one only; None for all.

    Raises:
        ValueError: ``as_of`` is naive.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    asked, parameters = conditions({"environment": environment}, prefix="latest")
    rows = conn.execute(
        _SUCCESSES.format(newest=_NEWEST.format(asked=asked)), {"as_of": aware(as_of), **parameters}
    ).fetchall()
    zone = ZoneInfo(timezone)
    found = [(*row[:5], *_last(row[5], row[6], zone=zone)) for row in rows]
    found.sort(key=lambda row: (row[6] or date.min, row[5] or datetime.max.replace(tzinfo=UTC), row[0]))
    frame = pd.DataFrame(
        {
            name: pd.Series([row[place] for row in found], dtype=object)
            for place, name in enumerate(LAST_SUCCESS_COLUMNS)
        }
    )
    frame["last_success_at"] = pd.to_datetime(frame["last_success_at"], utc=True).astype("datetime64[us, UTC]")
    return frame


def _last(counted: datetime | None, day: date | None, *, zone: ZoneInfo) -> tuple[datetime | None, date | None, str]:
    """Return instant, day and source of a credential's last success."""
    counted_day = None if counted is None else counted.astimezone(zone).date()
    if counted_day is not None and (day is None or day <= counted_day):
        return counted, counted_day, "sync_counter"
    return None, day, "none" if day is None else "quality_daily"


def _after(moment: datetime, duration: timedelta) -> datetime:
    try:
        return moment + duration
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
