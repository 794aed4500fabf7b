"""The page as a whole: from rows of the schema to text that Prometheus reads, held against an oracle."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from include.dashboard.metrics_page import Figures, figures_of
from include.sync_health.measuring_policies import MetricsPolicy
from include.sync_health.policy import MonitoringLevel, Policy
from tests.dashboard.planted_metrics import (
    DAY,
    HOUR,
    MINUTE,
    Calls,
    Counter,
    Planted,
    Series,
    Snapshot,
    everything,
    expected,
    of_contract,
    parsed,
    plant,
    plant_check,
    plant_delivery,
    plant_health,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def figures(
    conn: psycopg.Connection[Any], *, level: MonitoringLevel = MonitoringLevel.STANDARD, cap: int = 250_000
) -> Figures:
    """Return the figures of the database by a level and a cap."""
    policy = Policy(monitoring_level=level, metrics=MetricsPolicy(series_cap=cap))
    return figures_of(conn, policy=policy, policy_is_wrong=False, now=NOW)


def page(conn: psycopg.Connection[Any], **wanted: Any) -> Series:
    """Return what the page says."""
    return parsed(figures(conn, **wanted).written(budgets=[], seconds=0.25).decode())


def value(series: Series, name: str, **labels: str) -> float | None:
    """Return one value; None where there is no such series."""
    return series.get((name, frozenset(labels.items())))


@pytest.mark.parametrize("level", list(MonitoringLevel))
def test_the_page_says_what_the_rows_say(conn: psycopg.Connection[Any], level: MonitoringLevel) -> None:
    """Every series of the contract, and none besides, at each level."""
    planted = everything(NOW)
    plant(conn, planted, now=NOW)

    found = of_contract(page(conn, level=level))

    wanted = expected(planted, level=level, now=NOW)
    assert {key: pytest.approx(number, rel=1e-12) for key, number in wanted.items()} == found


def test_numbers_are_exact(conn: psycopg.Connection[Any]) -> None:
    """Integers have all their digits, and a sum of seconds is the very float that is stored."""
    plant(conn, Planted(counters=(Counter(syncs=2**53 + 1, duration=(3, 0.1 + 0.2)),)), now=NOW)

    text = figures(conn).written(budgets=[], seconds=0.0).decode()

    assert f" {2**53 + 1}\n" in text
    assert " 0.30000000000000004\n" in text


def test_a_label_may_say_anything(conn: psycopg.Connection[Any]) -> None:
    """Quotes, backslashes and line breaks are escaped, and read back as they were."""
    hostile = 'a"b\\n\nc{}%s\\'
    plant(conn, Planted(counters=(Counter(company_id=hostile), Counter(company_id="2", credential_id="8"))), now=NOW)

    found = page(conn)

    labels = {"environment": "production", "data_type": "customers", "status": "completed"}
    assert value(found, "servicetitan_sync_completed_total", **labels, company_id=hostile) == 3
    assert value(found, "servicetitan_sync_completed_total", **labels, company_id="2") == 3


def test_time_until_a_token_expires_is_that_of_the_moment(conn: psycopg.Connection[Any]) -> None:
    """Not of the moment at which the credential was seen."""
    plant(conn, Planted(snapshots=(Snapshot(as_of=NOW - 5 * HOUR, expires=NOW + 90 * MINUTE),)), now=NOW)

    found = page(conn)

    labels = {"environment": "production", "status": "active", "company_id": "1"}
    assert value(found, "servicetitan_credentials_token_expiry_seconds", **labels) == 5400


@pytest.mark.parametrize(
    ("changed", "old"),
    [
        pytest.param(NOW - DAY + MINUTE, 0.0, id="changed within the day: the old status says 0"),
        pytest.param(NOW - DAY, None, id="changed a day ago: the old status is gone"),
    ],
)
def test_an_old_status_says_0_for_a_day(conn: psycopg.Connection[Any], changed: datetime, old: float | None) -> None:
    """However long it had lasted."""
    history = (Snapshot(as_of=NOW - 90 * DAY), Snapshot(as_of=changed, status="error"))
    plant(conn, Planted(snapshots=history), now=NOW)

    found = page(conn)

    labels = {"environment": "production", "company_id": "1"}
    assert value(found, "servicetitan_credentials_status", **labels, status="error") == 1
    assert value(found, "servicetitan_credentials_status", **labels, status="active") == old


@pytest.mark.parametrize(
    ("sources", "requests", "timed"),
    [
        pytest.param((), None, None, id="no source: absent, not 0"),
        pytest.param((("table", "unavailable", False),), None, None, id="unavailable: absent, though it once counted"),
        pytest.param((("table", "failing", True),), 10, 1, id="failing: what it has told so far"),
        pytest.param((("table", "available", False), ("log", "available", True)), 10, 2, id="times come from the log"),
        pytest.param((("log", "available", False),), 20, None, id="no source of times: only they are absent"),
    ],
)
def test_api_metrics_come_from_one_source(
    conn: psycopg.Connection[Any],
    sources: tuple[tuple[str, str, bool], ...],
    requests: int | None,
    timed: int | None,
) -> None:
    """Never from two added up."""
    one, two = (1, *[0] * 10), (0, 2, *[0] * 9)
    calls = (Calls(histogram=one), Calls(source="log", requests=20, histogram=two))
    plant(conn, Planted(calls=calls, sources=sources), now=NOW)

    found = page(conn)

    labels = {"environment": "production", "endpoint": Calls().endpoint, "status_code": "200", "company_id": "1"}
    assert value(found, "servicetitan_api_requests_total", **labels) == requests
    assert value(found, "servicetitan_api_response_time_seconds_count", **labels) == timed
    there = {name for name, status, _ in sources if status == "available"}
    for source in ("table", "log", "probe"):
        assert value(found, "servicetitan_monitor_api_source_available", source=source) == (source in there)


def test_whole_families_are_dropped_from_the_least_important_on(conn: psycopg.Connection[Any]) -> None:
    """Down to the cap, always the same, and counted; the monitor's own figures stay."""
    plant(conn, everything(NOW), now=NOW)
    names = [family.name for family in figures(conn).kept if family.series]
    whole = sum(family.series for family in figures(conn).kept)

    seen: list[list[str]] = []
    for cap in range(whole, -1, -1):
        found = figures(conn, cap=cap)
        told = sum(family.series for family in found.kept)
        assert told <= cap
        assert told + found.dropped == whole
        kept = [family.name for family in found.kept if family.series]
        assert kept == names[: len(kept)]
        series = parsed(found.written(budgets=[], seconds=0.0).decode())
        assert value(series, "servicetitan_monitor_series_dropped") == found.dropped
        assert value(series, "servicetitan_monitor_series") == told == len(of_contract(series))
        assert value(series, "servicetitan_monitor_health_ok") == 0
        seen.append(kept)

    assert seen[-1] == []
    assert names[0] == "servicetitan_credentials_status"


def test_the_monitor_tells_of_itself(conn: psycopg.Connection[Any]) -> None:
    """The newest live run of each check, what waits, what was given up, and the health."""
    plant_check(conn, "sync_failures", end=NOW - HOUR, rows=1)
    plant_check(conn, "sync_failures", end=NOW - 15 * MINUTE, status="blind", rows=7)
    plant_check(conn, "sync_failures", end=NOW, mode="historical", rows=99)
    plant_delivery(conn, "slack:#ops", created=NOW - HOUR)
    plant_delivery(conn, "slack:#dev", created=NOW - 2 * HOUR, status="leased")
    plant_delivery(conn, "slack:#dev", created=NOW - 3 * HOUR, status="sent")
    plant_delivery(conn, "email:ops@example.com", created=NOW - 3 * HOUR, status="dead")
    plant_delivery(conn, "email:ops@example.com", created=NOW - DAY - MINUTE, status="dead")
    plant_health(conn, as_of=NOW - 10 * MINUTE, status="warning")

    found = page(conn)

    check = {"check": "sync_failures"}
    assert value(found, "servicetitan_monitor_check_rows", **check) == 7
    assert value(found, "servicetitan_monitor_check_seconds", **check) == 0.25
    assert value(found, "servicetitan_monitor_check_duration_seconds", **check) == 1
    assert value(found, "servicetitan_monitor_check_blind", **check) == 1
    assert value(found, "servicetitan_monitor_check_interval_seconds", **check) == 900
    end = value(found, "servicetitan_monitor_check_window_end_timestamp_seconds", **check)
    assert end == (NOW - 15 * MINUTE).timestamp()
    assert value(found, "servicetitan_monitor_check_rows", check="data_quality") is None
    assert value(found, "servicetitan_monitor_check_interval_seconds", check="data_quality") == 6 * 3600
    assert value(found, "servicetitan_monitor_deliveries_waiting", kind="slack") == 2
    oldest = value(found, "servicetitan_monitor_deliveries_oldest_timestamp_seconds", kind="slack")
    assert oldest == (NOW - 2 * HOUR).timestamp()
    assert value(found, "servicetitan_monitor_deliveries_dead", kind="email") == 1
    assert value(found, "servicetitan_monitor_deliveries_oldest_timestamp_seconds", kind="email") is None
    assert value(found, "servicetitan_monitor_health_ok") == 1
    assert value(found, "servicetitan_monitor_health_status", status="warning") == 1
    assert value(found, "servicetitan_monitor_health_status", status="healthy") == 0
    assert value(found, "servicetitan_monitor_metrics_seconds") == 0.25
    assert value(found, "servicetitan_monitor_policy_wrong") == 0
    assert not any("example.com" in text for _, labels in found for _, text in labels)


def test_only_open_alerts_are_counted(conn: psycopg.Connection[Any]) -> None:
    """By rule and severity; one that is pending has not opened."""
    for number, state in enumerate(("firing", "recovering", "pending", "inactive")):
        conn.execute(
            "INSERT INTO monitoring.alert (fingerprint, rule, identity, state, severity, peak_severity, state_since,"
            " last_as_of, flaps, title, message, reason, metadata, evidence, told, updated_at) VALUES (%s, 'stuck_sync',"
            " '{}', %s, 'high', 'high', now(), now(), 0, '', '', '', '{}', '{}', '{}', now())",
            (str(number), state),
        )
    conn.commit()

    assert value(page(conn), "servicetitan_monitor_alerts_open", rule="stuck_sync", severity="high") == 2


def test_a_health_check_that_is_out_of_date_is_not_ok(conn: psycopg.Connection[Any]) -> None:
    """The figures agree with what /health answers at that moment."""
    plant_health(conn, as_of=NOW - HOUR)

    found = page(conn)

    assert value(found, "servicetitan_monitor_health_ok") == 0
    assert value(found, "servicetitan_monitor_health_status", status="unknown") == 1
    assert value(found, "servicetitan_monitor_health_status", status="healthy") == 0


@pytest.mark.parametrize("level", list(MonitoringLevel))
def test_promtool_finds_nothing_wrong(conn: psycopg.Connection[Any], level: MonitoringLevel) -> None:
    """Names, units, types and help texts keep to Prometheus' conventions."""
    plant(conn, everything(NOW), now=NOW)
    plant_check(conn, "sync_failures", end=NOW)
    plant_health(conn, as_of=NOW)
    plant_delivery(conn, "slack:#ops", created=NOW)
    text = figures(conn, level=level).written(budgets=[], seconds=0.1)

    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)

    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_an_empty_database_has_a_page(conn: psycopg.Connection[Any]) -> None:
    """Nothing of the contract, which is right: nothing has been counted yet."""
    found = page(conn)

    assert of_contract(found) == {}
    assert value(found, "servicetitan_monitor_series_dropped") == 0


def test_figures_are_of_one_moment(conn: psycopg.Connection[Any], dsn: str) -> None:
    """Nothing is written, and no transaction stays open."""
    figures(conn)

    assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    conn.execute("CREATE TABLE monitoring.after_it (n int)")  # the session itself may still write


def test_several_processes_tell_the_same(conn: psycopg.Connection[Any], dsn: str) -> None:
    """What one counted, the other tells: all of it comes from the schema."""
    plant(conn, replace(everything(NOW), calls=(), sources=()), now=NOW)

    with psycopg.connect(dsn) as other:
        assert page(conn) == page(other)
