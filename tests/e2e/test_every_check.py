"""
Every DAG for real: what the scheduler starts by itself, the 6-hour checks, backfills, and one verdict from every door.

The tests follow one another in the order of the file, each from where the last one ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import psycopg

from include.orchestration.policy_file import load_policy
from include.orchestration.tick_runner import TickRunner
from include.sync_health.checks import CHECKS
from include.warehouse.migration import upgrade
from tests.e2e.deployment import (
    CREDENTIAL_HEALTH,
    DATA_QUALITY,
    DAY,
    HOSTILE_COMPANY,
    HOUR,
    HOUSEKEEPING,
    MINUTE,
    PROJECT,
    SYNC_FAILURES,
    Deployment,
    completed_on,
)

SIX_HOURS, QUARTER = 6 * HOUR, 15 * MINUTE
CHECKING = (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY)
BREACHES = {"sync_failures", "consecutive_failures", "stuck_sync", "data_quality"}
"""What Past Plumbing's trouble long ago breaches."""


def test_a_scheduled_quality_run_tells_and_keeps_the_daily_table(deployment: Deployment) -> None:
    """The scheduler's own first run: the window before the deployment was there."""
    assert deployment.told("Leaky Pipes") == (1, 1)
    (message,) = [message.text for message in deployment.slack.messages if "Leaky Pipes" in message.text]
    assert "has high failure rate: 40.0% (40 of 100 records failed)" in message

    day = (deployment.past.boundary - MINUTE).date()
    one = Daily(completed=1, seconds=60)
    assert daily(deployment, day) == {
        ("Acme Heating", "both"): one,
        (HOSTILE_COMPANY, "both"): one,
        ("Past Plumbing", "both"): one,
        ("Leaky Pipes", "both"): one,
        ("Leaky Pipes", "invoices"): Daily(completed=1, partial=1, records=(100, 60, 40), score=60, seconds=600),
        ("Steady Air", "both"): steady_on(deployment, day, is_final=False),
    }


def test_a_failed_refresh_is_told_once_by_its_cause_and_closed_by_the_next_tick(deployment: Deployment) -> None:
    """Nothing synced since, so nothing failed: the 6-hour check tells; where syncs fail as well, the 15-minute one."""
    began = datetime.now(UTC) - 3 * HOUR
    broken = {"connection_status": "error", "last_connection_attempt": began, "updated_at": began}
    silent = deployment.add("Lapsed Air", **broken)
    deployment.run(CREDENTIAL_HEALTH)
    assert deployment.told("Lapsed Air") == (1, 1)
    assert any("has been in error for 3 hours" in message.text for message in deployment.slack.messages)
    assert deployment.ledger("Lapsed Air") == {
        ("connection_error", "firing", "sent", None),
        ("stale_sync", "firing", "not_sent", "inhibited"),
    }

    failing = deployment.add("Double Trouble", **broken)
    deployment.fail(failing, before=datetime.now(UTC), error="Operation timed out after 30000 milliseconds")
    deployment.succeed(silent)
    deployment.run(SYNC_FAILURES)
    assert deployment.told("Double Trouble") == (1, 1)
    (message,) = [message.text for message in deployment.slack.messages if "Double Trouble" in message.text]
    assert "ServiceTitan Connection Error" in message
    assert deployment.ledger("Double Trouble") == {
        ("connection_error", "firing", "sent", None),
        ("sync_failures", "firing", "not_sent", "inhibited"),
        ("consecutive_failures", "firing", "not_sent", "inhibited"),
    }
    assert deployment.told("Lapsed Air") == (2, 2)
    assert {state for _, state, _, _ in deployment.ledger("Lapsed Air")} == {"inactive"}


def test_backfills_write_history_and_send_nothing(deployment: Deployment) -> None:
    """Three DAGs, long before the monitor was there: credentials were not recorded then, days are whole."""
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    past, before, sent = deployment.past.long_ago, watched(deployment), deployment.sent()
    days = [past.date() - DAY, past.date()]
    assert [daily(deployment, day) for day in days] == [{}, {}]
    runs = {
        SYNC_FAILURES: deployment.backfill(SYNC_FAILURES, start=past - 2 * QUARTER, last=past - QUARTER),
        CREDENTIAL_HEALTH: deployment.backfill(CREDENTIAL_HEALTH, start=past - SIX_HOURS, last=past - SIX_HOURS),
        DATA_QUALITY: deployment.backfill(DATA_QUALITY, start=past - 2 * SIX_HOURS, last=past - SIX_HOURS),
    }
    assert [len(ids) for ids in runs.values()] == [2, 1, 2]
    for dag, ids in runs.items():
        for run_id in ids:
            deployment.expect(dag, run_id)

    assert deployment.sent() == sent
    assert watched(deployment) == before
    ends = deployment.rows("SELECT check_name, window_to FROM monitoring.check_run WHERE mode = 'historical'")
    assert sorted(ends) == [
        ("credential_health", past),
        ("data_quality", past - SIX_HOURS),
        ("data_quality", past),
        ("sync_failures", past - QUARTER),
        ("sync_failures", past),
    ]
    everyone = len(deployment.credentials)
    assert verdicts_at(deployment, past)["credential_health"] == {
        "connection_error.no_data": everyone,
        "stale_sync.no_data": everyone,
        "token_expiry.no_data": everyone,
    }
    assert daily(deployment, days[0]) == {("Steady Air", "both"): steady_on(deployment, days[0], is_final=True)}
    partial = Daily(completed=1, partial=1, records=(100, 60, 40), score=60, seconds=600, is_final=True)
    assert daily(deployment, days[1]) == {
        ("Steady Air", "both"): steady_on(deployment, days[1], is_final=True),
        ("Past Plumbing", "invoices"): partial,
        ("Past Plumbing", "customers"): Daily(completed=1, seconds=4 * 3600, is_final=True),
        ("Past Plumbing", "both"): Daily(failed=3, is_final=True),
    }


def test_the_shell_and_the_tick_runner_say_what_the_dags_said(
    deployment: Deployment, make_database: Callable[..., str]
) -> None:
    """As of one instant: how often each verdict, and of what each breach."""
    past = deployment.past.long_ago
    by_dags, observed = verdicts_at(deployment, past), observed_at(deployment.monitoring_dsn, past)

    told = json.loads(shell(deployment, "check", "all", "--all", "--json", "--as-of", past.isoformat()))
    said = told["observations"]
    counted = Counter(f"{each['type'].removeprefix('servicetitan_')}.{each['verdict']}" for each in said)
    for name, verdicts in by_dags.items():
        # The budgets are those of the days before today: a run that looks at the past does not judge them.
        mine = {f"{rule}." for rule in CHECKS[name].rules if rule != "error_budget"}
        assert not only(verdicts, {"error_budget."})
        assert only(counted, mine) == only(verdicts, mine), name
    breaching = [each for each in said if each["verdict"] == "breach"]
    assert {each["type"].removeprefix("servicetitan_") for each in breaching} == BREACHES
    assert {(each["fingerprint"], each["severity"]) for each in breaching} == observed

    dsn = make_database("tick_runner")
    upgrade(dsn)
    runner = TickRunner(
        source_conninfo=deployment.source_dsn,
        monitoring_conninfo=dsn,
        policy=load_policy(overlay=deployment.overlay).policy,
        lag=datetime.now(UTC) - past,
        is_backfill=True,
    )
    ticked = {each.check.name: each.outcome for each in runner.run(after=past - QUARTER, until=past)}
    assert {name: dict(outcome.verdicts) for name, outcome in ticked.items()} == by_dags
    assert observed_at(dsn, past) == observed


def test_the_same_window_again_changes_nothing(deployment: Deployment) -> None:
    """By hand this time; the window is too old to be told of. The record of each evaluation is replaced by its like."""
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    past, sent = deployment.past.long_ago, deployment.sent()
    before, kept = verdicts_at(deployment, past), [watched(deployment), history(deployment), table(deployment)]
    query = "SELECT check_name, computed_at FROM monitoring.check_run WHERE window_to = %s ORDER BY 1"
    first = deployment.rows(query, past)
    deployment.run_together(CHECKING, window_end=past.isoformat())

    again = deployment.rows(query, past)
    assert [name for name, _ in again] == [name for name, _ in first] == sorted(before)
    assert all(now > then for (_, now), (_, then) in zip(again, first, strict=True))
    assert verdicts_at(deployment, past) == before
    assert [watched(deployment), history(deployment), table(deployment)] == kept
    assert deployment.sent() == sent


def test_housekeeping_is_green_and_silent(deployment: Deployment) -> None:
    """Nothing here is old enough to go, and what is told stays told."""
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    sent, kept = deployment.sent(), [watched(deployment), history(deployment)]
    run_id = deployment.run(HOUSEKEEPING)

    assert set(deployment.states(run_id, dag=HOUSEKEEPING).values()) == {"success"}
    assert [watched(deployment), history(deployment)] == kept
    assert deployment.sent() == sent


class Daily(NamedTuple):
    """A row of the daily table; every sync that took ``seconds``, clean unless partial."""

    completed: int = 0
    partial: int = 0
    failed: int = 0
    records: tuple[int, int, int] = (0, 0, 0)
    score: float | None = None
    seconds: float | None = None
    is_final: bool = False


def daily(deployment: Deployment, day: date) -> dict[tuple[str, str], Daily]:
    """The rows of one day by company and data type, after a look at what they must have in common."""
    query = """
        SELECT company_name, data_type, syncs_completed, syncs_partial, syncs_failed,
               records_processed, records_successful, records_failed, quality_score, duration_avg_seconds, is_final,
               environment = 'production' AND NOT is_vanished AND inconsistent = 0
               AND syncs_total = syncs_completed + syncs_failed AND syncs_clean = syncs_completed - syncs_partial
               AND duration_p95_seconds IS NOT DISTINCT FROM duration_avg_seconds
        FROM monitoring.quality_daily WHERE day = %s
    """
    found = {}
    for company, data_type, completed, partial, failed, *records, score, seconds, is_final, is_sound in deployment.rows(
        query, day
    ):
        assert is_sound, (company, data_type)
        found[company, data_type] = Daily(completed, partial, failed, tuple(records), score, seconds, is_final)
    return found


def steady_on(deployment: Deployment, day: date, *, is_final: bool) -> Daily:
    """Steady Air's row of a day: 20 good records in each sync."""
    syncs = completed_on(deployment, day)
    return Daily(completed=syncs, records=(20 * syncs, 20 * syncs, 0), score=100, seconds=300, is_final=is_final)


def verdicts_at(deployment: Deployment, as_of: datetime) -> dict[str, dict[str, int]]:
    """What the newest run of each check said as of an instant."""
    query = "SELECT check_name, verdicts FROM monitoring.check_run WHERE window_to = %s ORDER BY computed_at"
    return dict(deployment.rows(query, as_of))


def observed_at(dsn: str, as_of: datetime) -> set[tuple[str, str]]:
    """Fingerprint and severity of the breaches that history has of an instant."""
    with psycopg.connect(dsn) as conn:
        query = "SELECT fingerprint, severity FROM monitoring.alert_event WHERE kind = 'observed' AND as_of = %s"
        return set(conn.execute(query, (as_of,)).fetchall())


def watched(deployment: Deployment) -> list[tuple[Any, ...]]:
    """Every alert and every message as it is."""
    return [
        *deployment.rows("SELECT alert::text FROM monitoring.alert ORDER BY fingerprint"),
        *deployment.rows("SELECT delivery::text FROM monitoring.delivery ORDER BY id"),
    ]


def history(deployment: Deployment) -> list[tuple[Any, ...]]:
    """The history of alerts, whenever it was written."""
    query = "SELECT fingerprint, as_of, kind, severity, reason FROM monitoring.alert_event ORDER BY 1, 2, 3"
    return deployment.rows(query)


def table(deployment: Deployment) -> list[tuple[Any, ...]]:
    """The daily table, whenever it was computed."""
    query = (
        "SELECT to_jsonb(q) - 'computed_at' FROM monitoring.quality_daily AS q ORDER BY day, credential_id, data_type"
    )
    return deployment.rows(query)


def only(verdicts: Mapping[str, int], prefixes: set[str]) -> dict[str, int]:
    """The counts of some rules."""
    return {name: count for name, count in verdicts.items() if name.startswith(tuple(prefixes))}


def shell(deployment: Deployment, *arguments: str) -> str:
    """What a command prints in the deployment's environment; it must find a breach."""
    done = subprocess.run(
        [sys.executable, "-m", "include.cli", *arguments],
        env=deployment.airflow.environment(),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    return done.stdout
