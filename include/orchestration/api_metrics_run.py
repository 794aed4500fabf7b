"""
What the task `ingest` of the hourly DAG does: bring in the API calls that each source newly tells, and tell them as metrics.

A source that cannot be read stops no other. How far each has been read is remembered with what was counted, so that a run
goes on where the last one stopped, and a retry finds nothing new. Metrics go out after the commit of what they tell: a kill
between the two loses one telling, and nothing is ever told twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from include.orchestration.check_tasks import PARAMS, RunFacts, filters_of
from include.orchestration.metric_emission import emit
from include.orchestration.policy_file import storage_connection
from include.orchestration.run_params import require_known_params
from include.orchestration.settings import policy_in_force, postgres_conninfo
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.checks import API_METRICS
from include.sync_health.errors import ConnectionMissing, MonitorError, SourceError, StorageError
from include.sync_health.policy import Policy
from include.sync_health.windows import RunMode, run_mode

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from include.warehouse.api_call_reader import CallsRead
    from include.warehouse.api_sources import ApiSource

log = DecisionLog("servicetitan.api_metrics")

LONGEST_PAUSE = timedelta(days=7)
"""Calls of a longer time in which nothing was read are not made up for; as the most that ``late_calls`` may be."""

TABLE_OFF = "api_calls.table of the policy is false"
NO_TABLE = "the source has no table servicetitan_api_calls; docs/api-calls.md offers it, with a recorder"
NO_LOGS = "api_calls.logs of the policy names no file; docs/api-calls.md says what is read of a log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """
    What one source came to.

    Args:
        status: as `include.warehouse.api_hours.ApiSource` has it.
        detail: one line for people.
        increments: `INCREMENT_COLUMNS` of what was newly counted; None of nothing.
        rows_read: rows or lines.
        was_read: whether it was read now, or ever before.
        error: what is told nowhere else and must fail the task; None where there is nothing.
    """

    status: str
    detail: str
    increments: pd.DataFrame | None = None
    rows_read: int = 0
    was_read: bool = True
    error: MonitorError | None = field(default=None)

    @property
    def calls(self) -> int:
        """How many were newly counted."""
        return 0 if self.increments is None else int(self.increments["requests"].sum())


def ingest(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Bring in what each source newly tells, tell it as metrics, and return counts.

    A run that looks at the past, and one that its Params narrow, bring in nothing: ``skipped`` says why. Without any source
    the run is well, and says how to switch one on.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: our database cannot be used, the policy file is wrong, or, after all sources were tried, one of them
            could not be read. A source database that cannot be reached fails nothing: the 15-minute check tells of it.
    """
    require_known_params(facts.params, known=PARAMS)
    now = now or datetime.now(UTC)
    window = facts.window(API_METRICS.every)
    storage = postgres_conninfo(storage_connection())
    policy = policy_in_force(storage_conninfo=storage, now=now).loaded.policy
    horizon = policy.live_horizon[API_METRICS.name]
    if run_mode(as_of=window.as_of, now=now, is_backfill=facts.is_backfill, horizon=horizon) is not RunMode.LIVE:
        return _skipped("this run looks at the past")
    if filters_of(facts.params).narrow:
        return _skipped("its Params leave credentials out")
    found = {
        "table": _ingest_table(storage, policy=policy, now=now),
        "log": _ingest_logs(storage, policy=policy, now=now),
    }
    told = _tell(found, policy=policy)
    for source, each in found.items():
        # One that nobody set up is no trouble.
        write = log.warning if each.status == "failing" else log.info
        write(
            "api_source_read",
            "API calls by %(kind)s: %(note)s",
            kind=source,
            note=f"{each.status}: {each.detail}",
            rows_read=each.rows_read,
            counts={"calls": each.calls},
        )
    if errors := [each.error for each in found.values() if each.error is not None]:
        raise errors[0] if len(errors) == 1 else MonitorError("; ".join(map(str, errors)))
    answer: dict[str, Any] = {source: each.status for source, each in found.items()}
    answer |= {"calls": sum(each.calls for each in found.values()), **told}
    if not any(each.status == "available" for each in found.values()):
        from include.sync_health.api_availability import SWITCH_ON, ApiMeasure

        answer["unavailable"] = SWITCH_ON[ApiMeasure.CALLS]
    return answer


def _skipped(why: str) -> dict[str, Any]:
    log.info("api_calls_skipped", "API calls are not brought in by this run: %(note)s", note=why)
    return {"skipped": why}


def _tell(found: dict[str, Ingested], *, policy: Policy) -> dict[str, int]:
    """
    Emit what was newly counted; of two sources that may tell of the same calls, the better one's alone.

    Also where that one could not be read now: once it can, it tells of all that it has missed. One that never could has
    missed more than it will tell.
    """
    from include.sync_health.api_availability import told_status
    from include.sync_health.api_calls import application_source
    from include.sync_health.api_samples import api_samples

    told = {source: told_status(source, each.status, was_read=each.was_read) for source, each in found.items()}
    believed = application_source(
        {source: "unavailable" if status == "unavailable" else "available" for source, status in told.items()}
    )
    increments = found[believed].increments if believed else None
    if increments is None:
        return {"samples": 0, "averaged": 0}
    samples, averaged = api_samples(increments, level=policy.monitoring_level, timings_cap=policy.metrics.timings_cap)
    return {"samples": emit(samples), "averaged": averaged}


def _ingest_table(storage: str, *, policy: Policy, now: datetime) -> Ingested:
    """Read the application's table, replace the hours that were read, and remember how far."""
    from include.sync_health.own_health import WHOLE_SOURCE
    from include.warehouse.api_call_reader import hours_between
    from include.warehouse.api_hour_reader import read_endpoints, read_names
    from include.warehouse.api_hours import replace_hours
    from include.warehouse.api_sources import ApiSource, lock_source, read_sources, record_source
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    with connect(storage) as conn:
        require_current(conn)
        if not policy.api_calls.table:
            return _without(conn, "table", TABLE_OFF, now=now)
        before = read_sources(conn).get("table")
        had_timings = before is not None and before.has_timings
        known = read_endpoints(conn, source="table")
        conn.commit()
        since = _read_from(before.read_until if before else None, policy=policy, now=now)
        try:
            read = _read_table(policy, since=since, until=now, known=known)
        except (SourceError, ConnectionMissing) as error:
            detail, is_told = str(error), isinstance(error, SourceError) and error.cause in WHOLE_SOURCE
            failing = ApiSource(
                source="table", status="failing", has_timings=had_timings, detail=detail, updated_at=now
            )
            record_source(conn, failing)
            was_read = before is not None and before.read_until is not None
            return Ingested(status="failing", detail=detail, was_read=was_read, error=None if is_told else error)
        if read is None:
            return _without(conn, "table", NO_TABLE, now=now)
        with conn.transaction():
            newest = lock_source(conn, "table")
            if newest is not None and newest.read_until is not None and newest.read_until > now:
                return Ingested(status="available", detail="another run has read further", rows_read=read.rows_read)
            increments = replace_hours(
                conn,
                read.hours,
                source="table",
                hours=hours_between(since, now),
                names=read_names(conn),
                now=now,
            )
            detail = "; ".join(("servicetitan_api_calls is read", *read.notes))
            counts = {"calls": int(increments["requests"].sum()), "rows_read": read.rows_read, **read.anomalies}
            record_source(
                conn,
                ApiSource(
                    source="table",
                    status="available",
                    has_timings=had_timings or bool(read.hours["response_count"].any()),
                    detail=detail,
                    read_until=now,
                    counts=counts,
                    updated_at=now,
                ),
            )
    return Ingested(status="available", detail=detail, increments=increments, rows_read=read.rows_read)


def _read_table(policy: Policy, *, since: datetime, until: datetime, known: list[str]) -> CallsRead | None:
    """
    Return the calls since then; None where the source has no such table.

    Raises:
        MonitorError: the source cannot be read as it should be.
    """
    from include.warehouse.api_call_reader import read_calls
    from include.warehouse.api_call_schema import describe_calls
    from include.warehouse.source_session import open_session

    with open_session(postgres_conninfo(policy.source.connection), policy.source) as session:
        table = describe_calls(session, policy.source)
        if table is None:
            return None
        return read_calls(
            session,
            policy.source,
            table=table,
            since=since,
            until=until,
            late=policy.api_calls.late_calls,
            known=known,
        )


def _read_from(read_until: datetime | None, *, policy: Policy, now: datetime) -> datetime:
    """Return the beginning of the first hour to read: what may have come late since the last read, but not for ever back."""
    last = min(read_until or now, now)
    since = max(last - policy.api_calls.late_calls, now - LONGEST_PAUSE)
    return since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _ingest_logs(storage: str, *, policy: Policy, now: datetime) -> Ingested:
    """Read the application's log files on from where the last run stopped, and remember what they came to."""
    import pandas as pd

    from include.orchestration.log_ingestion import ingest_logs
    from include.warehouse.api_hour_reader import read_names
    from include.warehouse.api_sources import ApiSource, read_sources, record_source
    from include.warehouse.monitoring_session import connect

    with connect(storage) as conn:
        if not policy.api_calls.logs:
            return _without(conn, "log", NO_LOGS, now=now)
        before = read_sources(conn).get("log")
        names = read_names(conn)
    parts: list[pd.DataFrame] = []
    error: MonitorError | None = None
    try:
        done = ingest_logs(
            storage,
            policy=policy.api_calls,
            names=names,
            zone=ZoneInfo(policy.source.timezone),
            clock=lambda: datetime.now(UTC),
            taken=parts.append,
        )
    except StorageError:
        raise
    except MonitorError as found:  # such as a connection that is missing
        error, detail, counts, is_available, read_until, has_timings = found, str(found), {}, False, None, False
    else:
        counts, is_available, read_until, has_timings = (
            done.counts,
            done.is_available,
            done.read_until,
            done.has_timings,
        )
        said = "; ".join(done.missing)
        detail = said or f"{counts.get('files', 0)} log files are read"
        if done.missing and (counts.get("unreadable") or not is_available):
            error = MonitorError(f"api_calls.logs: {said}")
    status: Literal["available", "failing"] = "available" if is_available else "failing"
    with connect(storage) as conn:
        record_source(
            conn,
            ApiSource(
                source="log",
                status=status,
                has_timings=has_timings or bool(before and before.has_timings),
                detail=detail,
                read_until=read_until,
                counts=counts,
                updated_at=now,
            ),
        )
    return Ingested(
        status=status,
        detail=detail,
        increments=pd.concat(parts, ignore_index=True) if parts else None,
        rows_read=counts.get("lines", 0),
        was_read=is_available or bool(before and before.read_until),
        error=error,
    )


def _without(conn: psycopg.Connection[Any], source: Any, why: str, *, now: datetime) -> Ingested:
    """Remember that a source is not there."""
    from include.warehouse.api_sources import ApiSource, record_source

    nothing: ApiSource = ApiSource(source=source, status="unavailable", has_timings=False, detail=why, updated_at=now)
    record_source(conn, nothing)
    return Ingested(status="unavailable", detail=why)
