"""
What the measuring tasks do: count the syncs of a run's window, each once, and tell them as metrics; likewise the quality
of data.

They read the source on their own, after the check, so that no alert waits for them. Counters, hours and the claim of the
window are one transaction; what goes to StatsD or OpenTelemetry goes after its commit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.orchestration.check_tasks import PARAMS, RunFacts, filters_of
from include.orchestration.metric_emission import emit
from include.orchestration.policy_file import storage_connection
from include.orchestration.run_params import require_known_params
from include.orchestration.settings import policy_in_force, postgres_conninfo
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.checks import DATA_QUALITY, SYNC_FAILURES, Check
from include.sync_health.errors import CountsUnreadable, RequestError
from include.sync_health.frames import COUNT_COLUMNS
from include.sync_health.policy import Policy
from include.sync_health.record_counts import ALL_READ, RECORDS, CountsRead
from include.sync_health.windows import RunMode, Window, run_mode

if TYPE_CHECKING:
    import pandas as pd

    from include.sync_health.sync_metrics import Sample
    from include.warehouse.metric_emissions import Emission
    from include.warehouse.source_reader import RunsRead, SourceReader
    from include.warehouse.source_schema import SourceShape

log = DecisionLog("servicetitan.measuring")

QUALITY_WINDOW = timedelta(hours=24)
"""Of the records that ``servicetitan.data_quality`` speaks of, as its help says."""

LONGEST_PAUSE = timedelta(days=7)
"""Syncs of a longer time in which nothing was counted are not made up for; as the most that ``late_syncs`` may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What a measuring task needs to know."""

    window: Window
    policy: Policy
    storage: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The runs, with NaN for counts that could not be read; the credentials; and which counts could."""

    runs: RunsRead
    credentials: pd.DataFrame
    counts: CountsRead


def measure_syncs(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Count what started and ended, tell it as metrics, and return counts.

    Every start and end counts once, by whichever run sees it first, at most ``metrics.late_syncs`` after it happened. A
    pause of the monitor is made up for, up to `LONGEST_PAUSE`. A retry, an older window, a run that looks at the past, and
    one that its Params narrow count nothing and tell nothing: then ``skipped`` says why.

    Where the source's record counts cannot be read syncs are counted all the same; what rests on the counts is unknown, and
    the claim says why and what to do.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: the source or our database cannot be used, or a connection or the policy file is wrong.
    """
    around = _surroundings(facts, check=SYNC_FAILURES, now=now)
    if isinstance(around, str):
        return _skipped("syncs", around)
    from include.sync_health.sync_events import sync_events
    from include.sync_health.sync_hours import sync_hours, whole_hours
    from include.sync_health.sync_metrics import cost_samples, credential_samples, sync_samples
    from include.warehouse.check_costs import check_costs
    from include.warehouse.check_runs import record_check_run
    from include.warehouse.metric_emissions import MEASURE_SYNCS, newest_emission
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.sync_counters import count_syncs, open_syncs_at, statuses_at
    from include.warehouse.sync_hours import replace_sync_hours

    began = time.monotonic()
    policy, window, as_of, now = around.policy, around.window, around.window.as_of, around.now
    with connect(around.storage) as conn:
        require_current(conn)
        newest = newest_emission(conn, task=MEASURE_SYNCS)
        if newest is not None and newest.window_to >= as_of:
            return _skipped("syncs", _already(newest))
        since = counted_since(window, late_syncs=policy.metrics.late_syncs, newest=newest)
        # Whatever was open when we last counted may have ended since, however long ago it started. What was open when the
        # hours began ended in one of them perhaps: these are replaced whole, and would lose it.
        open_ids, earlier = (
            open_syncs_at(conn, check=SYNC_FAILURES.name, at=at, within=policy.source.id_slack)
            for at in (newest.window_to if newest else window.start, since)
        )
        if open_ids is not None:
            open_ids = sorted({*open_ids, *(earlier or ())})
        conn.commit()
        read = _read(around, since=since, open_ids=open_ids)
        events = sync_events(
            read.runs.runs, read.credentials, since=since, as_of=as_of, duration_fallback=policy.duration_fallback
        )
        first, last = whole_hours(since, as_of)
        hours = sync_hours(events, since=since, as_of=as_of, known=read.counts.known)
        with conn.transaction():
            counted = count_syncs(
                conn,
                events,
                window_from=window.start,
                as_of=as_of,
                late_syncs=policy.metrics.late_syncs,
                now=now,
                counts=read.counts,
            )
            if counted is None:
                return _skipped("syncs", "another run has counted this window, or a newer one")
            written = replace_sync_hours(conn, hours, first=first, last=last, now=now)
            record_check_run(conn, _check_run(MEASURE_SYNCS, around, read=read, began=began))
            costs = check_costs(conn)
            present = statuses_at(conn, at=as_of)
            before = None if counted.before is None else statuses_at(conn, at=counted.before)
    level = policy.monitoring_level
    samples = [
        *sync_samples(counted.events, level=level, is_last=counted.last_sync_ids),
        *credential_samples(present, as_of=as_of, level=level, before=before),
        *cost_samples(costs, level=level),
    ]
    kinds = counted.events["kind"].value_counts()
    return _told(
        "syncs",
        samples,
        policy=policy,
        started=int(kinds.get("started", 0)),
        ended=int(kinds.get("finished", 0)),
        hour_rows=written,
        rows_read=read.runs.rows_read,
    )


def measure_quality(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Tell how good the records of the last 24 hours' syncs are, and return counts.

    Each window once, as `measure_syncs`, with the same exceptions. Where the source's record counts cannot be read, those
    stored of an earlier window are unknown from then on.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: as `measure_syncs`; the source also where the columns of the counts cannot be read.
    """
    around = _surroundings(facts, check=DATA_QUALITY, now=now)
    if isinstance(around, str):
        return _skipped("data quality", around)
    from include.sync_health.sync_metrics import quality_samples, quality_totals
    from include.warehouse.check_runs import record_check_run
    from include.warehouse.metric_emissions import newest_emission
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_gauges import MEASURE_QUALITY, forget_quality_gauges, replace_quality_gauges
    from include.warehouse.sync_counters import open_syncs_at

    began = time.monotonic()
    as_of = around.window.as_of
    since = as_of - QUALITY_WINDOW
    with connect(around.storage) as conn:
        require_current(conn)
        newest = newest_emission(conn, task=MEASURE_QUALITY)
        if newest is not None and newest.window_to >= as_of:
            return _skipped("data quality", _already(newest))
        open_ids = open_syncs_at(conn, check=SYNC_FAILURES.name, at=since, within=around.policy.source.id_slack)
        conn.commit()
        try:
            read = _read(around, since=since, open_ids=open_ids or (), needs_counts=True)
        except CountsUnreadable:
            with conn.transaction():
                forget_quality_gauges(conn, as_of=as_of)
            raise
        known = read.counts.known
        totals = quality_totals(read.runs.runs, read.credentials, since=since, as_of=as_of, known=known)
        with conn.transaction():
            gone = replace_quality_gauges(conn, totals, as_of=as_of, now=around.now)
            if gone is None:
                return _skipped("data quality", "another run has told this window, or a newer one")
            record_check_run(conn, _check_run(MEASURE_QUALITY, around, read=read, began=began))
    samples = quality_samples(totals, level=around.policy.monitoring_level, gone=gone, known=known)
    return _told(
        "data quality", samples, policy=around.policy, keys=len(totals), gone=len(gone), rows_read=read.runs.rows_read
    )


def counted_since(window: Window, *, late_syncs: timedelta, newest: Emission | None) -> datetime:
    """
    Return from when on syncs are read to be counted.

    As late as one may show up, or where the window claimed last ended, if that was earlier: but not longer than
    `LONGEST_PAUSE` ago.
    """
    since = min(window.as_of - late_syncs, window.start)
    if newest is not None and newest.window_to < since:
        oldest = window.as_of - LONGEST_PAUSE
        if newest.window_to < oldest:
            log.warning(
                "syncs_not_counted",
                "nothing was counted from %(window_from)s to %(window_to)s: what happened then is missing in the metrics",
                window_from=newest.window_to,
                window_to=oldest,
            )
        since = min(since, max(newest.window_to, oldest))
    return since


def _surroundings(facts: RunFacts, *, check: Check, now: datetime | None) -> _Surroundings | str:
    """Return what is needed to measure, or why there is nothing to measure."""
    now = now or datetime.now(UTC)
    if facts.is_backfill:
        return "a backfill looks at the past"
    try:
        require_known_params(facts.params, known=PARAMS)
        narrow = filters_of(facts.params).narrow
        window = facts.window(check.every)
        storage = postgres_conninfo(storage_connection())
        policy = policy_in_force(storage_conninfo=storage, now=now).loaded.policy
        mode = run_mode(
            as_of=window.as_of, now=now, is_backfill=facts.is_backfill, horizon=policy.live_horizon[check.name]
        )
    except RequestError as error:
        return f"its Params are wrong: {error}"
    if narrow:
        return "its Params leave credentials out"
    if mode is not RunMode.LIVE:
        return "it looks at the past"
    return _Surroundings(window=window, policy=policy, storage=storage, now=now)


def _read(
    around: _Surroundings, *, since: datetime, open_ids: Sequence[str] | None, needs_counts: bool = False
) -> _Read:
    """Return the runs of ``(since, as_of]``, with their counts as far as they can be read."""
    from include.warehouse.source_reader import SourceReader

    policy = around.policy
    with SourceReader.connect(postgres_conninfo(policy.source.connection), policy.source) as reader:
        credentials = reader.read_credentials()
        try:
            read = _read_runs(reader, around, since=since, open_ids=open_ids, with_counts=True)
            counts = _counts_of(reader.shape)
        except CountsUnreadable as error:
            if needs_counts:
                raise
            read = _read_runs(reader, around, since=since, open_ids=open_ids, with_counts=False)
            log.warning(
                "records_not_measured",
                "records of syncs and their success rate are not told: %(error)s",
                error=str(error),
            )
            read = replace(read, runs=read.runs.assign(**dict.fromkeys(COUNT_COLUMNS, float("nan"))))
            counts = CountsRead(known=(), unread=str(error))
    return _Read(runs=read, credentials=credentials, counts=counts)


def _counts_of(shape: SourceShape) -> CountsRead:
    """Return which counts a sync log has that was read with them: one of the source's shapes tells no outcomes."""
    table = shape.runs
    if not (absent := [name for name in RECORDS if name not in table.types]):
        return ALL_READ
    return CountsRead(
        known=tuple(name for name in RECORDS if name in table.types),
        unread=f"{shape.schema}.{table.name} has no columns {' and '.join(absent)} (docs/deployment.md)",
    )


def _read_runs(
    reader: SourceReader, around: _Surroundings, *, since: datetime, open_ids: Sequence[str] | None, with_counts: bool
) -> RunsRead:
    return reader.read_runs(
        finished_from=since, as_of=around.window.as_of, remembered_open=open_ids, with_counts=with_counts
    )


def _check_run(task: str, around: _Surroundings, *, read: _Read, began: float) -> Any:
    """Return the record of what measuring cost the source, beside those of the checks."""
    from include.warehouse.check_runs import CheckRun

    runs, unread = read.runs, read.counts.unread
    return CheckRun.of(
        check=task,
        window_from=around.window.start,
        window_to=around.window.as_of,
        mode=str(RunMode.LIVE),
        filters={},
        status="seen",
        rows_read=runs.rows_read,
        source_ms=runs.ms,
        total_ms=(time.monotonic() - began) * 1000,
        anomalies=dict(runs.anomalies),
        notes=runs.notes if unread is None else (*runs.notes, unread),
        computed_at=around.now,
    )


def _told(what: str, samples: Sequence[Sample], *, policy: Policy, **counts: int) -> dict[str, Any]:
    """Emit the samples, their timings bounded, and return the counts."""
    from include.sync_health.sync_metrics import averaged_beyond

    kept, averaged = averaged_beyond(samples, cap=policy.metrics.timings_cap)
    if averaged:
        log.warning(
            "timings_averaged",
            "%(left_out)s durations are more than metrics.timings_cap: averages were told instead",
            what=what,
            left_out=averaged,
        )
    found = {**counts, "samples": emit(kept), "averaged": averaged}
    log.info("metrics_told", "measured %(what)s: %(counts)s", what=what, counts=found)
    return found


def _skipped(what: str, why: str) -> dict[str, Any]:
    log.info("metrics_not_told", "%(what)s are not measured by this run: %(reason)s", what=what, reason=why)
    return {"skipped": why}


def _already(newest: Emission) -> str:
    return f"the window up to {newest.window_to.isoformat()} is counted already"
