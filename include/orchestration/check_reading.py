"""What a check reads, and how it remembers: the source's rows, and what our own tables add to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from include.orchestration.structured_logs import DecisionLog
from include.sync_health.alerts import Alert
from include.sync_health.checks import COUNTED_RULES, CREDENTIAL_RULES, SYNC_FAILURES, TREND_RULES, Check
from include.sync_health.errors import CountsUnreadable, RequestError
from include.sync_health.frames import COUNT_COLUMNS, ENVIRONMENTS
from include.sync_health.policy import Policy
from include.sync_health.stored_days import StoredDays, days_needed
from include.sync_health.subjects import Subject
from include.sync_health.visibility import WEEK, WRONG_TIME_ZONE, EarlierSight

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from include.warehouse.source_reader import RunsRead, SourceReader

INSTANT = timedelta(microseconds=1)

log = DecisionLog("servicetitan.check_reading")

PRESENT = timedelta(minutes=30)
"""How long ago an ``as_of`` may lie for the source's columns without a past to be taken for those of that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilters:
    """Which credentials a run judges; empty sets mean all. A filtered run moves only what it judged."""

    credential_ids: tuple[str, ...] = ()
    environment: str | None = None

    @property
    def narrow(self) -> bool:
        """True when the run leaves anything out."""
        return bool(self.credential_ids or self.environment)

    @property
    def whole_environments(self) -> tuple[str, ...]:
        """The environments of which the run leaves nothing out."""
        if self.credential_ids:
            return ()
        return (self.environment,) if self.environment else ENVIRONMENTS

    def admits(self, subject: Subject) -> bool:
        """Return whether a credential is judged."""
        return (not self.credential_ids or subject.credential_id in self.credential_ids) and (
            not self.environment or subject.environment == self.environment
        )

    def as_record(self) -> Mapping[str, str]:
        """Return the filters as ``check_run`` keeps them."""
        record = {"credentials": ",".join(sorted(self.credential_ids)), "environment": self.environment or ""}
        return {key: value for key, value in record.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """
    What our tables remember of the time before this run.

    Args:
        open_sync_ids: runs known to be open; None where nobody knows, and the reader looks back.
        before: what an earlier run saw of the source's newest start.
        credentials: `CREDENTIAL_MEMORY_COLUMNS`; None before the first snapshot.
    """

    open_sync_ids: Sequence[str] | None = None
    before: EarlierSight | None = None
    credentials: pd.DataFrame | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRead:
    """
    What a check read.

    Args:
        read: the runs, with `COUNT_COLUMNS` where a rule of `COUNTED_RULES` is judged.
        credentials: `CREDENTIAL_COLUMNS`, as the source has them now.
        facts: `CREDENTIAL_FACT_COLUMNS`, as they were at the instant judged.
        is_present: whether that instant is now, as far as columns without a past are concerned.
    """

    read: RunsRead
    credentials: pd.DataFrame
    facts: pd.DataFrame
    is_present: bool


def recall(
    conn: psycopg.Connection[Any],
    *,
    policy: Policy,
    as_of: datetime,
    alerts: Mapping[str, Alert] = MappingProxyType({}),
) -> Memory:
    """
    Return what is remembered at ``as_of``.

    Runs remembered as open are those of the 15-minute check, whichever check asks. A memory newer than the window (a
    late or historical run) knows nothing of what was open then; one older than the slack has a hole in it.

    Args:
        conn: a session on the monitoring schema; nothing is written.
        policy: the slack.
        as_of: the instant judged; aware.
        alerts: the alerts that are open.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    from include.warehouse.check_runs import last_seen_run
    from include.warehouse.snapshots import credential_memory

    last_seen = last_seen_run(conn, check=SYNC_FAILURES.name)
    open_sync_ids: Sequence[str] | None = None
    if (
        last_seen is not None
        and last_seen.open_sync_ids is not None
        and timedelta(0) <= as_of - last_seen.window_to <= policy.source.id_slack
    ):
        stuck = [
            alert.identity["sync"] for alert in alerts.values() if alert.rule == "stuck_sync" and alert.state.is_open
        ]
        open_sync_ids = sorted({*last_seen.open_sync_ids, *stuck})
    return Memory(
        open_sync_ids=open_sync_ids,
        before=_earlier_sight(conn, policy=policy, as_of=as_of, alerts=alerts),
        credentials=credential_memory(conn, as_of=as_of),
    )


def recall_days(
    conn: psycopg.Connection[Any],
    check: Check,
    *,
    policy: Policy,
    as_of: datetime,
    open_alerts: Collection[Alert] = (),
) -> StoredDays | None:
    """
    Return the stored days that a check's trend rules compare with; None where it judges none of them.

    A rule that is judged only where an alert is open needs the days of those alerts' credentials alone.

    Args:
        conn: a session on the monitoring schema; nothing is written.
        check: the check.
        policy: how far back the rules look, and which of them are on.
        as_of: the instant judged; aware.
        open_alerts: which are open.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    from include.warehouse.quality_baseline import read_stored_days

    ours = [alert for alert in open_alerts if alert.rule in check.of_open]
    of_all = set(TREND_RULES) & set(check.rules)
    rules = of_all | ({alert.rule for alert in ours} & set(TREND_RULES) if policy.recheck_open else set())
    days = days_needed(rules, policies=policy.rules, as_of=as_of, timezone=policy.reporting_timezone)
    if not days:
        return None
    of_some = {alert.credential_id for alert in ours if alert.rule in rules and alert.credential_id}
    return read_stored_days(conn, days, credential_ids=None if of_all else of_some)


def _earlier_sight(
    conn: psycopg.Connection[Any], *, policy: Policy, as_of: datetime, alerts: Mapping[str, Alert]
) -> EarlierSight | None:
    """
    Return what to compare the source's newest start with, to tell a lag of its stamps from a silence.

    The sight of the tick before, also for a run by hand minutes after one: too little may have happened since. While the
    time zone is in doubt already, that of ``no_syncs.silent_for`` ago, since rows need not come in every quarter of an
    hour; and until so much time has passed nobody can tell, so that the doubt stands.
    """
    from include.warehouse.check_runs import newest_start_seen

    in_doubt_since = [
        alert.opened_at
        for alert in alerts.values()
        if alert.rule == "monitor_health" and alert.identity["cause"] == WRONG_TIME_ZONE and alert.opened_at is not None
    ]
    ago = SYNC_FAILURES.every
    if in_doubt_since:
        ago = policy.rules.no_syncs.silent_for
        if as_of - min(in_doubt_since) < ago:
            return None
    return newest_start_seen(conn, check=SYNC_FAILURES.name, before=as_of - ago + INSTANT)


def read_for(
    check: Check,
    conninfo: str,
    *,
    policy: Policy,
    as_of: datetime,
    now: datetime,
    filters: RunFilters,
    memory: Memory,
    open_alerts: Collection[Alert] = (),
) -> CheckRead:
    """
    Return what a check needs of the source: its rules' longest window of runs, and all credentials.

    A column that only a look back needs (the record counts, where the 15-minute check wants to close what another check
    opened) must not blind the check to what is its own: without it, what rests on it is not known.

    Args:
        check: the check.
        conninfo: of the Hub Plus database.
        policy: how to read, and how far back each rule looks.
        as_of: the instant judged; aware.
        now: the wall clock; aware. Says whether the source's columns without a past are those of ``as_of``.
        filters: which credentials; those named must exist.
        memory: see `recall`; an empty one looks back for open runs.
        open_alerts: which are open: of the rules that are judged only then.

    Raises:
        SourceError: the source cannot be read as it should be.
        RequestError: a credential that ``filters`` names does not exist.
    """
    from include.sync_health.credential_facts import NO_MEMORY, credential_facts
    from include.warehouse.source_reader import SourceReader

    looked_back_at = {alert.rule for alert in open_alerts if alert.rule in check.of_open}
    with SourceReader.connect(conninfo, policy.source) as reader:
        credentials = reader.read_credentials()
        require_subjects(credentials, filters=filters)

        def read_runs(*, with_counts: bool) -> RunsRead:
            return reader.read_runs(
                finished_from=as_of - lookback_of(check, policy),
                as_of=as_of,
                remembered_open=memory.open_sync_ids,
                credential_ids=filters.credential_ids or None,
                environment=filters.environment,
                with_counts=with_counts,
            )

        if looked_back_at & set(COUNTED_RULES):
            read = _with_counts_if_there(read_runs)
        else:
            read = read_runs(with_counts=bool(set(COUNTED_RULES) & set(check.rules)))
        older = _older_successes(reader, read.runs, credentials, check=check, as_of=as_of, open_alerts=open_alerts)
    is_present = abs(now - as_of) <= PRESENT
    return CheckRead(
        read=read,
        credentials=credentials,
        facts=credential_facts(
            credentials,
            runs=read.runs,
            as_of=as_of,
            is_present=is_present,
            memory=NO_MEMORY if memory.credentials is None else memory.credentials,
            older_success=older,
        ),
        is_present=is_present,
    )


def _with_counts_if_there(read_runs: Callable[..., RunsRead]) -> RunsRead:
    """Return the runs with their counts; with unknown ones where those columns, and they alone, cannot be read."""
    try:
        return read_runs(with_counts=True)
    except CountsUnreadable as error:
        read = read_runs(with_counts=False)
        log.warning(
            "counts_not_read",
            "open alerts of %(rule)s cannot be judged: %(error)s",
            rule=" and ".join(COUNTED_RULES),
            error=str(error),
        )
        return replace(read, runs=read.runs.assign(**dict.fromkeys(COUNT_COLUMNS, float("nan"))))


def lookback_of(check: Check, policy: Policy) -> timedelta:
    """Return how far back a check reads finished runs: its rules' longest window, a week where it judges the rhythm."""
    rules = policy.rules
    windows = {
        "platform_outage": rules.platform_outage.window,
        "no_syncs": WEEK,
        "sync_failures": max(rules.sync_failures.evidence_window, rules.sync_failures.window),
        "consecutive_failures": rules.consecutive_failures.window,
        "stuck_sync": timedelta(hours=1),
        # Older successes are sought one by one, and few have none within this.
        "token_expiry": rules.stale_sync.stale_after,
        "connection_error": rules.stale_sync.stale_after,
        "stale_sync": rules.stale_sync.stale_after,
        "data_quality": rules.data_quality.window,
        "quality_drop": timedelta(0),  # it is judged by our own tables
        "empty_syncs": rules.empty_syncs.window,
    }
    # The others are judged by our own tables.
    return max((windows[rule] for rule in check.all_rules if rule in windows), default=timedelta(0))


def open_sync_ids(
    read: CheckRead | None, *, policy: Policy, as_of: datetime, filters: RunFilters
) -> tuple[str, ...] | None:
    """Return the ids open at ``as_of`` for the next run to remember; None when this run did not see them all."""
    from include.sync_health.stuck_syncs import was_open

    if read is None or filters.narrow:
        return None
    runs = read.read.runs
    still = runs[was_open(runs, as_of=as_of)]
    kept = still[as_of - still["started_at"] <= policy.source.open_lookback]
    return tuple(kept["sync_id"].astype(str))


def require_subjects(credentials: pd.DataFrame, *, filters: RunFilters) -> None:
    """
    Refuse filters that name a credential that is none, or leave nothing to judge.

    Raises:
        RequestError: it says which.
    """
    from include.sync_health.subjects import subjects_of

    unknown = set(filters.credential_ids) - set(credentials["credential_id"].astype(str))
    if unknown:
        raise RequestError(
            f"credential: {', '.join(sorted(unknown))} is not among the {len(credentials)} credentials of the source"
        )
    if filters.narrow and not any(filters.admits(subject) for subject in subjects_of(credentials).values()):
        raise RequestError(
            f"credential and environment together leave nothing to judge: {dict(filters.as_record())} admits none of "
            f"the {len(credentials)} credentials of the source"
        )


def _older_successes(
    reader: SourceReader,
    runs: pd.DataFrame,
    credentials: pd.DataFrame,
    *,
    check: Check,
    as_of: datetime,
    open_alerts: Collection[Alert],
) -> Mapping[str, datetime]:
    """
    Return the last success of credentials that have none in the window: where the check judges all, of all of them;
    else of those that fail or have an open alert, which are the ones it may judge.
    """
    from include.sync_health.credential_facts import last_successes
    from include.sync_health.frames import id_text

    wanted = set(id_text(credentials["credential_id"]))
    if not set(CREDENTIAL_RULES) & set(check.rules):
        failing = id_text(runs.loc[runs["status"] == "failed", "credential_id"])
        wanted &= {*failing, *(alert.credential_id for alert in open_alerts if alert.credential_id)}
        if not set(CREDENTIAL_RULES) & set(check.all_rules):
            return {}
    missing = sorted(wanted - set(last_successes(runs, as_of=as_of).index))
    return reader.read_older_successes(missing, as_of=as_of) if missing else {}
