"""A real Prometheus scrapes a real server with the token; the rules load and fire on planted faults; every graph has data."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from include.dashboard.app import PREFIX
from include.simulation.metrics_server import MetricsServer
from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.migration import upgrade
from tests.dashboard.planted_metrics import (
    DAY,
    HOUR,
    MINUTE,
    Calls,
    Counter,
    Planted,
    Quality,
    Snapshot,
    parsed,
    plant,
    plant_check,
    plant_delivery,
    plant_health,
)
from tests.dashboard.real_prometheus import Prometheus

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "include" / "prometheus" / "rules.yml"
RULES_TEST = Path(__file__).with_name("rules_test.yml")
GRAFANA = PROJECT / "include" / "grafana" / "servicetitan.json"

OWN_NAME = re.compile(r"\bservicetitan_[a-z0-9_]+")
SLOW = (0, 0, 0, 0, 0, 0, 0, 5, 200, 0, 0)
"""Most calls took 10 to 30 seconds."""

PLANTED = Planted(
    counters=(
        Counter(status="started", syncs=10, duration=(0, 0.0)),
        Counter(syncs=10, records=(100, 50, 50), last_sync_id="1"),
        Counter(status="failed", syncs=1, failed_by_class={"auth": 1}, last_sync_id="2", records=(0, 0, 0)),
    ),
    snapshots=(
        Snapshot(as_of=datetime(2026, 1, 1, tzinfo=UTC), status="error", expires=datetime(2026, 1, 2, tzinfo=UTC)),
        Snapshot(credential_id="8", as_of=datetime(2026, 1, 1, tzinfo=UTC), company_id="2"),
    ),
    quality=(Quality(records=(1000, 500, 500)),),
    calls=(Calls(requests=10, histogram=SLOW), Calls(status_code=500, requests=10, errors=10, histogram=())),
    sources=(("table", "available", True), ("log", "failing", False)),
)

RAISED = """
    UPDATE monitoring.sync_counter SET syncs = syncs + 20;
    UPDATE monitoring.api_counter SET requests = requests + 200,
        errors = errors + CASE status_code WHEN 500 THEN 200 ELSE 0 END,
        response_count = response_count + CASE status_code WHEN 500 THEN 0 ELSE 205 END,
        histogram = CASE status_code WHEN 500 THEN histogram ELSE ARRAY(SELECT 2 * each FROM unnest(histogram) AS each) END;
"""

NEEDS_TIME = {
    # Its first figure of a token of long life must be two days old; promtool's tests have days.
    "ServiceTitanTokenExpiring",
    # A week before.
    "ServiceTitanDataQualityDropped",
    # Two hours in which nothing rose, within a day in which something did.
    "ServiceTitanNoSyncs",
}
"""Alerts that no fault of this minute can raise."""


@dataclass
class Running:
    """What runs for all tests of this file."""

    server: MetricsServer
    prometheus: Prometheus
    dsn: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Running]:
    """A faulty world at the level ``detailed``, scraped each second; the rules wait for nothing."""
    home = tmp_path_factory.mktemp("prometheus")
    dsn = postgres_server.create_database("scraped")
    upgrade(dsn)
    now = datetime.now(UTC)
    with psycopg.connect(dsn) as conn:
        plant(conn, PLANTED, now=now)
        plant_everything_else(conn, now)
    rules = home / "rules.yml"
    rules.write_text(re.sub(r"for: \w+", "for: 0s", re.sub(r"interval: \w+", "interval: 1s", RULES.read_text())))
    overlay = "monitoring_level: detailed\nmetrics: {cache: 0s, series_cap: 1000}\n"
    with (
        MetricsServer(home / "server", monitoring_dsn=dsn, overlay=overlay) as server,
        Prometheus(home / "prometheus", scraped=server, rules=(rules,)) as prometheus,
    ):
        prometheus.wait_until(lambda: prometheus.query("servicetitan_sync_completed_total"))
        with psycopg.connect(dsn) as conn:
            conn.execute(RAISED.encode())
        prometheus.wait_until(lambda: prometheus.value('servicetitan_sync_completed_total{status="failed"}') == 21)
        yield Running(server, prometheus, dsn)
    postgres_server.drop_database("scraped")


def plant_everything_else(conn: psycopg.Connection[Any], now: datetime) -> None:
    """Write what makes the monitor's own figures, and the daily quality of a spent budget."""
    plant_check(conn, "sync_failures", end=now - HOUR, status="blind")
    plant_delivery(conn, "slack:#ops", created=now - HOUR)
    plant_delivery(conn, "slack:#ops", created=now - HOUR, status="dead")
    plant_health(conn, as_of=now - MINUTE, status="unhealthy")
    conn.execute(
        "INSERT INTO monitoring.alert (fingerprint, rule, identity, state, severity, peak_severity, state_since,"
        " last_as_of, flaps, title, message, reason, metadata, evidence, told, updated_at) VALUES ('1', 'platform_outage',"
        " '{}', 'firing', 'critical', 'critical', now(), now(), 0, '', '', '', '{}', '{}', '{}', now())"
    )
    for back in range(1, 29):
        conn.execute(
            "INSERT INTO monitoring.quality_daily (day, credential_id, data_type, environment, syncs_total, syncs_completed,"
            " syncs_clean, syncs_partial, syncs_failed, syncs_cancelled, syncs_open, records_processed, records_successful,"
            " records_failed, quality_score, inconsistent, score_low, score_high, is_final, computed_at, calc_version)"
            " VALUES (%s, '7', 'customers', 'production', 100, 90, 90, 0, 10, 0, 0, 100, 99, 1, 99, 0, 98, 100, true, now(),"
            " 1)",
            ((now - back * DAY).date(),),
        )
    conn.commit()


def alert_names() -> set[str]:
    """Return the names of all our alerts."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_a_scrape_is_what_the_server_says(running: Running) -> None:
    """Each series of ours is there with its labels, by name and value."""
    said = {
        key: number
        for key, number in parsed(running.server.http.get("/metrics").raise_for_status().text).items()
        if key[0] != "servicetitan_monitor_metrics_seconds" and "token_expiry" not in key[0]
    }

    found = {
        (each["metric"].pop("__name__"), frozenset(labels_of(each["metric"]).items())): float(each["value"][1])
        for each in running.prometheus.query('{__name__=~"servicetitan_.+"}')
    }

    assert {key: found.get(key) for key in said} == said
    assert ("servicetitan_sync_failures_total", frozenset(SYNC_FAILURE.items())) in found


SYNC_FAILURE = {
    "environment": "production",
    "data_type": "customers",
    "error_class": "auth",
    "company_id": "1",
    "credential_id": "7",
}


def labels_of(metric: dict[str, str]) -> dict[str, str]:
    """Return the labels of a scraped series without those that Prometheus adds."""
    return {name: text for name, text in metric.items() if name not in ("instance", "job", "__name__")}


def test_the_target_is_up(running: Running) -> None:
    """Prometheus asked for gzip, and understood what it got."""
    (target,) = running.prometheus.targets()

    assert (target["health"], target["lastError"]) == ("up", "")
    assert running.prometheus.value("up") == 1


def test_a_wrong_token_is_not_let_in(running: Running, tmp_path: Path) -> None:
    """The target is down, and no series is there."""
    wrong = tmp_path / "token"
    wrong.write_text("sesame-close")
    with Prometheus(tmp_path / "stranger", scraped=running.server, token_file=wrong) as stranger:
        down = stranger.wait_until(lambda: [each for each in stranger.targets() if each["health"] == "down"])

        assert "HTTP status 403" in down[0]["lastError"]
        assert stranger.query("servicetitan_monitor_health_ok") == []


def test_each_rule_loads_and_fires_on_its_fault(running: Running) -> None:
    """All but those that take hours to become true, and those whose fault is not planted here."""
    not_planted = {
        "ServiceTitanMonitorNotScraped",
        "ServiceTitanPolicyWrong",
        "ServiceTitanSeriesDropped",
        *NEEDS_TIME,
    }
    loaded = {rule["name"]: rule for rule in running.prometheus.rules()}
    assert set(loaded) == alert_names()

    expected = alert_names() - not_planted
    running.prometheus.wait_until(lambda: expected <= running.prometheus.firing())

    assert running.prometheus.firing() == expected
    assert {rule["health"] for rule in running.prometheus.rules()} == {"ok"}


def test_a_wrong_policy_file_is_an_alert_and_the_last_good_one_holds(running: Running) -> None:
    """The level stays what it was."""
    from include.orchestration.policy_file import dump_policy, load_policy
    from include.warehouse.monitoring_session import connect
    from include.warehouse.policy_versions import remember_policy

    loaded = load_policy(overlay=running.server.overlay)
    with connect(running.dsn) as conn:
        remember_policy(conn, version=loaded.version, text=dump_policy(loaded.policy), now=datetime.now(UTC))
    good = running.server.overlay.read_text()
    running.server.overlay.write_text("monitoring_level: enormous\n")
    try:
        running.prometheus.wait_until(lambda: "ServiceTitanPolicyWrong" in running.prometheus.firing())
        assert running.prometheus.value("servicetitan_sync_failures_total") is not None
    finally:
        running.server.overlay.write_text(good)
    running.prometheus.wait_until(lambda: "ServiceTitanPolicyWrong" not in running.prometheus.firing())


def expressions_of_grafana() -> list[str]:
    """Return every query of the dashboard."""
    dashboard = json.loads(GRAFANA.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_each_graph_of_the_dashboard_has_data(running: Running) -> None:
    """Each query parses and finds something in a world that has everything, but for rates that need hours."""
    expressions = expressions_of_grafana()
    assert len(expressions) > 30

    empty = [each for each in expressions if not running.prometheus.query(each.replace("$environment", "production"))]
    assert empty == []


def test_rules_and_dashboard_name_only_what_is_told(running: Running) -> None:
    """A metric that was renamed would make an alert quiet for ever."""
    told = {name for name, _ in parsed(running.server.http.get("/metrics").text)}

    named = {name for text in (RULES.read_text(), *expressions_of_grafana()) for name in OWN_NAME.findall(text)}
    assert named - told - {"servicetitan_sync_failures", "servicetitan_api_metrics"} == set()  # names of DAGs


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """Unique ids, a place on the grid for each panel, and a data source that is chosen on import."""
    dashboard = json.loads(GRAFANA.read_text())

    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    sources = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", [])}
    assert sources == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "environment"]


def test_promtool_accepts_the_rules() -> None:
    """Names, expressions and templates."""
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_each_alert_fires_in_time_and_stays_quiet_on_good_figures() -> None:
    """By promtool, over hours and days."""
    told = subprocess.run(["promtool", "test", "rules", str(RULES_TEST)], capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr


def test_each_alert_is_tried_both_ways() -> None:
    """An alert that no test expects could have any condition."""
    cases = [case for test in yaml.safe_load(RULES_TEST.read_text())["tests"] for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alert_names()
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alert_names()


def test_each_alert_says_what_to_do() -> None:
    """A severity, a summary and a description."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert sorted(rule["annotations"]) == ["description", "summary"]


def test_a_server_that_is_gone_is_an_alert(running: Running, tmp_path: Path) -> None:
    """Last of all: it ends the server."""
    running.server.__exit__()

    running.prometheus.wait_until(lambda: "ServiceTitanMonitorNotScraped" in running.prometheus.firing())

    assert running.prometheus.targets()[0]["scrapeUrl"].endswith(f"{PREFIX}/metrics")
