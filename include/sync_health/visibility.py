"""
Whether the monitor itself can see: the rule ``monitor_health``.

Blindness is never "all clear": an unreadable source, a wrong time zone or an empty window where there should be
rows becomes an alert of its own, and freezes every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from include.sync_health.durations import describe
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import MonitorHealthPolicy
from include.sync_health.verdicts import Verdict

TITLE = "ServiceTitan Monitor Cannot See"

STALE_SOURCE, WRONG_TIME_ZONE = "stale_source", "wrong_time_zone"
"""The causes of a source whose rows stopped coming, and of one whose stamps are off by whole half hours."""

NO_ROWS = "no_rows"
"""The cause of a source that lost the rows of a table."""

OF_AGE = frozenset({"no_syncs", "stale_sync", "stuck_sync"})
"""Rules that breach by how long ago something was, or because nothing is there: with stamps off by hours, or with an
empty table, they would breach of everybody."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSight:
    """The newest start that an earlier run saw, and as of when; both aware."""

    as_of: datetime
    newest_started_at: datetime


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


def doubted(observations: Iterable[Observation], *, causes: Iterable[str]) -> list[Observation]:
    """
    Return what rules said with NO_DATA for what cannot be believed where the source's times or rows are in doubt.

    That is a BREACH of the rules `OF_AGE` (one wrong zone or one lost table is one message, not one for each credential as
    well), and BAND, which no more than CLEAR is known to be so.

    Args:
        observations: of all rules.
        causes: of what is found, or open, of the monitor's own health.
    """
    doubts = sorted({WRONG_TIME_ZONE, NO_ROWS} & set(causes))
    if not doubts:
        return list(observations)
    reason = f"the source is in doubt: {doubts[0].replace('_', ' ')}"
    return [
        replace(each, verdict=Verdict.NO_DATA, reason=reason)
        if each.verdict is Verdict.BAND or (each.verdict is Verdict.BREACH and each.rule in OF_AGE)
        else each
        for each in observations
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
        `SMALLEST_OFFSET` or more: PHP's zone lies east of ``timezone``. In the hour that the clocks of ``timezone`` show
        twice, the earlier of its two instants counts: a stamp without a zone does not say which it was. A lag is for
        `silence_blindness`, which knows the rhythm.
    """
    if newest_started_at is None:
        return Blindness(
            check=check,
            cause=NO_ROWS,
            detail="the sync log table has no rows; check that hub_plus_db points at the right database and schema",
        )
    as_first = newest_started_at.astimezone(ZoneInfo(timezone)).replace(fold=0)
    lead = as_first.astimezone(UTC) - now
    if lead >= SMALLEST_OFFSET:
        return Blindness(
            check=check,
            cause=WRONG_TIME_ZONE,
            detail=(
                f"the newest sync starts {describe(lead)} in the future; source.timezone is {timezone}, "
                "set it to PHP's date.timezone"
            ),
        )
    return None


def silence_blindness(
    runs: pd.DataFrame,
    *,
    check: str,
    timezone: str,
    as_of: datetime,
    before: EarlierSight | None = None,
    silent_for: timedelta = timedelta(hours=2),
) -> Blindness | None:
    """
    Return what a newest start that lags in a way that the week before `as_of` does not explain may mean, or None.

    Stamps that lag may be those of a zone that lies west of ``timezone``, of a replica that stopped following, or of a
    platform that fell silent. None of them is "all clear". What tells them apart is whether rows keep coming: any lag is
    near some zone's offset, but only with a wrong zone did the newest start lag before as well, and moved on since.

    ``wrong_time_zone``: the lag exceeds both `SHORTEST_SILENCE` and `GAP_FACTOR` times the longest gap between two starts of
    the week (nights and weekends are such gaps), is no longer than zones lie apart (`WIDEST_OFFSET`), and the newest start
    lagged ``before`` too and moved on since (or that was less than `SOON` ago), or was on time before and went back since,
    or nobody remembers. (One that did not lag before, hours ago perhaps, moved on until the platform fell silent.)
    ``stale_source``: otherwise, when the lag exceeds both ``silent_for`` and `GAP_FACTOR` times the longest gap.
    Neither is said of fewer than `TELLING_STARTS` starts, or of less than a day of them.

    Args:
        runs: `RUN_COLUMNS`, of a week or more before ``as_of``.
        check: the check that asks.
        timezone: the policy's ``source.timezone``, for the words.
        as_of: the instant judged; aware.
        before: what an earlier run saw; None where nobody remembers.
        silent_for: how long a silence must last, whatever the rhythm, before the source is in doubt.
    """
    now = pd.Timestamp(as_of)
    starts = runs["started_at"]
    starts = starts[(starts <= now) & (starts > now - WEEK)].sort_values()
    if len(starts) < TELLING_STARTS or starts.iloc[-1] - starts.iloc[0] < DAY:
        return None
    newest = starts.iloc[-1]
    lag = now - newest
    unusual = GAP_FACTOR * starts.diff().max()
    shortest = max(SHORTEST_SILENCE, unusual)
    seen = _signs_of_a_zone(newest, before=before, as_of=now, shortest=shortest)
    if shortest < lag <= WIDEST_OFFSET and seen is not None:
        return Blindness(
            check=check,
            cause=WRONG_TIME_ZONE,
            detail=(
                f"the newest sync started {describe(lag.to_pytimedelta())} ago, {seen}; source.timezone is {timezone}: if "
                "PHP's date.timezone is another, set it; else the platform is silent, or a replica stopped following"
            ),
        )
    if lag <= max(silent_for, unusual):
        return None
    return Blindness(
        check=check,
        cause=STALE_SOURCE,
        detail=(
            f"no sync has started for {describe(lag.to_pytimedelta())}, longer than ever in the week before: the platform "
            "is silent, or what we read is not up to date"
        ),
    )


def _signs_of_a_zone(
    newest: pd.Timestamp, *, before: EarlierSight | None, as_of: pd.Timestamp, shortest: timedelta
) -> str | None:
    """Return in words what makes a lag look like a zone's, seen from an earlier sight; None when it looks like silence."""
    if before is None:
        return "longer than any pause in the week before"
    if before.as_of - before.newest_started_at <= shortest:
        # On time then: rows do not go away, but a setting moves all of them.
        went_back = pd.Timestamp(before.newest_started_at) - newest >= SMALLEST_OFFSET
        return "earlier than the newest that was seen before" if went_back else None
    if newest > pd.Timestamp(before.newest_started_at):
        return "although rows keep coming"
    if as_of - before.as_of < SOON:
        return "and it is too soon to tell whether rows keep coming"
    return None


DAY, WEEK = timedelta(days=1), timedelta(days=7)

SOON = timedelta(minutes=15)
"""A newest start that has not moved on for less than a tick of the 15-minute check proves nothing."""

SHORTEST_SILENCE = timedelta(minutes=45)
"""Zones differ by 30 minutes or more, nearly all by whole hours; less than this is too little to tell."""

WIDEST_OFFSET = timedelta(hours=26, minutes=30)
"""From UTC-12 to UTC+14 (the IANA zones that lie farthest apart), and half an hour of the platform's own rhythm."""

GAP_FACTOR = 3
"""How many times the longest gap of the week a silence must last."""

TELLING_STARTS = 50
"""Fewer starts in the week tell nothing about its rhythm."""


def newest_start(runs: pd.DataFrame, *, as_of: datetime) -> datetime | None:
    """Return the newest ``started_at`` up to ``as_of``, which the next run compares with its own; None without any."""
    starts = runs["started_at"]
    newest = starts[starts <= pd.Timestamp(as_of)].max()
    return None if pd.isna(newest) else newest.to_pydatetime()


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
