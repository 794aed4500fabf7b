"""What a check sees at one instant: the source's rows, our own tables, or why there is nothing to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.orchestration.check_reading import CheckRead, Memory, read_for, recall, recall_days
from include.orchestration.measured_reading import read_own, recall_measured
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.alerts import Alert
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.gaps import missed_instants
from include.sync_health.measured_facts import MeasuredFacts
from include.sync_health.stored_days import StoredDays
from include.sync_health.visibility import Blindness, EarlierSight, clock_blindness
from include.sync_health.windows import RunMode

if TYPE_CHECKING:
    import psycopg

    from include.orchestration.evaluation_request import Evaluation

log = DecisionLog("servicetitan.sights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """
    What was seen of one instant.

    Args:
        as_of: the instant; aware.
        read: the rows; None when they could not be read.
        doubt: why they could not, or why they cannot be trusted; None when they can.
        before: what an earlier run saw of the source's newest start.
        stored, measured: of our own tables.
        looked_for: fingerprints of the alerts that were open when it was looked, and that what was read suffices for.
    """

    as_of: datetime
    read: CheckRead | None
    doubt: Blindness | None
    before: EarlierSight | None
    stored: StoredDays | None
    measured: MeasuredFacts
    looked_for: frozenset[str] = frozenset()


def look(conn: psycopg.Connection[Any], evaluation: Evaluation, *, open_alerts: Mapping[str, Alert]) -> Sequence[Sight]:
    """
    Return what is to be judged, oldest first: the instants that were missed, and last that of the run itself.

    What is read of our own tables is read first, and the transaction ended, before the source is asked.

    Args:
        conn: a session on the monitoring schema; committed.
        evaluation: the run.
        open_alerts: those that it may judge.

    Raises:
        SourceError: the source was in passing trouble and this is not the last try; or a baseline was to be adopted.
        RequestError: a credential that the filters name does not exist.
        StorageError: our schema is missing or unreachable.
    """
    instants = [*_missed(conn, evaluation), evaluation.window.as_of]
    own = [_own(conn, evaluation, as_of=as_of, open_alerts=open_alerts) for as_of in instants]
    conn.commit()
    sights: list[Sight] = []
    fails = False
    for as_of, (memory, stored, measured, read) in zip(instants, own, strict=True):
        is_last = as_of == evaluation.window.as_of
        doubt: Blindness | None = None
        if read is None:
            if fails and not is_last:
                continue  # it failed a moment ago, and the run's own instant says why
            read, doubt = _read(evaluation, as_of=as_of, memory=memory, open_alerts=open_alerts)
            fails = read is None
            if read is not None and is_last:
                doubt = _clock_doubt(evaluation, newest_started_at=read.read.newest_started_at)
        if is_last or doubt is None:
            sights.append(
                Sight(
                    as_of=as_of,
                    read=read,
                    doubt=doubt,
                    before=memory.before,
                    stored=stored,
                    measured=measured,
                    looked_for=frozenset(open_alerts),
                )
            )
    return sights


Own = tuple[Memory, StoredDays | None, MeasuredFacts, CheckRead | None]


def _own(
    conn: psycopg.Connection[Any], evaluation: Evaluation, *, as_of: datetime, open_alerts: Mapping[str, Alert]
) -> Own:
    check, policy = evaluation.check, evaluation.policy
    memory = recall(conn, policy=policy, as_of=as_of, alerts=open_alerts)
    stored: StoredDays | None = None
    if evaluation.mode is RunMode.LIVE:  # a trend of the past would be told by days that came after it
        stored = recall_days(conn, check, policy=policy, as_of=as_of, open_alerts=list(open_alerts.values()))
    measured = recall_measured(conn, check, policy=policy, as_of=as_of, mode=evaluation.mode)
    read = None if check.reads_source else read_own(conn, as_of=as_of, filters=evaluation.filters, memory=memory)
    return memory, stored, measured, read


def _missed(conn: psycopg.Connection[Any], evaluation: Evaluation) -> list[datetime]:
    """Return the instants before the run's own that nobody judged; of a run over everybody, that may alert."""
    from include.warehouse.check_runs import last_seen_run

    check, within = evaluation.check, evaluation.policy.alerting.catch_up
    if evaluation.mode is not RunMode.LIVE or evaluation.filters.narrow or evaluation.as_baseline or not within:
        return []
    seen = last_seen_run(conn, check=check.name)
    missed = missed_instants(
        seen.window_to if seen else None, as_of=evaluation.window.as_of, every=check.every, within=within
    )
    if missed and seen is not None:
        log.warning(
            "windows_missed",
            "nobody judged the windows after %(before)s: %(counts)s, and they are judged now",
            before=seen.window_to,
            counts={"windows": len(missed)},
        )
    return missed


def _read(
    evaluation: Evaluation, *, as_of: datetime, memory: Memory, open_alerts: Mapping[str, Alert]
) -> tuple[CheckRead | None, Blindness | None]:
    """Return what the source shows, or why it shows nothing."""
    name = evaluation.check.name
    try:
        if isinstance(evaluation.source_conninfo, SourceError):
            raise evaluation.source_conninfo
        read = read_for(
            evaluation.check,
            evaluation.source_conninfo,
            policy=evaluation.policy,
            as_of=as_of,
            now=evaluation.now,
            filters=evaluation.filters,
            memory=memory,
            open_alerts=list(open_alerts.values()),
        )
    except SourceError as error:
        if evaluation.as_baseline or (error.transient and not evaluation.last_try):
            raise
        log.error(
            "source_not_seen", "cannot see the source (%(cause)s): %(error)s", cause=error.cause, error=str(error)
        )
        return None, Blindness(check=name, cause=error.cause, detail=str(error))
    except RequestError:
        raise
    except Exception as error:
        if evaluation.as_baseline:
            raise
        # A row that the reader cannot digest must not silence the monitor: somebody is told instead.
        log.exception("source_not_read", "the source could not be read")
        detail = f"the source could not be read: {type(error).__name__}; the log of the task has the details"
        return None, Blindness(check=name, cause="invalid", detail=detail)
    return read, None


def _clock_doubt(evaluation: Evaluation, *, newest_started_at: datetime | None) -> Blindness | None:
    """Return what is wrong with the source's newest stamp; a historical run cannot tell what was newest then."""
    found = clock_blindness(
        check=evaluation.check.name,
        newest_started_at=newest_started_at,
        timezone=evaluation.policy.source.timezone,
        now=evaluation.now,
    )
    return None if evaluation.mode is RunMode.HISTORICAL and found and found.cause != "no_rows" else found
