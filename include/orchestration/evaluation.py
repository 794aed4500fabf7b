"""
One evaluation of a check: read, judge, remember, decide, store.

No Airflow in here: the DAGs' tasks, a run from the shell and the tick runner all call `evaluate_check` with values.
The database work is two short transactions on our side (what is remembered; what became of it) around one read of the
source. State and outbox are written in one transaction under a lock, so that a retry at any step repeats nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.orchestration.check_reading import open_sync_ids
from include.orchestration.decision_lines import write_lines
from include.orchestration.evaluation_request import Evaluation
from include.orchestration.kept_back import kept_back
from include.orchestration.own_signs import due_heartbeats, own_observations
from include.orchestration.sights import Sight, look
from include.orchestration.structured_logs import DecisionLog, bound
from include.sync_health.alerts import Alert, AlertEvent, AlertState, EventKind
from include.sync_health.errors import SourceError
from include.sync_health.gaps import came_and_went
from include.sync_health.judgement import TickInput, judge_nothing, judge_tick
from include.sync_health.lifecycle import StepResult, step
from include.sync_health.notifications import Decision, decide, owes_a_close
from include.sync_health.observations import Observation, episode_of
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness, newest_start
from include.sync_health.windows import RunMode

if TYPE_CHECKING:
    import psycopg

log = DecisionLog("servicetitan.evaluation")


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
    with connect(evaluation.monitoring_conninfo) as conn:
        require_current(conn)
        open_alerts = _judgeable(alert_store.load_alerts(conn), evaluation=evaluation)
        sights = look(conn, evaluation, open_alerts=open_alerts)
        return _store(conn, evaluation, sights=sights, began=began)


def _judgeable(known: Mapping[str, Alert], *, evaluation: Evaluation) -> Mapping[str, Alert]:
    """Return the open alerts, which a historical run does not have: it judges as if nobody had ever watched."""
    if evaluation.mode is not RunMode.LIVE:
        return {}
    return {key: alert for key, alert in known.items() if alert.state is not AlertState.INACTIVE}


@dataclass(slots=True)
class _Judged:
    """
    What the instants of a run made of the alerts, in their order.

    ``known`` are all alerts that matter, ``judged`` those of them that were judged; ``missed`` opened while nobody looked,
    which was at ``missed_at``, and closed before anybody heard of it.
    """

    known: dict[str, Alert]
    judged: dict[str, Alert] = field(default_factory=dict)
    events: list[AlertEvent] = field(default_factory=list)
    missed: list[Alert] = field(default_factory=list)
    missed_at: set[datetime] = field(default_factory=set)

    def step(
        self, conn: psycopg.Connection[Any], observations: Collection[Observation], *, policy: Policy, as_of: datetime
    ) -> None:
        """Go on by one instant; alerts that closed long ago and are breached again are loaded first."""
        from include.warehouse.alert_store import load_alerts

        breaching = {each.fingerprint for each in observations if each.verdict is Verdict.BREACH}
        if unknown := breaching - set(self.known):
            # Those that are known are newer than what is stored: an instant before this one has moved them.
            self.known = {**load_alerts(conn, fingerprints=unknown), **self.known}
        result = step(self.known, observations, policy=policy, as_of=as_of)
        self.known |= result.alerts
        self.judged |= result.alerts
        self.events += result.events
        self.missed += came_and_went(result.events, result.alerts, instants=self.missed_at)


def _store(conn: psycopg.Connection[Any], evaluation: Evaluation, *, sights: Sequence[Sight], began: float) -> Outcome:
    """Judge and write in one transaction, under the lock that serialises evaluations."""
    import psycopg

    from include.warehouse import alert_store, check_runs, snapshots

    sight, as_of = sights[-1], evaluation.window.as_of
    with conn.transaction() as transaction:
        alert_store.lock_alerts(conn)
        before = alert_store.load_alerts(conn)
        run = _Judged(known=dict(before))
        if evaluation.mode is RunMode.LIVE:
            _make_up_for(conn, run, evaluation, sights[:-1])
        observations, blindness, untold = _observe(evaluation, run.known, sight)
        if evaluation.as_baseline and blindness is not None:
            raise SourceError(f"no baseline of a source in doubt: {blindness.detail}", cause=blindness.cause)
        decision = Decision(deliveries=(), alerts={})
        if evaluation.mode is RunMode.LIVE:
            observations += own_observations(conn, evaluation, run.known)
            run.step(conn, observations, policy=evaluation.policy, as_of=as_of)
            decision = _decide(conn, evaluation, run)
            if sight.read is not None and sight.read.is_present:
                # What the source shows now says nothing of an earlier moment.
                snapshots.record_credential_changes(conn, sight.read.credentials, as_of=as_of)
        events = run.events if evaluation.mode is RunMode.LIVE else _history(observations, as_of=as_of)
        alert_store.save_step(
            conn, alerts=decision.alerts.values(), events=events, deliveries=decision.deliveries, now=evaluation.now
        )
        record = _check_run(evaluation, observations, untold=untold, sight=sight, blindness=blindness, began=began)
        record = replace(record, notes=(*record.notes, *_made_up_for(sights[:-1])))
        check_runs.record_check_run(conn, record)
        if evaluation.dry_run:
            raise psycopg.Rollback(transaction)
    result = StepResult(alerts=run.judged, events=tuple(run.events))
    write_lines(before, observations, result, decision, at_most=evaluation.policy.summary_above)
    return _outcome(evaluation, run=record, result=result, decision=decision, blindness=blindness)


def _make_up_for(conn: psycopg.Connection[Any], run: _Judged, evaluation: Evaluation, sights: Sequence[Sight]) -> None:
    """Judge the instants that were missed, one after another."""
    run.missed_at = {sight.as_of for sight in sights}
    for sight in sights:
        observations, _, _ = _observe(evaluation, run.known, sight)
        run.step(conn, observations, policy=evaluation.policy, as_of=sight.as_of)


def _made_up_for(sights: Sequence[Sight]) -> tuple[str, ...]:
    if not sights:
        return ()
    first, last = sights[0].as_of.isoformat(), sights[-1].as_of.isoformat()
    return (f"made up for {len(sights)} windows that were missed, from {first} to {last}",)


def _decide(conn: psycopg.Connection[Any], evaluation: Evaluation, run: _Judged) -> Decision:
    """Return what to send of what was judged, of closes that are still owed, and of what is kept back no more."""
    as_of = evaluation.window.as_of
    owed = (
        {}
        if evaluation.filters.narrow
        else {key: alert for key, alert in run.known.items() if owes_a_close(alert) and key not in run.judged}
    )
    kept = kept_back(conn, policy=evaluation.policy, as_of=as_of, now=evaluation.now)
    decision = decide(
        {**run.judged, **owed},
        policy=evaluation.policy,
        as_of=as_of,
        configured=evaluation.configured,
        may_notify=evaluation.may_notify,
        open_alerts={key: alert for key, alert in run.known.items() if alert.state.is_open},
        as_baseline=evaluation.as_baseline,
        suppressors=kept.suppressors,
        spent=kept.spent,
        spent_before=kept.spent_before,
        held=kept.held,
        missed=run.missed,
        missed_at=run.missed_at,
    )
    if not evaluation.may_notify or evaluation.filters.narrow or evaluation.as_baseline:
        return decision
    return replace(decision, deliveries=(*decision.deliveries, *due_heartbeats(conn, evaluation, run.known)))


def _observe(
    evaluation: Evaluation, known: Mapping[str, Alert], sight: Sight
) -> tuple[list[Observation], Blindness | None, Mapping[str, int]]:
    """Return what one instant says, the first reason why it was not seen, or not all, and what it counts without saying."""
    as_of, policy, filters = sight.as_of, evaluation.policy, evaluation.filters
    open_alerts = {
        fingerprint: alert
        for fingerprint, alert in _judgeable(known, evaluation=evaluation).items()
        # Of one that another check opened since this one looked, what it takes to judge it may not have been read.
        if fingerprint in sight.looked_for or alert.rule not in evaluation.check.of_open
    }
    scope = filters.admits if filters.narrow else None
    if sight.read is None:
        if sight.doubt is None:
            raise ValueError("nothing was read, and nobody says why")
        judgement = judge_nothing(
            sight.doubt, check=evaluation.check, open_alerts=open_alerts, policy=policy, as_of=as_of, scope=scope
        )
    else:
        judgement = judge_tick(
            TickInput(
                runs=sight.read.read.runs,
                credentials=sight.read.facts,
                as_of=as_of,
                check=evaluation.check,
                open_alerts=open_alerts,
                missing_sync_ids=sight.read.read.missing_remembered,
                before=sight.before,
                blindness=[sight.doubt] if sight.doubt else [],
                scope=scope,
                whole_environments=filters.whole_environments,
                stored=sight.stored,
                measured=sight.measured,
                tells_all=False,
            ),
            policy=policy,
        )
    return list(judgement.observations), next(iter(judgement.blindness), None), judgement.untold


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
    sight: Sight,
    blindness: Blindness | None,
    began: float,
) -> Any:
    from include.warehouse.check_runs import CheckRun

    counted = Counter(f"{each.rule}.{each.verdict}" for each in observations) + Counter(untold)
    window, read = evaluation.window, sight.read
    rows = read.read if read else None
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
        opened=kinds[EventKind.OPENED] + kinds[EventKind.REOPENED],
        opened_by_rule=Counter(
            result.alerts[event.fingerprint].rule
            for event in result.events
            if event.kind in (EventKind.OPENED, EventKind.REOPENED)
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
