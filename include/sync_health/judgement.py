"""
One tick of the 15-minute check: every rule over the same frames, and the monitor's own health.

A rule that raises does not silence the others: its failure becomes a ``monitor_health`` breach.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.errors import MonitorError
from include.sync_health.failures import judge_consecutive_failures, judge_sync_failures
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy, RuleMode
from include.sync_health.stuck_syncs import judge_stuck_syncs
from include.sync_health.subjects import Subject, subjects_of
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness, blind, open_causes_of, seen_again

SYNC_FAILURES_CHECK = "sync_failures"
"""The 15-minute check, as ``check_run`` and monitor-health alerts name it."""

TICK_RULES = ("sync_failures", "consecutive_failures", "stuck_sync")
"""The rules that the 15-minute check judges, in the order of the design's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickInput:
    """
    What the 15-minute check judges.

    Args:
        runs: `RUN_COLUMNS`, as `include.warehouse.source_reader` reads them.
        credentials: `CREDENTIAL_COLUMNS`.
        as_of: the instant judged; aware.
        open_alerts: the alerts that are open, by fingerprint; empty where there is no memory.
        missing_sync_ids: remembered open runs whose rows are gone.
        blindness: what the reader found that keeps us from seeing although rows were read.
        scope: which credentials this run judges; None for all.
    """

    runs: pd.DataFrame
    credentials: pd.DataFrame
    as_of: datetime
    open_alerts: Mapping[str, Alert] = field(default_factory=dict)
    missing_sync_ids: Collection[str] = ()
    blindness: Sequence[Blindness] = ()
    scope: Callable[[Subject], bool] | None = None


def judge_tick(tick: TickInput, *, policy: Policy, rules: Collection[str] = TICK_RULES) -> list[Observation]:
    """
    Return what the named rules say, in the order of `TICK_RULES`, then the monitor's health.

    Severities are capped by environment. Rules whose mode is ``off`` are left out. With ``blindness`` no rule may say
    CLEAR: what it found stands, but it is no evidence of recovery, and so becomes NO_DATA.
    """
    subjects = subjects_of(tick.credentials)
    observations: list[Observation] = []
    found: list[Blindness] = list(tick.blindness)
    for rule in TICK_RULES:
        if rule not in rules or policy.rules.named(rule).mode is RuleMode.OFF:
            continue
        try:
            frame = _judge(rule, tick, subjects=subjects, policy=policy)
        except (MonitorError, ValueError, KeyError, TypeError) as error:
            found.append(
                Blindness(
                    check=SYNC_FAILURES_CHECK,
                    cause=f"evaluation_{rule}",
                    detail=f"the rule {rule} failed: {type(error).__name__}: {error}",
                )
            )
            continue
        observations += [capped(each, policy=policy) for each in Observation.from_frame(frame)]
    if tick.scope is not None:
        observations = [
            each
            for each in observations
            if each.credential_id is not None and tick.scope(_subject_of(each, subjects=subjects))
        ]
    if tick.blindness:
        observations = [without_evidence(each) for each in observations]
    if tick.scope is None:
        observations += judge_health(found, tick=tick, policy=policy)
    return observations


def judge_nothing(
    found: Blindness, *, open_alerts: Mapping[str, Alert], policy: Policy, as_of: datetime
) -> list[Observation]:
    """
    Return what is left to say when the source could not be read at all.

    The cause of the blindness breaches, unless the rule is off; every open alert of the check gets NO_DATA, so that it
    is frozen and marked stale. Nothing is CLEAR.
    """
    rule = policy.rules.monitor_health
    since = {
        alert.identity["cause"]: alert.opened_at
        for alert in open_alerts.values()
        if alert.rule == "monitor_health" and alert.identity["check"] == found.check
    }
    told = (
        []
        if rule.mode is RuleMode.OFF
        else [blind(found, policy=rule, as_of=as_of, blind_since=since.get(found.cause))]
    )
    return [
        *told,
        *(
            _no_data(alert, reason=f"the source could not be read: {found.cause.replace('_', ' ')}")
            for alert in open_alerts.values()
            if alert.rule in TICK_RULES
        ),
    ]


def judge_health(found: Sequence[Blindness], *, tick: TickInput, policy: Policy) -> list[Observation]:
    """Return a breach for each cause of blindness found, and a CLEAR for each open one that was not."""
    rule = policy.rules.monitor_health
    if rule.mode is RuleMode.OFF:
        return []
    ours = [alert for alert in tick.open_alerts.values() if alert.rule == "monitor_health"]
    since = {(alert.identity["check"], alert.identity["cause"]): alert.opened_at for alert in ours}
    once = {(each.check, each.cause): each for each in found}
    return [
        *(
            blind(each, policy=rule, as_of=tick.as_of, blind_since=since.get((each.check, each.cause)))
            for each in once.values()
        ),
        *seen_again(
            check=SYNC_FAILURES_CHECK,
            open_causes=open_causes_of((alert.identity for alert in ours), check=SYNC_FAILURES_CHECK),
            still_blind=[each.cause for each in once.values()],
            policy=rule,
            as_of=tick.as_of,
        ),
    ]


def capped(observation: Observation, *, policy: Policy) -> Observation:
    """Return the observation with its severity capped by its environment."""
    cap = policy.severity_caps.get(observation.environment or "")
    return replace(observation, severity=observation.severity.capped(cap))


def without_evidence(observation: Observation) -> Observation:
    """Return the observation with a CLEAR turned into NO_DATA: a source we doubt proves no recovery."""
    if observation.verdict is not Verdict.CLEAR:
        return observation
    return replace(observation, verdict=Verdict.NO_DATA, reason="the source cannot be trusted at the moment")


def _no_data(alert: Alert, *, reason: str) -> Observation:
    return Observation(
        rule=alert.rule,
        identity=alert.identity,
        verdict=Verdict.NO_DATA,
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
    )


def _judge(rule: str, tick: TickInput, *, subjects: Mapping[str, Subject], policy: Policy) -> pd.DataFrame:
    ours = [alert.identity for alert in tick.open_alerts.values() if alert.rule == rule]
    if rule == "sync_failures":
        return judge_sync_failures(
            tick.runs,
            subjects=subjects,
            policy=policy.rules.sync_failures,
            as_of=tick.as_of,
            open_credentials={identity["credential"] for identity in ours},
        )
    if rule == "consecutive_failures":
        return judge_consecutive_failures(
            tick.runs,
            subjects=subjects,
            policy=policy.rules.consecutive_failures,
            as_of=tick.as_of,
            open_keys={(identity["credential"], identity["data_type"]) for identity in ours},
        )
    return judge_stuck_syncs(
        tick.runs,
        subjects=subjects,
        policy=policy.rules.stuck_sync,
        as_of=tick.as_of,
        open_lookback=policy.source.open_lookback,
        open_keys={(identity["credential"], identity["sync"]) for identity in ours},
        missing_sync_ids=tick.missing_sync_ids,
    )


def _subject_of(observation: Observation, *, subjects: Mapping[str, Subject]) -> Subject:
    credential_id = observation.credential_id or ""
    return subjects.get(credential_id) or Subject(
        credential_id=credential_id,
        company_id=observation.company_id,
        company_name=observation.company_name,
        environment=observation.environment or "unknown",
    )
