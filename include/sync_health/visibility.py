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

import pandas as pd

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
        `SMALLEST_OFFSET` or more: PHP's zone lies east of ``timezone``. A lag is for `silence_blindness`, which knows the rhythm.
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


def silence_blindness(runs: pd.DataFrame, *, check: str, timezone: str, as_of: datetime) -> Blindness | None:
    """
    Return ``stale_source`` when rows stopped coming in a way that the week before `as_of` does not explain, or None.

    A zone that lies west of ``timezone`` looks just like that: stamps that lag by whole hours. So does a replica that
    stopped following, and a platform that fell silent. None of them is "all clear".

    The lag of the newest start must exceed both `SHORTEST_SILENCE` and `GAP_FACTOR` times the longest gap between two
    starts of the week (nights and weekends are such gaps), given at least `TELLING_STARTS` starts over a day or more.

    Args:
        runs: `RUN_COLUMNS`, of a week or more before ``as_of``.
        check: the check that asks.
        timezone: the policy's ``source.timezone``, for the words.
        as_of: the instant judged; aware.
    """
    now = pd.Timestamp(as_of)
    starts = runs["started_at"]
    starts = starts[(starts <= now) & (starts > now - WEEK)].sort_values()
    if len(starts) < TELLING_STARTS or starts.iloc[-1] - starts.iloc[0] < DAY:
        return None
    lag = now - starts.iloc[-1]
    if lag <= max(SHORTEST_SILENCE, GAP_FACTOR * starts.diff().max()):
        return None
    hours = round(lag / HOUR)
    zone = f"; if PHP's date.timezone is not {timezone}, set source.timezone (the lag is about {hours} h)"
    return Blindness(
        check=check,
        cause="stale_source",
        detail=(
            f"no sync has started for {describe(lag.to_pytimedelta())}, longer than ever in the week before: the platform "
            f"is silent, or what we read is not up to date{zone if abs(lag - hours * HOUR) <= MINUTES_OFF else ''}"
        ),
    )


HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)

SHORTEST_SILENCE = timedelta(minutes=45)
"""Zones differ by 30 minutes or more, nearly all by whole hours; less than this is too little to tell."""

GAP_FACTOR = 3
"""How many times the longest gap of the week a silence must last."""

TELLING_STARTS = 50
"""Fewer starts in the week tell nothing about its rhythm."""

MINUTES_OFF = timedelta(minutes=15)
"""How near to whole hours a lag must be for the words to point at the time zone first."""


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
