"""
Whether the monitor itself can see: the rule ``monitor_health``.

Blindness is never "all clear": an unreadable source, a wrong time zone or an empty window where there should be
rows becomes an alert of its own, and freezes every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.sync_health.durations import describe
from include.sync_health.observations import Observation
from include.sync_health.policy import MonitorHealthPolicy
from include.sync_health.verdicts import Verdict

TITLE = "ServiceTitan Monitor Cannot See"

SMALLEST_OFFSET = timedelta(minutes=25)
"""Below this, a stamp in the future is a clock that runs ahead, not a time zone (zones differ by 30 minutes or more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """
    Why a check could not see.

    Args:
        check: the check, such as ``sync_failures``.
        cause: one word, part of the alert's identity: see `SourceError`.
        detail: what was found, and the fix; one line.
    """

    check: str
    cause: str
    detail: str


def blind(
    found: Blindness, *, policy: MonitorHealthPolicy, as_of: datetime, blind_since: datetime | None = None
) -> Observation:
    """
    Return the breach of a check that cannot see.

    Args:
        found: the check, the cause and the detail.
        policy: the rule's severity.
        as_of: the instant judged; aware.
        blind_since: when the open alert for this began; None when it begins now.
    """
    return _observation(
        check=found.check,
        cause=found.cause,
        verdict=Verdict.BREACH,
        policy=policy,
        message=f"{found.check}: {found.detail}",
        since=blind_since or as_of,
        reason=f"the check could not be made: {found.cause.replace('_', ' ')}",
    )


def seen_again(
    *,
    check: str,
    open_causes: Iterable[str],
    still_blind: Iterable[str] = (),
    policy: MonitorHealthPolicy,
    as_of: datetime,
) -> list[Observation]:
    """
    Return a CLEAR for each open cause of a check that has been made again.

    Args:
        check: the check that could see.
        open_causes: the causes whose alerts are open.
        still_blind: causes that this run found again: no CLEAR for them.
        policy: the rule's severity.
        as_of: the instant judged; aware.
    """
    return [
        _observation(
            check=check,
            cause=cause,
            verdict=Verdict.CLEAR,
            policy=policy,
            message=f"{check}: seen again",
            since=as_of,
            reason="the check was made again",
        )
        for cause in sorted(set(open_causes) - set(still_blind))
    ]


def clock_blindness(
    *, check: str, newest_started_at: datetime | None, timezone: str, now: datetime
) -> Blindness | None:
    """
    Return what is wrong with the source's newest stamp, or None.

    Meant for live runs: history cannot tell what was newest then.

    Args:
        check: the check that asks.
        newest_started_at: the newest plausible ``started_at`` of the whole table; aware; None when it has no row.
        timezone: the policy's ``source.timezone``, for the words.
        now: the wall clock; aware.

    Returns:
        ``no_rows`` when the table is empty; ``wrong_time_zone`` when the newest stamp leads the clock by
        `SMALLEST_OFFSET` or more: PHP's zone lies east of ``timezone``. (A lag alone proves nothing: where syncs run on the hour, the newest
        row is an hour old at every tick. `doctor` points at it.)
    """
    if newest_started_at is None:
        return Blindness(
            check=check,
            cause="no_rows",
            detail="the sync log table has no rows; check that hub_plus_db points at the right database and schema",
        )
    lead = newest_started_at - now
    if lead >= SMALLEST_OFFSET:
        return Blindness(
            check=check,
            cause="wrong_time_zone",
            detail=(
                f"the newest sync starts {describe(lead)} in the future; source.timezone is {timezone}, "
                "set it to PHP's date.timezone"
            ),
        )
    return None


def open_causes_of(identities: Iterable[Mapping[str, str]], *, check: str) -> set[str]:
    """Return the causes of a check's open monitor-health alerts, from their identities."""
    return {identity["cause"] for identity in identities if identity["check"] == check}


def _observation(
    *, check: str, cause: str, verdict: Verdict, policy: MonitorHealthPolicy, message: str, since: datetime, reason: str
) -> Observation:
    metadata: dict[str, Any] = {"check": check, "cause": cause, "since": since.isoformat()}
    return Observation(
        rule="monitor_health",
        identity={"check": check, "cause": cause},
        verdict=verdict,
        severity=policy.severity,
        title=TITLE,
        message=message,
        metadata=metadata,
        reason=reason,
    )
