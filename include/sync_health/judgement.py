"""
One tick of the 15-minute check: every rule over the same frames, and the monitor's own health.

A rule that raises does not silence the others: its failure becomes a ``monitor_health`` breach.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.failures import judge_consecutive_failures, judge_sync_failures
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy, RuleMode
from include.sync_health.stuck_syncs import judge_stuck_syncs
from include.sync_health.subjects import Subject, subjects_of
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness, blind, open_causes_of, seen_again, silence_blindness

SYNC_FAILURES_CHECK = "sync_failures"
"""The 15-minute check, as ``check_run`` and monitor-health alerts name it."""

RULE_OFF = "the rule is off"

log = logging.getLogger("servicetitan.judgement")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What a tick says.

    Args:
        observations: of the rules, then of the monitor's own health (that only where the run judges everything).
        blindness: why this run could not see, or not all; also where no alert may say so.
    """

    observations: tuple[Observation, ...]
    blindness: tuple[Blindness, ...]


def judge_tick(tick: TickInput, *, policy: Policy, rules: Collection[str] = TICK_RULES) -> Judgement:
    """
    Return what the named rules say, in the order of `TICK_RULES`, then the monitor's health.

    Severities are capped by environment. A rule that is off says RETIRED of its open alerts and nothing else. With a
    source in doubt no rule may say CLEAR: what it found stands, but it is no evidence of recovery, and so becomes
    NO_DATA. A rule that raises says NO_DATA of its open alerts.
    """
    subjects = subjects_of(tick.credentials)
    observations: list[Observation] = []
    found: list[Blindness] = list(tick.blindness)
    silence = _silence(tick, policy=policy)
    if silence is not None:
        found.append(silence)
    in_doubt = bool(found)
    for rule in TICK_RULES:
        if rule not in rules:
            continue
        ours = [alert for alert in tick.open_alerts.values() if alert.rule == rule]
        if policy.rules.named(rule).mode is RuleMode.OFF:
            observations += [_said_of(alert, Verdict.RETIRED, reason=RULE_OFF) for alert in ours]
            continue
        try:
            frame = _judge(rule, tick, ours, subjects=subjects, policy=policy)
            observations += [capped(each, policy=policy) for each in Observation.from_frame(frame)]
        except Exception as error:  # whatever it is, the other rules must go on, and somebody is told
            log.exception("the rule %s failed", rule)
            detail = f"the rule {rule} failed: {type(error).__name__}: {error}"
            found.append(Blindness(check=SYNC_FAILURES_CHECK, cause=f"evaluation_{rule}", detail=detail))
            observations += [
                _said_of(alert, Verdict.NO_DATA, reason="the rule could not be evaluated") for alert in ours
            ]
    if tick.scope is not None:
        scope = tick.scope
        observations = [each for each in observations if scope(_subject_of(each, subjects=subjects))]
    if in_doubt:
        observations = [without_evidence(each) for each in observations]
    if tick.scope is None:
        observations += judge_health(found, tick=tick, policy=policy)
    return Judgement(observations=tuple(observations), blindness=tuple(found))


def judge_nothing(
    found: Blindness,
    *,
    open_alerts: Mapping[str, Alert],
    policy: Policy,
    as_of: datetime,
    scope: Callable[[Subject], bool] | None = None,
) -> Judgement:
    """
    Return what is left to say when the source could not be read at all.

    The cause of the blindness breaches, unless the rule is off or the run judges only some credentials; every open alert
    that the run would have judged gets NO_DATA, so that it is frozen and marked stale. Nothing is CLEAR.
    """
    reason = f"the source could not be read: {found.cause.replace('_', ' ')}"
    frozen = [
        _said_of(alert, Verdict.RETIRED, reason=RULE_OFF)
        if policy.rules.named(alert.rule).mode is RuleMode.OFF
        else _said_of(alert, Verdict.NO_DATA, reason=reason)
        for alert in open_alerts.values()
        if alert.rule in TICK_RULES and (scope is None or scope(_subject_of(alert, subjects={})))
    ]
    told: list[Observation] = []
    if scope is None:
        rule = policy.rules.monitor_health
        since = {
            alert.identity["cause"]: alert.opened_at
            for alert in open_alerts.values()
            if alert.rule == "monitor_health" and alert.identity["check"] == found.check
        }
        if rule.mode is not RuleMode.OFF:
            told = [blind(found, policy=rule, as_of=as_of, blind_since=since.get(found.cause))]
    return Judgement(observations=(*told, *frozen), blindness=(found,))


def judge_health(found: Sequence[Blindness], *, tick: TickInput, policy: Policy) -> list[Observation]:
    """Return a breach for each cause of blindness found, and a CLEAR for each open one of the check that was not."""
    rule = policy.rules.monitor_health
    ours = [alert for alert in tick.open_alerts.values() if alert.rule == "monitor_health"]
    if rule.mode is RuleMode.OFF:
        return [_said_of(alert, Verdict.RETIRED, reason=RULE_OFF) for alert in ours]
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


def _said_of(alert: Alert, verdict: Verdict, *, reason: str) -> Observation:
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
    )


def _judge(
    rule: str, tick: TickInput, ours: Sequence[Alert], *, subjects: Mapping[str, Subject], policy: Policy
) -> pd.DataFrame:
    if rule == "sync_failures":
        return judge_sync_failures(
            tick.runs,
            subjects=subjects,
            policy=policy.rules.sync_failures,
            as_of=tick.as_of,
            open_since={alert.identity["credential"]: _last_failure(alert) for alert in ours},
        )
    if rule == "consecutive_failures":
        return judge_consecutive_failures(
            tick.runs,
            subjects=subjects,
            policy=policy.rules.consecutive_failures,
            as_of=tick.as_of,
            open_since={
                (alert.identity["credential"], alert.identity["data_type"]): _last_failure(alert) for alert in ours
            },
        )
    return judge_stuck_syncs(
        tick.runs,
        subjects=subjects,
        policy=policy.rules.stuck_sync,
        as_of=tick.as_of,
        open_lookback=policy.source.open_lookback,
        open_keys={(alert.identity["credential"], alert.identity["sync"]) for alert in ours},
        missing_sync_ids=tick.missing_sync_ids,
    )


def _silence(tick: TickInput, *, policy: Policy) -> Blindness | None:
    """Return whether rows stopped coming; only a run over everything can tell."""
    if tick.scope is not None:
        return None
    try:
        return silence_blindness(
            tick.runs, check=SYNC_FAILURES_CHECK, timezone=policy.source.timezone, as_of=tick.as_of
        )
    except Exception as error:  # as for a rule: the others must go on
        log.exception("the source's rhythm could not be judged")
        return Blindness(
            check=SYNC_FAILURES_CHECK, cause="evaluation_silence", detail=f"{type(error).__name__}: {error}"
        )


def _last_failure(alert: Alert) -> datetime | None:
    """Return the last failure that an open alert knows of, from its evidence."""
    known = alert.evidence.get("last_failed_at")
    return datetime.fromisoformat(known) if isinstance(known, str) else None


def _subject_of(spoken_of: Observation | Alert, *, subjects: Mapping[str, Subject]) -> Subject:
    credential_id = spoken_of.credential_id or ""
    return subjects.get(credential_id) or Subject(
        credential_id=credential_id,
        company_id=spoken_of.company_id,
        company_name=spoken_of.company_name,
        environment=spoken_of.environment or "unknown",
    )
