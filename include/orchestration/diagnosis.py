"""
Can the monitor see, remember and tell? One finding for each thing that has to be right, in the order to mend them.

Nothing is written and nothing is sent. Each probe is bounded in time, and one that breaks is a finding, not the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from include.orchestration.connections import ConnectionValues, find_connection
from include.orchestration.findings import Finding, failed, passed, warned, without
from include.orchestration.policy_file import LoadedPolicy, load_policy
from include.orchestration.policy_mistakes import lines_of, looks_secret
from include.orchestration.settings import FAILURE_CHANNEL_VARIABLE, MAIL, SLACK_BOT, SLACK_WEBHOOK
from include.orchestration.zone_guess import FURTHEST, zone_finding
from include.sync_health.errors import ConnectionMissing, MonitorError, PolicyError, SourceError
from include.sync_health.policy import Policy, SourcePolicy
from include.sync_health.routing import address_of, kind_of
from include.sync_health.verdicts import Severity

if TYPE_CHECKING:
    from include.warehouse.source_reader import SourceReader
    from include.warehouse.source_schema import SourceShape

STATEMENT_TIMEOUT = timedelta(seconds=15)  # a person waits for the answer; the policy's own limit is for batches
CLOCKS_AGREE_WITHIN = timedelta(minutes=1)
LOOK_BACK = timedelta(hours=24)
SECRET_COLUMNS = ("client_secret", "access_token", "refresh_token")

_REWRITE = "write it anew, as a URI or as a JSON object (docs/deployment.md)"

FindConnection = Callable[[str], ConnectionValues]


def diagnose(
    *, now: datetime, overlay: Path | None = None, find: FindConnection = find_connection
) -> Iterator[Finding]:
    """
    Yield the findings one by one, each as soon as it is known.

    Args:
        now: the wall clock, aware.
        overlay: the policy file laid over the shipped one; None: the one that the environment names.
        find: returns a connection by its id.
    """
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    loaded, findings = _policy(overlay)
    yield from findings
    policy = loaded.policy
    find = _with_fix(find)
    channel, finding = _failure_channel(os.environ.get(FAILURE_CHANNEL_VARIABLE, "").strip())
    yield from _guarded("source.connection", lambda: _source(policy, find=find, now=now))
    yield from _guarded("storage.connection", lambda: _storage(policy, find=find, now=now))
    yield finding
    yield from _guarded("slack.token", lambda: _slack(policy, channel, find=find))
    yield from _guarded("mail.server", lambda: _mail(policy, channel, find=find))


def _guarded(name: str, probe: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from probe()
    except MonitorError as error:
        yield _told(name, error)
    except Exception as error:  # noqa: BLE001 - see below
        # A probe must not hide the findings after it; only the type is told, since the text may hold a secret.
        yield failed(name, f"the probe itself broke ({type(error).__name__})", fix="report this as a bug")


def _policy(overlay: Path | None) -> tuple[LoadedPolicy, list[Finding]]:
    try:
        loaded = load_policy(overlay=overlay)
    except PolicyError as error:
        findings = [
            failed("policy", mistake, fix="mend it; try with: python -m include.cli policy --check FILE")
            for mistake in lines_of(error)
        ]
        # The shipped file alone, so that the rest can still be looked at.
        shipped = load_policy(environ={})
        findings.append(warned("policy.fallback", "what follows goes by the shipped policy", fix="mend it first"))
        return shipped, findings
    files = ", then ".join(source.name for source in loaded.sources)
    return loaded, [passed("policy", f"version {loaded.version} from {files}"), *_routes(loaded.policy)]


def _with_fix(find: FindConnection) -> FindConnection:
    """Return ``find`` whose every error names a fix: a connection that cannot be read is written anew."""

    def found(conn_id: str) -> ConnectionValues:
        try:
            return find(conn_id)
        except ConnectionMissing:
            raise
        except MonitorError as error:
            raise error if "; " in str(error) else MonitorError(f"{error}; {_REWRITE}") from None

    return found


def _failure_channel(named: str) -> tuple[str | None, Finding]:
    """Return the channel key that the environment names, None where there is none to use, and what to say of it."""
    from pydantic_core import PydanticCustomError

    from include.orchestration.policy_values import channel_key

    name, where = "failure.channel", f"{FAILURE_CHANNEL_VARIABLE} where Airflow runs"
    if not named:
        fix = f"set {where}: write slack:#name or email:address"
        return None, warned(name, "nobody is told when the monitor itself fails: none is set here", fix=fix)
    try:
        channel_key(named)
    except PydanticCustomError as error:
        shown = "a text that looks like a secret" if looks_secret(named) else repr(named)
        said = f"{FAILURE_CHANNEL_VARIABLE} is {shown}, which is no channel"
        return None, failed(name, said, fix=f"set {where}: {error.message()}")
    return named, passed(name, f"{named} is told when the monitor itself fails")


def _addresses(policy: Policy, failure_channel: str | None, *, kind: str) -> list[str]:
    """Return the addresses of one kind that are told: by the receivers, or of the monitor's own failure."""
    channels = {channel for receiver in policy.receivers.values() for channel in receiver.channels()}
    channels |= {failure_channel} if failure_channel else set()
    return sorted(address_of(channel) for channel in channels if kind_of(channel) == kind)


def _told(name: str, error: MonitorError) -> Finding:
    """Return the finding of an error of ours: its text is what was found, a semicolon, and the fix."""
    found, _, fix = str(error).partition("; ")
    return failed(name, found, fix=fix or "see docs/runbook.md")


def _routes(policy: Policy) -> Iterator[Finding]:
    for severity in (Severity.CRITICAL, Severity.HIGH):
        everything = [
            route
            for route in policy.routes
            if (not route.match.severity or severity in route.match.severity)
            and not route.match.rule
            and not route.match.environment
        ]
        if not everything:
            yield warned(
                f"policy.routes.{severity}",
                f"no route takes every {severity} alert: some may be told to nobody",
                fix="end routes with one that matches it by severity alone",
            )


def _source(policy: Policy, *, find: FindConnection, now: datetime) -> Iterator[Finding]:
    from include.warehouse.grants import server_time, writable_tables
    from include.warehouse.source_reader import SourceReader
    from include.warehouse.source_session import SourceInForce, open_session

    bounded = SourceInForce.of(policy.source)
    if bounded.statement_timeout > STATEMENT_TIMEOUT:
        bounded = replace(bounded, statement_timeout=STATEMENT_TIMEOUT, timeout_key=None)
    connection = find(policy.source.connection)
    conninfo = connection.postgres_conninfo(application_name="servicetitan_monitor doctor")
    with open_session(conninfo, bounded) as session:
        yield passed("source.connection", _where(connection))
        yield _clock("source.clock", server_time(session), now=now)
        reader = SourceReader(session, bounded)
        shape = reader.shape
        tables = (shape.runs.name, shape.credentials.name, shape.companies.name)
        yield passed("source.schema", f"{shape.schema}: {', '.join(tables)}; runs are found by {shape.search}")
        yield from _limits(shape, bounded)
        writes = writable_tables(session, schema=shape.schema, tables=tables)
        if writes:
            yield warned(
                "source.grants",
                f"the user of {connection.conn_id} may change the application's tables {', '.join(writes)}",
                fix="connect as a role that has only SELECT (docs/deployment.md)",
            )
        else:
            yield passed("source.grants", "may read what is needed, and change nothing")
        yield zone_finding(
            _newest_start(reader, now=now),
            now=now,
            timezone=policy.source.timezone,
            is_aware=shape.runs.is_aware("started_at"),
        )


def _limits(shape: SourceShape, policy: SourcePolicy) -> Iterator[Finding]:
    """Yield what this source cannot give, not cheaply, or should not give."""
    from include.warehouse.source_schema import require_counts

    table = shape.runs.name
    if exposed := [column for column in SECRET_COLUMNS if shape.credentials.has(column)]:
        yield warned(
            "source.secrets",
            f"the connection's user may read {', '.join(exposed)}; the monitor never does",
            fix="grant it the other columns only (docs/deployment.md)",
        )
    if shape.search == "scan":
        yield warned(
            "source.index",
            f"{table} has no key or index that rises with time: every read scans the table twice, and a backfill does "
            "for each chunk of days (quality --dry-run tells how often)",
            fix="ask the application's team for an index on started_at (docs/deployment.md)",
        )
    if shape.presence is None:
        yield warned(
            "source.completeness",
            "it cannot be seen whether a credential has its client id and secret: all count as complete",
            fix="have the view servicetitan_credentials_monitor created (docs/deployment.md)",
        )
    try:
        require_counts(shape, policy)
    except SourceError as error:
        # Only what needs the counts is blind: the rest of the monitor works.
        yield _told("source.counts", error)
    if "updated_at" in shape.runs.types and not shape.runs.has("updated_at"):
        yield warned(
            "source.updated_at",
            f"{table}.updated_at may not be read: a failed run without completed_at counts by its start",
            fix=f"GRANT SELECT (updated_at) ON {shape.schema}.{table} to the connection's user",
        )


def _newest_start(reader: SourceReader, *, now: datetime) -> datetime | None:
    """
    Return the latest start among the rows inserted last, or of the whole table when none is of the last day.

    Rows that the time zone moves into the future are looked at too; the last three by key, so that one stray stamp
    among thousands of older rows is not taken for the newest.
    """
    read = reader.read_runs(finished_from=now - LOOK_BACK, as_of=now + FURTHEST, remembered_open=())
    if read.runs.empty or reader.shape.run_key != "integer":
        return read.newest_started_at
    inserted_last = read.runs["sync_id"].astype("int64").nlargest(3).index
    newest: datetime = read.runs.loc[inserted_last, "started_at"].max().to_pydatetime()
    return newest


def _storage(policy: Policy, *, find: FindConnection, now: datetime) -> Iterator[Finding]:
    from include.warehouse.grants import lacking_in_storage, server_time
    from include.warehouse.migration import HEAD_REVISION, require_current
    from include.warehouse.monitoring_session import SCHEMA, connect

    connection = find(policy.storage_connection)
    with connect(connection.postgres_conninfo(application_name="servicetitan_monitor doctor")) as session:
        yield passed("storage.connection", _where(connection))
        yield _clock("storage.clock", server_time(session), now=now)
        try:
            require_current(session)
        except MonitorError as error:
            yield _told("storage.schema", error)
            return
        yield passed("storage.schema", f"{SCHEMA} is at revision {HEAD_REVISION}")
        lacking = lacking_in_storage(session)
        if lacking.rights:
            yield failed(
                "storage.grants",
                f"the user of {connection.conn_id} lacks {', '.join(lacking.rights)}",
                fix=f"have the owner of the schema, or of the database, run: {'; '.join(lacking.grants)}",
            )
        else:
            yield passed("storage.grants", "may read and write all of our tables, and make temporary ones")


def _slack(policy: Policy, failure_channel: str | None, *, find: FindConnection) -> Iterator[Finding]:
    from include.orchestration.channel_probes import slack_findings

    channels = _addresses(policy, failure_channel, kind="slack")
    if not channels:
        yield passed("slack.token", "no receiver names a Slack channel")
        return
    try:
        connection = find(SLACK_BOT)
    except ConnectionMissing:
        webhook = find(SLACK_WEBHOOK) if _exists(SLACK_WEBHOOK, find) else None
        if webhook is None:
            raise
        yield warned(
            "slack.webhook",
            f"only {SLACK_WEBHOOK} is configured: it posts to the channel it was made for, whatever the policy names, "
            "and cannot be probed without posting",
            fix=f"configure {SLACK_BOT} with a bot token, or run test-alert",
        )
        return
    yield from slack_findings(connection, channels)


def _mail(policy: Policy, failure_channel: str | None, *, find: FindConnection) -> Iterator[Finding]:
    from include.orchestration.channel_probes import mail_findings

    addresses = _addresses(policy, failure_channel, kind="email")
    if not addresses:
        yield passed("mail.server", "no receiver names a mail address")
        return
    yield from mail_findings(find(MAIL), addresses)


def _exists(conn_id: str, find: FindConnection) -> bool:
    try:
        find(conn_id)
    except ConnectionMissing:
        return False
    return True


def _clock(name: str, theirs: datetime, *, now: datetime) -> Finding:
    apart = abs(theirs - now)
    if apart <= CLOCKS_AGREE_WITHIN:
        return passed(name, "agrees with this machine's clock")
    return warned(
        name,
        f"the server's clock and this machine's are {round(apart.total_seconds())} seconds apart",
        fix="synchronise both by NTP: windows end at this machine's now",
    )


def _where(connection: ConnectionValues) -> str:
    place = f"{connection.host or 'the local socket'}:{connection.port or 5432}/{connection.schema}"
    return without(f"{connection.conn_id}: {place} as {connection.login or 'the default user'}", connection.secrets)
