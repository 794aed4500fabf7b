"""
What the health check looks at, each thing by itself: our tables, the source, the API, the machine, the scheduler.

What cannot be looked at is `Unseen`, with its reason, and the rest stands. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from include.orchestration.machine_state import disk_space, memory_space
from include.orchestration.scheduler_state import base_url, scheduler_state
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.errors import MonitorError, SourceError
from include.sync_health.health import HealthReport, Unseen
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    import pandas as pd

    from include.sync_health.alerts import Alert
    from include.sync_health.api_probes import ProbeResult
    from include.sync_health.health_probes import Probe
    from include.sync_health.health_resources import CheckState, DatabaseState
    from include.sync_health.policy import Policy

log = DecisionLog("servicetitan.health")

LOOKED_UP_AT_ONCE = 500
"""So many last successes are looked up in one report; each costs its credential's whole history."""

PROBES_REMEMBERED = timedelta(days=14)
"""For so long a credential is known to have a connection for probes by its last one; later it is looked up in its turn."""

REASON_CHARS = 300

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLook:
    """
    What a look needs, all of it values.

    Args:
        policy: in force.
        as_of: the instant judged; aware.
        now: the wall clock; aware.
        source_conninfo, monitoring_conninfo: libpq conninfo, or why there is none.
        scheduled_at: when the scheduler was to begin the run that looks; None where a person did.
        last_try: False lets a passing trouble with the source raise, for the caller to try again.
    """

    policy: Policy
    as_of: datetime
    now: datetime
    source_conninfo: str | MonitorError
    monitoring_conninfo: str | MonitorError
    scheduled_at: datetime | None = None
    last_try: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The report, and the calls of the API that were made for it."""

    report: HealthReport
    probes: Sequence[ProbeResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """What our own tables say."""

    state: DatabaseState
    alerts: Sequence[Alert] | Unseen
    checks: Mapping[str, CheckState] | Unseen
    memory: pd.DataFrame | None = None  # of the credentials; None: nothing is remembered
    probed: Mapping[str, datetime] = field(default_factory=dict)  # when credentials were last probed, by id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Theirs:
    """What the source says."""

    state: DatabaseState
    facts: pd.DataFrame | Unseen
    unproven: frozenset[str]
    runs: pd.DataFrame | Unseen


def look(given: HealthLook) -> Looked:
    """
    Look at everything, and return the report; nothing is written.

    Raises:
        SourceError: the source was in passing trouble and this is not the last try.
    """
    from include.sync_health.health_report import HealthInput, health_report
    from include.sync_health.health_resources import Resources

    ours = _look_at_ours(given)
    theirs = _look_at_source(given, ours=ours)
    probes = _probe(given, theirs.facts, probed=ours.probed)
    report = health_report(
        HealthInput(
            as_of=given.as_of,
            now=given.now,
            policy=given.policy,
            credentials=theirs.facts,
            unproven=theirs.unproven,
            runs=theirs.runs,
            alerts=ours.alerts,
            probes=probes if isinstance(probes, Unseen) else [_as_probe(each) for each in probes],
            resources=Resources(
                source=theirs.state,
                monitoring=ours.state,
                disk=_seen("the disk", disk_space),
                memory=_seen("the memory", memory_space),
                scheduler=_seen("the scheduler", lambda: scheduler_state(base_url())),
                checks=ours.checks,
                scheduled_at=given.scheduled_at,
            ),
        )
    )
    return Looked(report=report, probes=() if isinstance(probes, Unseen) else probes)


def conninfo_or_error(conn_id: str) -> str | MonitorError:
    """Return a connection's conninfo, or the error by which it is not to be had."""
    from include.orchestration.settings import postgres_conninfo

    try:
        return postgres_conninfo(conn_id)
    except MonitorError as error:
        return error


def _look_at_ours(given: HealthLook) -> _Ours:
    from include.sync_health.checks import CHECKS
    from include.sync_health.errors import StorageError
    from include.warehouse.alert_store import load_alerts
    from include.warehouse.check_ages import check_states
    from include.warehouse.database_state import database_state, unreachable
    from include.warehouse.monitoring_session import connect
    from include.warehouse.probe_results import newest_probes
    from include.warehouse.snapshots import credential_memory

    try:
        if isinstance(given.monitoring_conninfo, MonitorError):
            raise given.monitoring_conninfo
        with connect(given.monitoring_conninfo) as conn:

            def read(what: str, ask: Callable[[], Found]) -> Found | Unseen:
                def in_transaction() -> Found:
                    with conn.transaction():
                        return ask()

                return _seen(what, in_transaction)

            state = database_state(conn)
            memory = read("what is remembered of credentials", lambda: credential_memory(conn, as_of=given.as_of))
            probes = read("the earlier probes", lambda: newest_probes(conn, since=given.now - PROBES_REMEMBERED))
            return _Ours(
                state=state,
                alerts=read("the open alerts", lambda: tuple(load_alerts(conn).values())),
                checks=read("when each check ran last", lambda: check_states(conn, CHECKS.values())),
                memory=None if isinstance(memory, Unseen) else memory,
                probed={} if isinstance(probes, Unseen) else {each.credential_id: each.at for each in probes},
            )
    except (StorageError, MonitorError) as error:
        unseen = Unseen(reason="our database cannot be reached")
        return _Ours(state=unreachable(error), alerts=unseen, checks=unseen)


def _look_at_source(given: HealthLook, *, ours: _Ours) -> _Theirs:
    from include.warehouse.database_state import read_source_state, unreachable

    conninfo = given.source_conninfo
    try:
        if isinstance(conninfo, MonitorError):
            raise conninfo
        state = read_source_state(conninfo, given.policy.source)
        if state.error is None:
            return _read_source(given, conninfo, state=state, ours=ours)
    except MonitorError as error:
        if isinstance(error, SourceError) and error.transient and not given.last_try:
            raise
        state = unreachable(error)
    unseen = Unseen(reason="the source database cannot be reached")
    return _Theirs(state=state, facts=unseen, unproven=frozenset(), runs=unseen)


def _read_source(given: HealthLook, conninfo: str, *, state: DatabaseState, ours: _Ours) -> _Theirs:
    """Return what a source that can be reached says; that it cannot be read as it should be is told, not raised."""
    from include.sync_health.health_syncs import WINDOW
    from include.warehouse.source_reader import SourceReader

    policy, as_of = given.policy, given.as_of
    reader = _seen("the source", lambda: SourceReader.connect(conninfo, policy.source))
    if isinstance(reader, Unseen):
        return _Theirs(state=state, facts=reader, unproven=frozenset(), runs=reader)
    with reader:
        credentials = _seen("the credentials", reader.read_credentials)
        # No open run is wanted, and so none is looked for.
        runs = _seen(
            "the recent syncs",
            lambda: reader.read_runs(finished_from=as_of - WINDOW, as_of=as_of, remembered_open=()).runs,
        )
        facts: pd.DataFrame | Unseen
        unproven: frozenset[str] = frozenset()
        if isinstance(credentials, Unseen):
            facts = credentials
        else:
            found = _seen(
                "the state of the credentials",
                lambda: _facts(reader, credentials, runs=runs, given=given, ours=ours),
            )
            facts, unproven = (found, unproven) if isinstance(found, Unseen) else found
    return _Theirs(state=state, facts=facts, unproven=unproven, runs=runs)


def _facts(
    reader: Any, credentials: pd.DataFrame, *, runs: pd.DataFrame | Unseen, given: HealthLook, ours: _Ours
) -> tuple[pd.DataFrame, frozenset[str]]:
    """Return `CREDENTIAL_FACT_COLUMNS` as of now, and whose last success was not looked up although it matters."""
    from include.sync_health.credential_facts import NO_MEMORY, credential_facts
    from include.sync_health.health_credentials import tokens_in_doubt
    from include.sync_health.health_report import known_lifetimes

    def facts_with(older: Mapping[str, datetime]) -> pd.DataFrame:
        return credential_facts(
            credentials,
            runs=_no_runs() if isinstance(runs, Unseen) else runs,
            as_of=given.as_of,
            is_present=True,
            memory=NO_MEMORY if ours.memory is None else ours.memory,
            older_success=older,
        )

    facts = facts_with({})
    doubtful = tokens_in_doubt(facts, policy=given.policy, as_of=given.as_of, open_tokens=known_lifetimes(ours.alerts))
    if not doubtful:
        return facts, frozenset()
    older = reader.read_older_successes(doubtful[:LOOKED_UP_AT_ONCE], as_of=given.as_of)
    return facts_with(older), frozenset(doubtful[LOOKED_UP_AT_ONCE:])


def _no_runs() -> pd.DataFrame:
    """Return `RUN_COLUMNS` without a row, where the syncs could not be read and the credentials could."""
    import pandas as pd

    from include.sync_health.frames import RUN_COLUMNS

    times, flags = ("started_at", "completed_at", "finished_at"), ("is_cancelled",)
    kinds = dict.fromkeys(times, "datetime64[us, UTC]") | dict.fromkeys(flags, "bool")
    return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, "object")) for name in RUN_COLUMNS})


def _probe(
    given: HealthLook, facts: pd.DataFrame | Unseen, *, probed: Mapping[str, datetime]
) -> Sequence[ProbeResult] | Unseen:
    """Return what calls of our own came to, of active credentials that have a connection for it."""
    from include.orchestration.api_probe import run_probes
    from include.sync_health.policy import ACTIVE_STATUSES

    if isinstance(facts, Unseen):
        return facts
    active = facts[facts["connection_status"].isin(ACTIVE_STATUSES)]
    limits = given.policy.health
    return _seen(
        "the ServiceTitan API",
        lambda: run_probes(
            active,
            sample=limits.probe_sample,
            timeout=limits.probe_timeout,
            now=given.now,
            salt=given.as_of.isoformat(),
            probed=probed,
        ),
    )


def _as_probe(result: ProbeResult) -> Probe:
    from include.sync_health.health_probes import Probe

    is_error = result.status == "error"
    return Probe(
        credential_id=result.credential_id,
        response_ms=result.response_ms,
        error=(result.error or "no reason is known") if is_error else None,
        error_class=None if result.error_class is None else str(result.error_class),
    )


def _seen(what: str, ask: Callable[[], Found]) -> Found | Unseen:
    """Return what is asked for, or that it could not be seen: one thing must not take the others away."""
    try:
        return ask()
    except MonitorError as error:
        unseen = Unseen(reason=clean(f"{what} could not be read: {error}", limit=REASON_CHARS))
        log.warning("health_part_not_seen", "%(error)s", what=what, error=unseen.reason)
        return unseen
    except Exception as error:
        log.exception("health_part_not_read", "%(what)s could not be read", what=what)
        return Unseen(reason=f"{what} could not be read: {type(error).__name__}; the log has the details")
