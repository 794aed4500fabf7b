"""
One evaluation of a check: its rules over the same frames, and the monitor's own health.

A rule that raises does not silence the others: its failure becomes a ``monitor_health`` breach.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.checks import PLATFORM_RULES, RULES, SYNC_FAILURES, TREND_RULES, Check
from include.sync_health.credential_facts import ERROR_STATUS, KNOWN_STATUSES
from include.sync_health.frames import id_text
from include.sync_health.measured_facts import NOTHING_MEASURED, MeasuredFacts
from include.sync_health.observations import Observation
from include.sync_health.own_health import RULE_OFF, judge_health, said_of
from include.sync_health.policy import Policy
from include.sync_health.redacted_errors import without_secrets
from include.sync_health.redaction import redact
from include.sync_health.rule_judges import JUDGED_BY, RuleInput, fits_policy
from include.sync_health.rule_policies import RuleMode
from include.sync_health.stored_days import StoredDays
from include.sync_health.subjects import Subject, subjects_of
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import (
    STALE_SOURCE,
    WRONG_TIME_ZONE,
    Blindness,
    EarlierSight,
    doubted,
    silence_blindness,
)

log = logging.getLogger("servicetitan.judgement")

FAILURE_RULES = ("sync_failures", "consecutive_failures")
"""The rules that say whose syncs fail."""

NO_LONGER_JUDGED = "the policy no longer judges this"
IN_DOUBT = "the source cannot be trusted at the moment"
NOTHING_STORED = "the stored days to compare with were not read"
NOT_MEASURED = "what was measured was not read"
NO_LONGER_COUNTED = "nothing of it was counted any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class TickInput:
    """
    What a check judges.

    Args:
        runs: `RUN_COLUMNS`, as `include.warehouse.source_reader` reads them; with `COUNT_COLUMNS` where a rule of
            `include.sync_health.checks.COUNTED_RULES` is judged.
        credentials: `CREDENTIAL_FACT_COLUMNS`.
        as_of: the instant judged; aware.
        check: which rules, and of whom.
        open_alerts: the alerts that are open, by fingerprint; empty where there is no memory.
        missing_sync_ids: remembered open runs whose rows are gone.
        before: what an earlier run saw of the source's newest start; None where nobody remembers.
        blindness: what the reader found that keeps us from seeing although rows were read.
        scope: which credentials this run judges; None for all.
        whole_environments: environments of which ``scope`` leaves nothing out.
        stored: the stored days that `TREND_RULES` compare with; None: those rules are not judged.
        measured: what is measured beside the syncs; a rule whose part of it is None is not judged.
        tells_all: False: CLEAR and NO_DATA of what has no open alert may be counted instead of told, where nothing
            turns on them.
    """

    runs: pd.DataFrame
    credentials: pd.DataFrame
    as_of: datetime
    check: Check = SYNC_FAILURES
    open_alerts: Mapping[str, Alert] = field(default_factory=dict)
    missing_sync_ids: Collection[str] = ()
    before: EarlierSight | None = None
    blindness: Sequence[Blindness] = ()
    scope: Callable[[Subject], bool] | None = None
    whole_environments: Collection[str] = ()
    stored: StoredDays | None = None
    measured: MeasuredFacts = NOTHING_MEASURED
    tells_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What an evaluation says.

    Args:
        observations: of the rules, then of the monitor's own health (that only where the run judges everything).
        blindness: why this run could not see, or not all; also where no alert may say so.
        untold: how many more verdicts there were, by ``rule.verdict``.
    """

    observations: tuple[Observation, ...]
    blindness: tuple[Blindness, ...]
    untold: Mapping[str, int] = field(default_factory=dict)


def judge_tick(tick: TickInput, *, policy: Policy, rules: Collection[str] = RULES) -> Judgement:
    """
    Return what the check says, rule by rule in the order of `RULES`, then the monitor's health.

    Severities are capped by environment. A rule that is off says RETIRED of its open alerts and nothing else. With a
    source in doubt no rule may say CLEAR or REMOVED: what it found stands, but it is no evidence of recovery, and so
    becomes NO_DATA. A rule that raises says NO_DATA of its open alerts. A silent platform is told by ``no_syncs`` where
    that rule breaches, else by the monitor's health; while the time zone is in doubt ``no_syncs`` says nothing.

    Args:
        tick: what was read, and what is remembered.
        policy: thresholds, modes, caps.
        rules: of the check's rules, judge these only.
    """
    subjects = subjects_of(tick.credentials)
    found: list[Blindness] = [*tick.blindness, *_empty_table(tick)]
    silence = _silence(tick, policy=policy)
    if silence is not None:
        found.append(silence)
    believed = _doubts_of_others(tick)
    in_doubt = bool(found or believed)
    said: dict[str, list[Observation]] = {}
    # A doubt, or the scope, would change what is not there to be changed.
    untold: dict[str, Counter[Verdict]] | None = None if tick.tells_all or in_doubt or tick.scope is not None else {}
    for rule in _in_dependency_order(tick.check):
        if rule not in rules or not _is_judged(rule, tick.check, policy=policy):
            continue
        said[rule] = _judge(rule, tick, subjects=subjects, policy=policy, said=said, found=found, untold=untold)
    if silence is not None:
        _tell_silence_once(said, silence, found=found)
    observations = [each for rule in RULES for each in said.get(rule, [])]
    observations = _without_disused(observations, tick, policy=policy)
    if tick.scope is not None:
        observations = [each for each in observations if _in_scope(each, tick, subjects=subjects)]
    if in_doubt:
        observations = [without_evidence(each) for each in observations]
    observations = doubted(observations, causes={*believed, *(each.cause for each in found)})
    if tick.scope is None:
        observations += judge_health(
            found, check=tick.check, open_alerts=tick.open_alerts, policy=policy.rules.monitor_health, as_of=tick.as_of
        )
    counted = {f"{rule}.{each}": count for rule, some in (untold or {}).items() for each, count in some.items()}
    return Judgement(observations=tuple(observations), blindness=tuple(found), untold=counted)


def judge_nothing(
    found: Blindness,
    *,
    check: Check,
    open_alerts: Mapping[str, Alert],
    policy: Policy,
    as_of: datetime,
    scope: Callable[[Subject], bool] | None = None,
) -> Judgement:
    """
    Return what is left to say when the source could not be read at all.

    The cause of the blindness breaches, unless the rule is off, the run judges only some credentials, or another check
    told the same cause; every open alert that the run would have judged gets NO_DATA, so that it is frozen and marked
    stale. Nothing is CLEAR.
    """
    reason = f"the source could not be read: {found.cause.replace('_', ' ')}"
    frozen = [
        said_of(alert, Verdict.RETIRED, reason=RULE_OFF)
        if policy.rules.named(alert.rule).mode is RuleMode.OFF
        else said_of(alert, Verdict.NO_DATA, reason=reason)
        for alert in open_alerts.values()
        if alert.rule in check.all_rules
        and _is_judged(alert.rule, check, policy=policy)
        and (scope is None or scope(_subject_of(alert, subjects={})))
    ]
    told: list[Observation] = []
    if scope is None:
        told = [
            each
            for each in judge_health(
                [found], check=check, open_alerts=open_alerts, policy=policy.rules.monitor_health, as_of=as_of
            )
            if each.verdict is not Verdict.CLEAR
        ]
    return Judgement(observations=(*told, *frozen), blindness=(found,))


def capped(observation: Observation, *, policy: Policy) -> Observation:
    """Return the observation with its severity capped by the policy of its environment."""
    cap = policy.severity_caps.get(observation.environment or "")
    if cap is None or observation.severity.rank <= cap.rank:
        return observation
    return replace(observation, severity=cap)


def without_evidence(observation: Observation) -> Observation:
    """Return the observation with CLEAR and REMOVED turned into NO_DATA: a source we doubt proves neither."""
    if observation.verdict not in (Verdict.CLEAR, Verdict.REMOVED):
        return observation
    return replace(observation, verdict=Verdict.NO_DATA, reason=IN_DOUBT)


def _in_dependency_order(check: Check) -> tuple[str, ...]:
    """Return the check's rules, those that say whose syncs fail first: others are judged of the failing."""
    return tuple(sorted(check.all_rules, key=lambda rule: rule not in FAILURE_RULES))


def _is_judged(rule: str, check: Check, *, policy: Policy) -> bool:
    return rule in check.rules or policy.recheck_open


def _judge(
    rule: str,
    tick: TickInput,
    *,
    subjects: Mapping[str, Subject],
    policy: Policy,
    said: Mapping[str, Sequence[Observation]],
    found: list[Blindness],
    untold: dict[str, Counter[Verdict]] | None,
) -> list[Observation]:
    """Return what one rule says; where it fails, that is added to ``found``, and to ``untold`` what it only counts."""
    ours = [alert for alert in tick.open_alerts.values() if alert.rule == rule]
    if policy.rules.named(rule).mode is RuleMode.OFF:
        return [said_of(alert, Verdict.RETIRED, reason=RULE_OFF) for alert in ours]
    fitting: list[Alert] = []
    retired: list[Observation] = []
    for alert in ours:
        if fits_policy(alert, policy=policy):
            fitting.append(alert)
        else:
            retired.append(said_of(alert, Verdict.RETIRED, reason=NO_LONGER_JUDGED))
    if rule in PLATFORM_RULES and tick.scope is not None and not tick.whole_environments:
        return retired
    chosen = _chosen(rule, tick, ours=fitting, said=said)
    if chosen is not None and not chosen:
        return retired
    if rule in TREND_RULES and tick.stored is None:
        return [*retired, *(said_of(alert, Verdict.NO_DATA, reason=NOTHING_STORED) for alert in fitting)]
    if not tick.measured.has(rule):
        return [*retired, *(said_of(alert, Verdict.NO_DATA, reason=NOT_MEASURED) for alert in fitting)]
    counted: Counter[Verdict] = Counter()
    try:
        frame = JUDGED_BY[rule](
            RuleInput(
                runs=tick.runs,
                credentials=tick.credentials,
                subjects=subjects,
                chosen=chosen,
                open_alerts=fitting,
                missing_sync_ids=tick.missing_sync_ids,
                policy=policy,
                as_of=tick.as_of,
                stored=tick.stored,
                measured=tick.measured,
                untold=None if untold is None else counted,
            )
        )
        if untold is not None:
            untold[rule] = counted
        said_now = [capped(each, policy=policy) for each in Observation.from_frame(frame)]
        if rule == "error_budget":
            # It speaks of the environments that had an event; an open alert of another one has nothing to go by.
            heard = {each.fingerprint for each in said_now}
            said_now += [
                said_of(alert, Verdict.NO_DATA, reason=NO_LONGER_COUNTED)
                for alert in fitting
                if alert.fingerprint not in heard
            ]
        return [*retired, *said_now]
    except Exception as error:  # whatever it is, the other rules must go on, and somebody is told
        log.error("the rule %s failed", rule, exc_info=without_secrets(error))
        # The exception may quote a row, and the record of the run keeps this as it is.
        detail = redact(f"the rule {rule} failed: {type(error).__name__}: {error}")
        found.append(Blindness(check=tick.check.name, cause=f"evaluation_{rule}", detail=detail))
        return [
            *retired,
            *(said_of(alert, Verdict.NO_DATA, reason="the rule could not be evaluated") for alert in fitting),
        ]


def _chosen(
    rule: str, tick: TickInput, *, ours: Sequence[Alert], said: Mapping[str, Sequence[Observation]]
) -> frozenset[str] | None:
    """Return the credentials that the check judges by this rule; None for all."""
    if rule in tick.check.rules:
        return None
    chosen = {alert.credential_id for alert in ours}
    if rule in tick.check.of_failing:
        chosen |= {alert.credential_id for alert in tick.open_alerts.values()}
        failing = (each for name in FAILURE_RULES for each in said.get(name, []))
        chosen |= {each.credential_id for each in failing if each.verdict in (Verdict.BREACH, Verdict.BAND)}
    return frozenset(each for each in chosen if each is not None)


def _tell_silence_once(said: dict[str, list[Observation]], silence: Blindness, *, found: list[Blindness]) -> None:
    """Let one message tell of one silence: the rule's, unless the time zone may explain it."""
    mine = said.get("no_syncs", [])
    if silence.cause == STALE_SOURCE and any(each.verdict is Verdict.BREACH for each in mine):
        found.remove(silence)
    if silence.cause == WRONG_TIME_ZONE:
        said["no_syncs"] = [
            replace(each, verdict=Verdict.NO_DATA, reason=IN_DOUBT) if each.verdict is Verdict.BREACH else each
            for each in mine
        ]


def _silence(tick: TickInput, *, policy: Policy) -> Blindness | None:
    """Return whether rows stopped coming; only a run over everything can tell, and only the one that reads a week."""
    if tick.scope is not None or "no_syncs" not in tick.check.rules:
        return None
    try:
        return silence_blindness(
            tick.runs,
            check=tick.check.name,
            timezone=policy.source.timezone,
            as_of=tick.as_of,
            before=tick.before,
            silent_for=policy.rules.no_syncs.silent_for,
        )
    except Exception as error:  # as for a rule: the others must go on
        log.error("the source's rhythm could not be judged", exc_info=without_secrets(error))
        detail = redact(f"{type(error).__name__}: {error}")
        return Blindness(check=tick.check.name, cause="evaluation_silence", detail=detail)


def _empty_table(tick: TickInput) -> Iterable[Blindness]:
    """Yield that there is no credential at all: a source that lost its tables, not a platform that lost its customers."""
    if tick.check.reads_source and tick.credentials.empty and "no_rows" not in {each.cause for each in tick.blindness}:
        yield Blindness(
            check=tick.check.name,
            cause="no_rows",
            detail="the credentials table has no rows; check that hub_plus_db points at the right database and schema",
        )


def _doubts_of_others(tick: TickInput) -> frozenset[str]:
    """
    Return the open doubts of the 15-minute check, which alone sees the source's rhythm: the others believe it, but one that
    reads nothing of the source.
    """
    if "no_syncs" in tick.check.rules or not tick.check.reads_source:
        return frozenset()
    causes = {alert.identity["cause"] for alert in tick.open_alerts.values() if alert.rule == "monitor_health"}
    return frozenset(causes & {STALE_SOURCE, WRONG_TIME_ZONE})


def _without_disused(observations: list[Observation], tick: TickInput, *, policy: Policy) -> list[Observation]:
    """
    Return the observations with NO_DATA of a credential that somebody took out of use turned into REMOVED.

    Nothing will ever run for it again: an open alert would stay open, and be repeated, until somebody deletes the row.
    The rules over credentials decide this themselves; those over runs do not see the credentials.
    """
    facts = tick.credentials
    out_of_use = set(KNOWN_STATUSES) - {*policy.monitored_statuses, ERROR_STATUS}
    disused = facts[facts["is_recorded"] & facts["connection_status"].isin(out_of_use)]
    status = dict(zip(id_text(disused["credential_id"]), disused["connection_status"], strict=True))
    mine = {alert.fingerprint for alert in tick.open_alerts.values()}
    return [
        replace(
            each,
            verdict=Verdict.REMOVED,
            reason=f"the credential is no longer in use: its status is {status[each.credential_id]}",
        )
        if each.verdict is Verdict.NO_DATA and each.credential_id in status and each.fingerprint in mine
        else each
        for each in observations
    ]


def _in_scope(each: Observation, tick: TickInput, *, subjects: Mapping[str, Subject]) -> bool:
    if each.rule in PLATFORM_RULES:
        return each.environment in tick.whole_environments
    return tick.scope is None or tick.scope(_subject_of(each, subjects=subjects))


def _subject_of(spoken_of: Observation | Alert, *, subjects: Mapping[str, Subject]) -> Subject:
    credential_id = spoken_of.credential_id or ""
    return subjects.get(credential_id) or Subject(
        credential_id=credential_id,
        company_id=spoken_of.company_id,
        company_name=spoken_of.company_name,
        environment=spoken_of.environment or "unknown",
    )
