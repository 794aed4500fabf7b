"""
What a check says of the monitor's own health: the causes of its blindness, each told once.

Three checks read one source, so one trouble with it would be three messages. The first check that finds a cause tells
it; the others stay silent while that alert is open. What concerns the source as a whole is over when the 15-minute
check has seen it, whichever check told it; what concerns one check's own reading only that check can see again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from include.sync_health.alerts import Alert, AlertState
from include.sync_health.checks import CHECKS, SYNC_FAILURES, Check
from include.sync_health.durations import describe
from include.sync_health.health_resources import CheckState
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import MonitorHealthPolicy, RuleMode
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import STALE_SOURCE, WRONG_TIME_ZONE, Blindness, blind, open_causes_of, seen_again
from include.sync_health.windows import CLOCK_SKEW

RULE_OFF = "the rule is off"

WHOLE_SOURCE = frozenset(
    {
        "unreachable",
        "not_configured",
        "missing_table",
        "ambiguous_table",
        "no_rows",
        WRONG_TIME_ZONE,
        STALE_SOURCE,
    }
)
"""Causes that no check can have alone: that one of them has read the source is evidence for all."""

CHECK_NAMES = frozenset(CHECKS)
"""The checks that read the source."""

POLICY_CHECK, CLOCK_CHECK, DELIVERY_CHECK = "policy", "clock", "delivery"
"""The check names under which a wrong policy file, a clock that went back and a channel that refuses us (its key is the
cause) are monitor-health alerts."""

OVERDUE = "overdue"
"""The cause of a check that has not run for too long; only another check can tell."""

OVERDUE_AFTER = 2
"""Times its interval, after which a check that has not run is overdue: one late run is no outage."""


def judge_health(
    found: Sequence[Blindness],
    *,
    check: Check,
    open_alerts: Mapping[str, Alert],
    policy: MonitorHealthPolicy,
    as_of: datetime,
) -> list[Observation]:
    """
    Return a breach for each cause found, and a CLEAR for each open one of the check that was not.

    A cause that another check has told, and whose alert is open, is not told again: the 15-minute check confirms that
    alert instead. The 15-minute check says CLEAR of the other checks' `WHOLE_SOURCE` causes too.

    Args:
        found: what keeps the check from seeing.
        check: the check.
        open_alerts: all that are open, by fingerprint.
        policy: of the rule ``monitor_health``; off: its open alerts are RETIRED.
        as_of: the instant judged; aware.
    """
    alerts = [alert for alert in open_alerts.values() if alert.rule == "monitor_health"]
    if policy.mode is RuleMode.OFF:
        return [said_of(alert, Verdict.RETIRED, reason=RULE_OFF) for alert in alerts]
    alerts = [alert for alert in alerts if alert.identity["check"] in {*CHECK_NAMES, check.name}]
    opened = {(alert.identity["check"], alert.identity["cause"]): alert.opened_at for alert in alerts}
    confirms = check.name == SYNC_FAILURES.name
    observations: list[Observation] = []
    for cause, detail in {each.cause: each.detail for each in found}.items():
        telling = [name for name, its_cause in opened if its_cause == cause]
        speakers: Iterable[str] = [check.name]
        if telling and check.name not in telling:
            speakers = telling if confirms else []
        observations += [
            blind(
                Blindness(check=name, cause=cause, detail=detail),
                policy=policy,
                as_of=as_of,
                blind_since=opened.get((name, cause)),
            )
            for name in speakers
        ]
    still = [each.cause for each in found]
    for name in sorted({check.name, *CHECK_NAMES} if confirms else {check.name}):
        causes = open_causes_of((alert.identity for alert in alerts), check=name)
        if name != check.name:
            causes &= WHOLE_SOURCE
        observations += seen_again(check=name, open_causes=causes, still_blind=still, policy=policy, as_of=as_of)
    return observations


def judge_surroundings(
    *,
    policy_error: str | None,
    alerts: Mapping[str, Alert],
    policy: MonitorHealthPolicy,
    as_of: datetime,
    now: datetime,
    check: str,
    found_beside: Sequence[Blindness] = (),
) -> list[Observation]:
    """
    Return what a run says of the monitor beside what it could see, or the CLEAR of what is right again.

    A wrong policy file and a clock that went back are found here; `overdue_checks` and `refusing_channels` find the rest.

    Args:
        policy_error: why the file on disk is not what is in force; None when it is.
        alerts: all that are known, by fingerprint, closed ones too.
        policy: of the rule ``monitor_health``; off: nothing is said.
        as_of: the instant judged; aware.
        now: the wall clock; aware.
        check: the check that runs; of itself it does not say that it is overdue, nor that it is no longer.
        found_beside: checks that are overdue and channels that refuse us.
    """
    if policy.mode is RuleMode.OFF:
        return []
    found = list(found_beside)
    if policy_error is not None:
        detail = f"the policy file is wrong, the last good one stays in force: {policy_error}"
        found.append(Blindness(check=POLICY_CHECK, cause="invalid", detail=detail))
    ahead = [alert.last_as_of for alert in alerts.values() if alert.last_as_of > now + CLOCK_SKEW]
    if ahead:
        detail = (
            f"{len(ahead)} alerts were last judged as of {max(ahead).isoformat()}, which lies in the future: the clock was "
            "once ahead, and they stay as they are until that time has come"
        )
        found.append(Blindness(check=CLOCK_CHECK, cause="went_back", detail=detail))
    ours = [
        alert for alert in alerts.values() if alert.rule == "monitor_health" and alert.state is not AlertState.INACTIVE
    ]
    since = {(alert.identity["check"], alert.identity["cause"]): alert.opened_at for alert in ours}
    observations = [
        blind(each, policy=policy, as_of=as_of, blind_since=since.get((each.check, each.cause))) for each in found
    ]
    others = {alert.identity["check"] for alert in ours if alert.identity["cause"] == OVERDUE} - {check}
    for name in (POLICY_CHECK, CLOCK_CHECK, DELIVERY_CHECK, *sorted(others)):
        causes = open_causes_of((alert.identity for alert in ours), check=name)
        observations += seen_again(
            check=name,
            open_causes=causes & {OVERDUE} if name in others else causes,
            still_blind=[each.cause for each in found if each.check == name],
            policy=policy,
            as_of=as_of,
        )
    return observations


def overdue_checks(states: Mapping[str, CheckState], *, check: str, as_of: datetime) -> list[Blindness]:
    """
    Return the checks that have not run for longer than `OVERDUE_AFTER` intervals.

    One that never ran is not overdue: its DAG may never have been switched on. Nor is any while the check that asks was
    not running itself: when Airflow comes back after a night, its first run must not accuse the others.

    Args:
        states: the newest run of each check, by name.
        check: the check that asks; it runs, and is left out.
        as_of: the instant judged; aware.
    """
    asking = states.get(check)
    watched_until = asking.window_to if asking is not None else None
    if watched_until is None:
        return []
    return [
        Blindness(
            check=name,
            cause=OVERDUE,
            detail=(
                f"the check has not run for {describe(as_of - state.window_to)}, and is due every {describe(state.every)}; "
                "is its DAG paused, or Airflow busy?"
            ),
        )
        for name, state in sorted(states.items())
        if name != check
        and state.window_to is not None
        and min(watched_until, as_of) - state.window_to > OVERDUE_AFTER * state.every
    ]


def refusing_channels(refusals: Mapping[str, str]) -> list[Blindness]:
    """
    Return the channels that refuse whatever we send.

    Args:
        refusals: what each of them said last, redacted, by channel key.
    """
    return [
        Blindness(
            check=DELIVERY_CHECK,
            cause=channel,
            detail=f"{channel} refuses our messages: {said}; run `python -m include.cli doctor`",
        )
        for channel, said in sorted(refusals.items())
    ]


def said_of(alert: Alert, verdict: Verdict, *, reason: str) -> Observation:
    """Return a verdict on an open alert that no frame speaks of, in the alert's own words."""
    return Observation(
        rule=alert.rule,
        identity=alert.identity,
        verdict=verdict,
        severity=alert.severity,
        title=alert.title,
        message=alert.message,
        reason=reason,
        credential_id=alert.credential_id,
        company_id=alert.company_id,
        company_name=alert.company_name,
        environment=alert.environment,
        data_type=alert.data_type,
        metadata=alert.metadata,
        error_class=alert.error_class,
        cause=alert.cause,
        evidence=alert.evidence,
    )
