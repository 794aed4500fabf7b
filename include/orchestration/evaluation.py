"""
One evaluation of the 15-minute check: read, judge, remember, decide, store.

No Airflow in here: the DAG's task, a run from the shell and a replay all call `evaluate_sync_failures` with values.
The database work is two short transactions on our side (what is remembered; what became of it) around one read of the
source. State and outbox are written in one transaction under a lock, so that a retry at any step repeats nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.orchestration.tick_source import RunFilters, read_source
from include.sync_health.alerts import Alert, AlertEvent, AlertState, EventKind
from include.sync_health.errors import PolicyError, RequestError, SourceError
from include.sync_health.judgement import (
    SYNC_FAILURES_CHECK,
    TickInput,
    judge_nothing,
    judge_tick,
)
from include.sync_health.lifecycle import StepResult, step
from include.sync_health.notifications import Decision, decide, owes_a_close
from include.sync_health.observations import Observation, episode_of
from include.sync_health.policy import Policy, RuleMode
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness, blind, clock_blindness, open_causes_of, seen_again
from include.sync_health.windows import CLOCK_SKEW, RunMode, Window

if TYPE_CHECKING:
    import psycopg

    from include.warehouse.source_reader import RunsRead

log = logging.getLogger("servicetitan.evaluation")

POLICY_CHECK, CLOCK_CHECK = "policy", "clock"
"""The check names under which a wrong policy file and a clock that went back are monitor-health alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """
    What one evaluation needs, all of it values.

    Args:
        source_conninfo: libpq conninfo of the Hub Plus database, or why there is none: then the source cannot be seen.
        monitoring_conninfo: libpq conninfo of ours.
        policy: what is in force, with its canonical text and version as ``policy_file`` gives them.
        policy_error: why the file on disk is not what is in force; None when it is.
        window: the window; ``as_of`` is the only now that the rules know.
        mode: LIVE moves alerts and sends; HISTORICAL writes history.
        configured: kinds of channel that have a connection.
        now: the wall clock, read once by the caller; aware.
        last_try: False lets a passing trouble with the source raise, for the caller to try again.
    """

    source_conninfo: str | SourceError
    monitoring_conninfo: str
    policy: Policy
    policy_error: PolicyError | None = None
    window: Window
    mode: RunMode
    filters: RunFilters = field(default_factory=RunFilters)
    configured: Collection[str] = ()
    may_notify: bool = True
    now: datetime
    last_try: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation did: counts and ids only, fit for a log line or XCom."""

    run_id: str
    mode: RunMode
    blind: str | None  # the cause, when the source could not be seen
    rows_read: int
    verdicts: Mapping[str, int]
    opened: int
    closed: int
    deliveries: int
    not_sent: Mapping[str, int]


def evaluate_sync_failures(evaluation: Evaluation) -> Outcome:
    """
    Judge one window and store what came of it.

    Raises:
        StorageError: our schema is missing, of another version, or unreachable.
        SourceError: the source was in passing trouble and this is not the last try.
    """
    from include.warehouse import alert_store, check_runs
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    began = time.monotonic()
    with connect(evaluation.monitoring_conninfo) as conn:
        require_current(conn)
        before = alert_store.load_alerts(conn)
        last_seen = check_runs.last_seen_run(conn, check=SYNC_FAILURES_CHECK)
        conn.commit()

        remembered = _remembered_open(last_seen, before, evaluation=evaluation)
        try:
            if isinstance(evaluation.source_conninfo, SourceError):
                raise evaluation.source_conninfo
            read, credentials = read_source(
                evaluation.source_conninfo,
                policy=evaluation.policy,
                as_of=evaluation.window.as_of,
                filters=evaluation.filters,
                remembered=remembered,
            )
        except SourceError as error:
            if error.transient and not evaluation.last_try:
                raise
            found = Blindness(check=SYNC_FAILURES_CHECK, cause=error.cause, detail=str(error))
            log.error("cannot see the source (%s): %s", error.cause, error)
            return _store(conn, evaluation, read=None, credentials=None, doubt=found, began=began)
        except RequestError:
            raise
        except Exception as error:
            # A row that the reader cannot digest must not silence the monitor: somebody is told instead.
            log.exception("the source could not be read")
            detail = f"the source could not be read: {type(error).__name__}; the log of the task has the details"
            found = Blindness(check=SYNC_FAILURES_CHECK, cause="invalid", detail=detail)
            return _store(conn, evaluation, read=None, credentials=None, doubt=found, began=began)
        found_anyway = clock_blindness(
            check=SYNC_FAILURES_CHECK,
            newest_started_at=read.newest_started_at,
            timezone=evaluation.policy.source.timezone,
            now=evaluation.now,
        )
        if evaluation.mode is RunMode.HISTORICAL and found_anyway and found_anyway.cause != "no_rows":
            found_anyway = None
        return _store(conn, evaluation, read=read, credentials=credentials, doubt=found_anyway, began=began)


def _remembered_open(last_seen: Any, alerts: Mapping[str, Alert], *, evaluation: Evaluation) -> Sequence[str] | None:
    """
    Return the ids of runs known to be open, or None where there is no memory and the reader must look back.

    A memory newer than the window (a late or historical run) knows nothing of what was open then; one older than the
    slack has a hole in it.
    """
    as_of = evaluation.window.as_of
    stuck = [alert.identity["sync"] for alert in alerts.values() if alert.rule == "stuck_sync" and alert.state.is_open]
    if last_seen is None or last_seen.open_sync_ids is None:
        return None
    if not timedelta(0) <= as_of - last_seen.window_to <= evaluation.policy.source.id_slack:
        return None
    return sorted({*last_seen.open_sync_ids, *stuck})


def _store(
    conn: psycopg.Connection[Any],
    evaluation: Evaluation,
    *,
    read: RunsRead | None,
    credentials: Any,
    doubt: Blindness | None,
    began: float,
) -> Outcome:
    """Judge and write in one transaction, under the lock that serialises evaluations."""
    from include.warehouse import alert_store, check_runs, snapshots

    as_of, policy = evaluation.window.as_of, evaluation.policy
    with conn.transaction():
        alert_store.lock_alerts(conn)
        known = alert_store.load_alerts(conn)
        observations, blindness = _observe(evaluation, known, read=read, credentials=credentials, doubt=doubt)
        result = StepResult(alerts={}, events=())
        decision = Decision(deliveries=(), alerts={})
        if evaluation.mode is RunMode.LIVE:
            breaching = {each.fingerprint for each in observations if each.verdict is Verdict.BREACH}
            known = {**known, **alert_store.load_alerts(conn, fingerprints=breaching - set(known))}
            result = step(known, observations, policy=policy, as_of=as_of)
            owed = (
                {}
                if evaluation.filters.narrow
                else {
                    fingerprint: alert
                    for fingerprint, alert in known.items()
                    if owes_a_close(alert) and fingerprint not in result.alerts
                }
            )
            decision = decide(
                {**result.alerts, **owed},
                policy=policy,
                as_of=as_of,
                configured=evaluation.configured,
                may_notify=evaluation.may_notify,
            )
            events: Iterable[AlertEvent] = result.events
            if credentials is not None:
                snapshots.record_credential_changes(conn, credentials, as_of=as_of)
        else:
            events = _history(observations, as_of=as_of)
        alert_store.save_step(
            conn, alerts=decision.alerts.values(), events=events, deliveries=decision.deliveries, now=evaluation.now
        )
        run = _check_run(evaluation, observations, read=read, blindness=blindness, began=began)
        check_runs.record_check_run(conn, run)
    return _outcome(evaluation, run=run, result=result, decision=decision, blindness=blindness)


def _observe(
    evaluation: Evaluation,
    known: Mapping[str, Alert],
    *,
    read: RunsRead | None,
    credentials: Any,
    doubt: Blindness | None,
) -> tuple[list[Observation], Blindness | None]:
    """Return what this run says, and the first reason why it could not see, or not all."""
    as_of, policy = evaluation.window.as_of, evaluation.policy
    live = evaluation.mode is RunMode.LIVE
    open_alerts = {key: alert for key, alert in known.items() if live and alert.state is not AlertState.INACTIVE}
    scope = evaluation.filters.admits if evaluation.filters.narrow else None
    if read is None:
        if doubt is None:
            raise ValueError("nothing was read, and nobody says why")
        judgement = judge_nothing(doubt, open_alerts=open_alerts, policy=policy, as_of=as_of, scope=scope)
    else:
        judgement = judge_tick(
            TickInput(
                runs=read.runs,
                credentials=credentials,
                as_of=as_of,
                open_alerts=open_alerts,
                missing_sync_ids=read.missing_remembered,
                blindness=[doubt] if doubt else [],
                scope=scope,
            ),
            policy=policy,
        )
    observations = list(judgement.observations)
    if live and scope is None:
        observations += _own_health(evaluation, known)
    return observations, next(iter(judgement.blindness), None)


def _own_health(evaluation: Evaluation, known: Mapping[str, Alert]) -> list[Observation]:
    """Return the breaches of a wrong policy file and of a clock that went back, or the CLEAR of what is right again."""
    rule, as_of = evaluation.policy.rules.monitor_health, evaluation.window.as_of
    if rule.mode is RuleMode.OFF:
        return []
    found = []
    if evaluation.policy_error is not None:
        detail = f"the policy file is wrong, the last good one stays in force: {evaluation.policy_error}"
        found.append(Blindness(check=POLICY_CHECK, cause="invalid", detail=detail))
    ahead = [alert.last_as_of for alert in known.values() if alert.last_as_of > evaluation.now + CLOCK_SKEW]
    if ahead:
        detail = (
            f"{len(ahead)} alerts were last judged as of {max(ahead).isoformat()}, which lies in the future: the clock was "
            "once ahead, and they stay as they are until that time has come"
        )
        log.error(detail)
        found.append(Blindness(check=CLOCK_CHECK, cause="went_back", detail=detail))
    ours = [
        alert for alert in known.values() if alert.rule == "monitor_health" and alert.state is not AlertState.INACTIVE
    ]
    since = {(alert.identity["check"], alert.identity["cause"]): alert.opened_at for alert in ours}
    observations = [
        blind(each, policy=rule, as_of=as_of, blind_since=since.get((each.check, each.cause))) for each in found
    ]
    for check in (POLICY_CHECK, CLOCK_CHECK):
        observations += seen_again(
            check=check,
            open_causes=open_causes_of((alert.identity for alert in ours), check=check),
            still_blind=[each.cause for each in found if each.check == check],
            policy=rule,
            as_of=as_of,
        )
    return observations


def _history(observations: Iterable[Observation], *, as_of: datetime) -> list[AlertEvent]:
    """Return a historical run's breaches as events: history, and nothing but history."""
    return [
        AlertEvent(
            fingerprint=each.fingerprint,
            episode_id=episode_of(each.fingerprint, as_of),
            as_of=as_of,
            kind=EventKind.OBSERVED,
            severity=each.severity,
            reason=each.reason,
        )
        for each in observations
        if each.verdict is Verdict.BREACH
    ]


def _check_run(
    evaluation: Evaluation,
    observations: Iterable[Observation],
    *,
    read: RunsRead | None,
    blindness: Blindness | None,
    began: float,
) -> Any:
    from include.warehouse.check_runs import CheckRun

    counted = Counter(f"{each.rule}.{each.verdict}" for each in observations)
    window = evaluation.window
    return CheckRun.of(
        check=SYNC_FAILURES_CHECK,
        window_from=window.start,
        window_to=window.as_of,
        mode=str(evaluation.mode),
        filters=evaluation.filters.as_record(),
        status="blind" if blindness else "seen",
        rows_read=read.rows_read if read else 0,
        source_ms=read.ms if read else 0.0,
        total_ms=(time.monotonic() - began) * 1000,
        verdicts=dict(sorted(counted.items())),
        anomalies=dict(read.anomalies) if read else {},
        notes=tuple(read.notes) if read else (),
        open_sync_ids=_open_sync_ids(read, evaluation),
        error_cause=blindness.cause if blindness else None,
        error=blindness.detail if blindness else None,
        computed_at=evaluation.now,
    )


def _open_sync_ids(read: RunsRead | None, evaluation: Evaluation) -> tuple[str, ...] | None:
    """Return the ids open at ``as_of`` for the next run to remember; None when this run did not see them all."""
    from include.sync_health.stuck_syncs import was_open

    if read is None or evaluation.filters.narrow:
        return None
    still = read.runs[was_open(read.runs, as_of=evaluation.window.as_of)]
    kept = still[evaluation.window.as_of - still["started_at"] <= evaluation.policy.source.open_lookback]
    return tuple(kept["sync_id"].astype(str))


def _outcome(
    evaluation: Evaluation, *, run: Any, result: StepResult, decision: Decision, blindness: Blindness | None
) -> Outcome:
    kinds = Counter(event.kind for event in result.events)
    silent = Counter(str(delivery.silent) for delivery in decision.deliveries if delivery.silent is not None)
    outcome = Outcome(
        run_id=str(run.run_id),
        mode=evaluation.mode,
        blind=blindness.cause if blindness else None,
        rows_read=run.rows_read,
        verdicts=run.verdicts,
        opened=kinds[EventKind.OPENED],
        closed=kinds[EventKind.CLOSED],
        deliveries=sum(delivery.reason is not None for delivery in decision.deliveries),
        not_sent=dict(silent),
    )
    log.info(
        "judged %s as of %s (%s): %d rows, verdicts %s, opened %d, closed %d, to send %d, not sent %s",
        SYNC_FAILURES_CHECK,
        evaluation.window.as_of.isoformat(),
        evaluation.mode,
        outcome.rows_read,
        dict(outcome.verdicts),
        outcome.opened,
        outcome.closed,
        outcome.deliveries,
        dict(outcome.not_sent),
    )
    return outcome
