"""
One evaluation of a check: read, judge, remember, decide, store.

No Airflow in here: the DAGs' tasks, a run from the shell and the tick runner all call `evaluate_check` with values.
The database work is two short transactions on our side (what is remembered; what became of it) around one read of the
source. State and outbox are written in one transaction under a lock, so that a retry at any step repeats nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.orchestration.check_reading import CheckRead, RunFilters, open_sync_ids, read_for, recall, recall_days
from include.orchestration.decision_lines import write_lines
from include.orchestration.measured_reading import read_own, recall_measured
from include.orchestration.structured_logs import DecisionLog, bound
from include.sync_health.alerts import Alert, AlertEvent, AlertState, EventKind
from include.sync_health.checks import SYNC_FAILURES, Check
from include.sync_health.errors import PolicyError, RequestError, SourceError
from include.sync_health.judgement import TickInput, judge_nothing, judge_tick
from include.sync_health.lifecycle import StepResult, step
from include.sync_health.measured_facts import MeasuredFacts
from include.sync_health.notifications import Decision, decide, owes_a_close
from include.sync_health.observations import Observation, episode_of
from include.sync_health.own_health import judge_surroundings
from include.sync_health.policy import Policy
from include.sync_health.stored_days import StoredDays
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness, EarlierSight, clock_blindness, newest_start
from include.sync_health.windows import RunMode, Window

if TYPE_CHECKING:
    import psycopg

log = DecisionLog("servicetitan.evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """
    What one evaluation needs, all of it values.

    Args:
        check: which rules, and of whom.
        source_conninfo: libpq conninfo of the Hub Plus database, or why there is none: then the source cannot be seen.
        monitoring_conninfo: libpq conninfo of ours.
        policy: what is in force, with its canonical text and version as ``policy_file`` gives them.
        policy_error: why the file on disk is not what is in force; None when it is.
        window: the window; ``as_of`` is the only now that the rules know.
        mode: LIVE moves alerts and sends; HISTORICAL writes history.
        configured: kinds of channel that have a connection.
        now: the wall clock, read once by the caller; aware.
        last_try: False lets a passing trouble with the source raise, for the caller to try again.
        as_baseline: what opens was broken before anybody watched: one summary per channel. Then a source that cannot be
            seen, or not all of it, raises: there is nothing to adopt.
        dry_run: do everything, and undo it: the outcome says what would have been.
    """

    check: Check = SYNC_FAILURES
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
    as_baseline: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation did: counts and ids only, fit for a log line or XCom."""

    run_id: str
    mode: RunMode
    blind: str | None  # the cause, when the source could not be seen
    rows_read: int
    verdicts: Mapping[str, int]
    opened: int
    opened_by_rule: Mapping[str, int]
    closed: int
    deliveries: int
    not_sent: Mapping[str, int]


def evaluate_check(evaluation: Evaluation) -> Outcome:
    """
    Judge one window and store what came of it.

    Raises:
        StorageError: our schema is missing, of another version, or unreachable.
        SourceError: the source was in passing trouble and this is not the last try; or a baseline was to be adopted.
        RequestError: a credential that the filters name does not exist.
    """
    window, mode, dry_run = evaluation.window, str(evaluation.mode), evaluation.dry_run or None
    with bound(
        check=evaluation.check.name, window_from=window.start, window_to=window.as_of, mode=mode, dry_run=dry_run
    ):
        return _evaluate(evaluation)


def _evaluate(evaluation: Evaluation) -> Outcome:
    from include.warehouse import alert_store
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    began = time.monotonic()
    check, policy, as_of = evaluation.check, evaluation.policy, evaluation.window.as_of
    with connect(evaluation.monitoring_conninfo) as conn:
        require_current(conn)
        before = alert_store.load_alerts(conn)
        open_alerts = _judgeable(before, evaluation=evaluation)
        memory = recall(conn, policy=policy, as_of=as_of, alerts=open_alerts)
        stored: StoredDays | None = None
        if evaluation.mode is RunMode.LIVE:  # a trend of the past would be told by days that came after it
            stored = recall_days(conn, check, policy=policy, as_of=as_of, open_alerts=list(open_alerts.values()))
        measured = recall_measured(conn, check, policy=policy, as_of=as_of, mode=evaluation.mode)
        read: CheckRead | None = None
        if not check.reads_source:
            read = read_own(conn, as_of=as_of, filters=evaluation.filters, memory=memory)
        conn.commit()

        doubt: Blindness | None = None
        try:
            if read is None:
                if isinstance(evaluation.source_conninfo, SourceError):
                    raise evaluation.source_conninfo
                read = read_for(
                    check,
                    evaluation.source_conninfo,
                    policy=policy,
                    as_of=as_of,
                    now=evaluation.now,
                    filters=evaluation.filters,
                    memory=memory,
                    open_alerts=list(open_alerts.values()),
                )
                doubt = _clock_doubt(evaluation, newest_started_at=read.read.newest_started_at)
        except SourceError as error:
            if evaluation.as_baseline or (error.transient and not evaluation.last_try):
                raise
            doubt = Blindness(check=check.name, cause=error.cause, detail=str(error))
            log.error(
                "source_not_seen", "cannot see the source (%(cause)s): %(error)s", cause=error.cause, error=str(error)
            )
        except RequestError:
            raise
        except Exception as error:
            if evaluation.as_baseline:
                raise
            # A row that the reader cannot digest must not silence the monitor: somebody is told instead.
            log.exception("source_not_read", "the source could not be read")
            detail = f"the source could not be read: {type(error).__name__}; the log of the task has the details"
            doubt = Blindness(check=check.name, cause="invalid", detail=detail)
        return _store(
            conn,
            evaluation,
            read=read,
            doubt=doubt,
            before=memory.before,
            stored=stored,
            measured=measured,
            began=began,
        )


def _clock_doubt(evaluation: Evaluation, *, newest_started_at: datetime | None) -> Blindness | None:
    """Return what is wrong with the source's newest stamp; a historical run cannot tell what was newest then."""
    found = clock_blindness(
        check=evaluation.check.name,
        newest_started_at=newest_started_at,
        timezone=evaluation.policy.source.timezone,
        now=evaluation.now,
    )
    return None if evaluation.mode is RunMode.HISTORICAL and found and found.cause != "no_rows" else found


def _judgeable(known: Mapping[str, Alert], *, evaluation: Evaluation) -> Mapping[str, Alert]:
    """Return the open alerts, which a historical run does not have: it judges as if nobody had ever watched."""
    if evaluation.mode is not RunMode.LIVE:
        return {}
    return {key: alert for key, alert in known.items() if alert.state is not AlertState.INACTIVE}


def _store(
    conn: psycopg.Connection[Any],
    evaluation: Evaluation,
    *,
    read: CheckRead | None,
    doubt: Blindness | None,
    before: EarlierSight | None,
    stored: StoredDays | None,
    measured: MeasuredFacts,
    began: float,
) -> Outcome:
    """Judge and write in one transaction, under the lock that serialises evaluations."""
    import psycopg

    from include.warehouse import alert_store, check_runs, snapshots

    as_of = evaluation.window.as_of
    with conn.transaction() as transaction:
        alert_store.lock_alerts(conn)
        known = alert_store.load_alerts(conn)
        observations, blindness, untold = _observe(
            evaluation, known, read=read, doubt=doubt, before=before, stored=stored, measured=measured
        )
        if evaluation.as_baseline and blindness is not None:
            raise SourceError(f"no baseline of a source in doubt: {blindness.detail}", cause=blindness.cause)
        result = StepResult(alerts={}, events=())
        decision = Decision(deliveries=(), alerts={})
        if evaluation.mode is RunMode.LIVE:
            breaching = {each.fingerprint for each in observations if each.verdict is Verdict.BREACH}
            known = {**known, **alert_store.load_alerts(conn, fingerprints=breaching - set(known))}
            result = step(known, observations, policy=evaluation.policy, as_of=as_of)
            decision = _decide(evaluation, known, result)
            events: Iterable[AlertEvent] = result.events
            if read is not None and read.is_present:
                # What the source shows now says nothing of an earlier moment.
                snapshots.record_credential_changes(conn, read.credentials, as_of=as_of)
        else:
            events = _history(observations, as_of=as_of)
        alert_store.save_step(
            conn, alerts=decision.alerts.values(), events=events, deliveries=decision.deliveries, now=evaluation.now
        )
        run = _check_run(evaluation, observations, untold=untold, read=read, blindness=blindness, began=began)
        check_runs.record_check_run(conn, run)
        if evaluation.dry_run:
            raise psycopg.Rollback(transaction)
    write_lines(known, observations, result, decision, at_most=evaluation.policy.summary_above)
    return _outcome(evaluation, run=run, result=result, decision=decision, blindness=blindness)


def _decide(evaluation: Evaluation, known: Mapping[str, Alert], result: StepResult) -> Decision:
    """Return what to send of what was judged, and of closes that are still owed."""
    owed = (
        {}
        if evaluation.filters.narrow
        else {
            fingerprint: alert
            for fingerprint, alert in known.items()
            if owes_a_close(alert) and fingerprint not in result.alerts
        }
    )
    return decide(
        {**result.alerts, **owed},
        policy=evaluation.policy,
        as_of=evaluation.window.as_of,
        configured=evaluation.configured,
        may_notify=evaluation.may_notify,
        open_alerts={key: alert for key, alert in known.items() if alert.state.is_open},
        as_baseline=evaluation.as_baseline,
    )


def _observe(
    evaluation: Evaluation,
    known: Mapping[str, Alert],
    *,
    read: CheckRead | None,
    doubt: Blindness | None,
    before: EarlierSight | None,
    stored: StoredDays | None,
    measured: MeasuredFacts,
) -> tuple[list[Observation], Blindness | None, Mapping[str, int]]:
    """Return what this run says, the first reason why it could not see, or not all, and what it counts without saying."""
    as_of, policy, filters = evaluation.window.as_of, evaluation.policy, evaluation.filters
    open_alerts = _judgeable(known, evaluation=evaluation)
    scope = filters.admits if filters.narrow else None
    if read is None:
        if doubt is None:
            raise ValueError("nothing was read, and nobody says why")
        judgement = judge_nothing(
            doubt, check=evaluation.check, open_alerts=open_alerts, policy=policy, as_of=as_of, scope=scope
        )
    else:
        judgement = judge_tick(
            TickInput(
                runs=read.read.runs,
                credentials=read.facts,
                as_of=as_of,
                check=evaluation.check,
                open_alerts=open_alerts,
                missing_sync_ids=read.read.missing_remembered,
                before=before,
                blindness=[doubt] if doubt else [],
                scope=scope,
                whole_environments=filters.whole_environments,
                stored=stored,
                measured=measured,
                tells_all=False,
            ),
            policy=policy,
        )
    observations = list(judgement.observations)
    if evaluation.mode is RunMode.LIVE and scope is None:
        observations += judge_surroundings(
            policy_error=str(evaluation.policy_error) if evaluation.policy_error is not None else None,
            alerts=known,
            policy=policy.rules.monitor_health,
            as_of=as_of,
            now=evaluation.now,
        )
    return observations, next(iter(judgement.blindness), None), judgement.untold


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
    untold: Mapping[str, int],
    read: CheckRead | None,
    blindness: Blindness | None,
    began: float,
) -> Any:
    from include.warehouse.check_runs import CheckRun

    counted = Counter(f"{each.rule}.{each.verdict}" for each in observations) + Counter(untold)
    window, rows = evaluation.window, read.read if read else None
    return CheckRun.of(
        check=evaluation.check.name,
        window_from=window.start,
        window_to=window.as_of,
        mode=str(evaluation.mode),
        filters=evaluation.filters.as_record(),
        status="blind" if blindness else "seen",
        rows_read=rows.rows_read if rows else 0,
        source_ms=rows.ms if rows else 0.0,
        total_ms=(time.monotonic() - began) * 1000,
        verdicts=dict(sorted(counted.items())),
        anomalies=dict(rows.anomalies) if rows else {},
        notes=tuple(rows.notes) if rows else (),
        open_sync_ids=open_sync_ids(read, policy=evaluation.policy, as_of=window.as_of, filters=evaluation.filters),
        newest_started_at=newest_start(rows.runs, as_of=window.as_of) if rows else None,
        error_cause=blindness.cause if blindness else None,
        error=blindness.detail if blindness else None,
        computed_at=evaluation.now,
    )


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
        opened_by_rule=Counter(
            result.alerts[event.fingerprint].rule for event in result.events if event.kind is EventKind.OPENED
        ),
        closed=kinds[EventKind.CLOSED],
        deliveries=sum(delivery.reason is not None for delivery in decision.deliveries),
        not_sent=dict(silent),
    )
    log.info(
        "check_judged",
        "judged %(check)s as of %(window_to)s (%(mode)s): %(rows_read)s rows, verdicts %(verdicts)s, opened %(opened)s, "
        "closed %(closed)s, to send %(deliveries)s, not sent %(not_sent)s",
        check_run_id=outcome.run_id,
        cause=outcome.blind,
        rows_read=outcome.rows_read,
        milliseconds=int(run.total_ms),
        verdicts=outcome.verdicts,
        opened=outcome.opened,
        closed=outcome.closed,
        deliveries=outcome.deliveries,
        not_sent=outcome.not_sent,
    )
    return outcome
