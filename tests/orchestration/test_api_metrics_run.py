"""API calls from the application's table to alerts and metrics, over real databases: counted once, told once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration import api_metrics_run
from include.sync_health.api_window import SETTLED_AFTER
from include.sync_health.checks import API_METRICS
from include.sync_health.errors import MonitorError, SourceError
from include.sync_health.policy import MonitoringLevel
from include.sync_health.sync_metrics import Sample
from include.warehouse.api_figures import errors_by_endpoint, response_times
from include.warehouse.metric_reader import read_metric_rows
from tests.orchestration.calling_world import (
    bad_calls,
    bring_in,
    call_badly,
    good_calls,
    keep_log,
    store_hour,
)
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world
from tests.sync_health.call_rows import Call
from tests.warehouse.call_world import create_calls, write_calls

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TWENTY_PAST = NOON + 20 * MINUTE
ENDPOINT = "/crm/v2/tenant/{id}/customers/{id}"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world whose credential has been seen by the 15-minute check."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.tick(NOON)
        yield made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """What would go to StatsD or OpenTelemetry."""
    samples: list[Sample] = []

    def emit(some: list[Sample]) -> int:
        samples.extend(some)
        return len(some)

    monkeypatch.setattr(api_metrics_run, "emit", emit)
    return samples


def sums(samples: list[Sample]) -> Counter[str]:
    """The value of all samples of each metric; of timings their number."""
    found: Counter[str] = Counter()
    for each in samples:
        found[each.name] += 1 if each.metric.kind == "timing" else int(each.value)
    return found


def counted(world: MonitoredWorld, source: str = "table") -> int:
    """Requests that were counted."""
    (row,) = world.rows("SELECT coalesce(sum(requests), 0) AS n FROM monitoring.api_counter WHERE source = %s", source)
    return int(row["n"])


def source(world: MonitoredWorld, name: str) -> Any:
    """What is known of a source."""
    (row,) = world.rows("SELECT * FROM monitoring.api_source WHERE source = %s", name)
    return row


def states(world: MonitoredWorld) -> dict[str, str]:
    """The state of each rule's alert."""
    rows = world.rows("SELECT rule, state FROM monitoring.alert WHERE rule LIKE 'api_%%'")
    return {row["rule"]: row["state"] for row in rows}


def run(world: MonitoredWorld, as_of: datetime) -> dict[str, Any]:
    """One run of the DAG."""
    bring_in(world, as_of)
    return world.tick_and_drain(as_of, check=API_METRICS)


def test_bad_calls_are_told_once_and_once_more_when_they_are_over(world: MonitoredWorld) -> None:
    """Errors, slowness and the rate limit each by its own alert, an hour later all of them closed."""
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=NOON - HOUR))
    for late in (0, 1):
        outcome = run(world, TWENTY_PAST + late * MINUTE)
        assert states(world) == dict.fromkeys(("api_errors", "api_latency", "api_incidents"), "firing")
        assert (outcome["rows_read"], outcome["blind"]) == (0, None)
        assert len(world.slack_texts()) == len(world.subjects()) == 3
    texts = "\n".join(world.slack_texts())
    assert f"ServiceTitan API calls to {ENDPOINT} (production) had an error rate of 25.0%" in texts
    assert "took up to 8.0 s at the 95th percentile in the last hour (200 calls)" in texts
    assert "ServiceTitan refused calls for Acme Heating (production) for their rate 50 times in the last hour" in texts

    write_calls(world.source_dsn, good_calls(world, hour=NOON))
    run(world, TWENTY_PAST + HOUR)

    assert states(world) == dict.fromkeys(("api_errors", "api_latency", "api_incidents"), "inactive")
    assert len(world.slack_texts()) == len(world.subjects()) == 6


def test_each_call_counts_and_is_told_once_whenever_it_comes(world: MonitoredWorld, told: list[Sample]) -> None:
    """A retry adds nothing; a late row is counted by the next run, in its own hour."""
    create_calls(world.source_dsn)
    calls = bad_calls(world, hour=NOON - HOUR)
    write_calls(world.source_dsn, calls[:150])
    first = bring_in(world, TWENTY_PAST)
    again = bring_in(world, TWENTY_PAST, late=2 * MINUTE)
    write_calls(world.source_dsn, calls[150:])
    late = bring_in(world, TWENTY_PAST + HOUR)

    assert (first["calls"], again["calls"], late["calls"]) == (150, 0, 50)
    assert counted(world) == 200
    hours = world.rows("SELECT DISTINCT hour, endpoint, environment FROM monitoring.api_call_hourly")
    assert [(row["hour"], row["endpoint"], row["environment"]) for row in hours] == [
        (NOON - HOUR, ENDPOINT, "production")
    ]
    assert sums(told) == {
        "servicetitan.api.requests": 200,
        "servicetitan.api.errors": 50,
        "servicetitan.api.response_time": 200,
    }
    assert {dict(each.labels)["endpoint"] for each in told} == {ENDPOINT}
    assert all(abs(each.value - 8_000) <= 160 for each in told if each.metric.kind == "timing")


def test_beyond_the_cap_an_average_is_told(world: MonitoredWorld, told: list[Sample]) -> None:
    """One for each set of labels, exact."""
    with world.overlay.open("a") as overlay:
        overlay.write("metrics: {timings_cap: 199}\n")
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=NOON - HOUR))

    answer = bring_in(world, TWENTY_PAST)

    times = [each.value for each in told if each.metric.kind == "timing"]
    assert times == [8_000.0, 8_000.0], "one for each status"
    assert answer["averaged"] == 200


def test_a_pause_is_made_up_for(world: MonitoredWorld) -> None:
    """Nothing is lost of the hours in which nobody read."""
    create_calls(world.source_dsn)
    bring_in(world, TWENTY_PAST)
    write_calls(world.source_dsn, [Call(at=NOON + number * HOUR, credential="1") for number in range(20)])

    assert bring_in(world, TWENTY_PAST + 20 * HOUR)["calls"] == 20


def test_calls_before_counting_began_do_not_count(world: MonitoredWorld) -> None:
    """The first run begins with what may still come late."""
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, [Call(at=NOON - number * HOUR, credential="1") for number in range(10)])

    assert bring_in(world, TWENTY_PAST)["calls"] == 4


def test_without_any_source_the_run_is_well_and_says_what_to_do(world: MonitoredWorld) -> None:
    """Unavailable, which is not 0; and no alert is open or closed by it."""
    answer = bring_in(world, TWENTY_PAST)
    outcome = world.tick_and_drain(TWENTY_PAST, check=API_METRICS)

    assert (answer["table"], answer["log"]) == ("unavailable", "unavailable")
    assert "create the table servicetitan_api_calls" in answer["unavailable"]
    assert "docs/api-calls.md" in source(world, "table")["detail"]
    assert "api_calls.logs" in source(world, "log")["detail"]
    assert (outcome["opened"], outcome["blind"]) == (0, None)


def test_a_table_of_another_shape_fails_the_task_and_stops_no_other_source(
    world: MonitoredWorld, tmp_path: Path
) -> None:
    """The log is read all the same; the line names column and fix, and an open alert stays as it is."""
    call_badly(world, hour=NOON - HOUR)
    world.tick_and_drain(TWENTY_PAST, check=API_METRICS)
    line = {
        "message": "ServiceTitan API GET request",
        "context": {"endpoint": "/customers", "params": {}, "credential_id": world.credential},
        "level": 200,
        "level_name": "INFO",
        "channel": "servicetitan",
        "datetime": (NOON + 10 * MINUTE).isoformat(),
        "extra": {},
    }
    (tmp_path / "servicetitan.log").write_text((json.dumps(line) + "\n") * 3)
    with world.overlay.open("a") as overlay:
        overlay.write(f"api_calls: {{logs: ['{tmp_path}/servicetitan.log']}}\n")
    create_calls(world.source_dsn, "ALTER TABLE servicetitan_api_calls DROP endpoint")

    with pytest.raises(SourceError, match="has no column endpoint or api_endpoint"):
        bring_in(world, TWENTY_PAST + HOUR)
    world.tick_and_drain(TWENTY_PAST + HOUR, check=API_METRICS)

    assert (source(world, "table")["status"], source(world, "log")["status"]) == ("failing", "available")
    assert source(world, "table")["read_until"] == NOON + SETTLED_AFTER, "how far it was read is not forgotten"
    assert counted(world, "log") == 3
    assert states(world)["api_errors"] == "firing"


def test_what_the_log_tells_is_told_once(world: MonitoredWorld, told: list[Sample], tmp_path: Path) -> None:
    """A retry and the next run add nothing."""
    keep_log(world, tmp_path, hour=NOON - HOUR)
    for as_of in (TWENTY_PAST, TWENTY_PAST, TWENTY_PAST + HOUR):
        bring_in(world, as_of)

    assert counted(world, "log") == 3
    assert sums(told) == {"servicetitan.api.requests": 3, "servicetitan.api.response_time": 3}


def test_requests_without_an_answer_count_before_their_hour_is_judged(world: MonitoredWorld, tmp_path: Path) -> None:
    """An application that logs no answers: each request waits for one, and each failure counts at once."""
    at = NOON - 5 * MINUTE
    request, failure = (
        {"message": message, "context": {"endpoint": "/customers", "credential_id": world.credential, "params": {}}}
        for message in ("ServiceTitan API GET request", "ServiceTitan API GET request failed")
    )
    lines = [{**request, "extra": {"process_id": number}} for number in range(150)] + [failure] * 2
    line = {"level": 200, "level_name": "INFO", "channel": "servicetitan", "datetime": at.isoformat(), "extra": {}}
    (tmp_path / "servicetitan.log").write_text("".join(json.dumps({**line, **each}) + "\n" for each in lines))
    with world.overlay.open("a") as overlay:
        overlay.write(f"api_calls: {{logs: ['{tmp_path}/servicetitan.log']}}\n")

    run(world, NOON + 5 * MINUTE)
    assert states(world) == {}
    run(world, TWENTY_PAST)

    (alert,) = world.rows("SELECT evidence FROM monitoring.alert WHERE rule = 'api_errors'")
    assert (alert["evidence"]["failed_calls"], alert["evidence"]["calls"]) == (2, 150)


def test_a_table_that_never_could_be_read_hides_nothing_that_the_log_tells(
    world: MonitoredWorld, told: list[Sample], tmp_path: Path
) -> None:
    """As where somebody created it and forgot the GRANT: metrics and figures are the log's."""
    keep_log(world, tmp_path, hour=NOON - HOUR)
    create_calls(world.source_dsn, "ALTER TABLE servicetitan_api_calls DROP endpoint")

    with pytest.raises(SourceError, match="has no column endpoint or api_endpoint"):
        bring_in(world, TWENTY_PAST)

    assert sums(told) == {"servicetitan.api.requests": 3, "servicetitan.api.response_time": 3}
    with psycopg.connect(world.monitoring_dsn) as conn:
        figures = errors_by_endpoint(conn, start=NOON - HOUR, end=NOON)
        conn.commit()
        page = read_metric_rows(conn, checks=(), level=MonitoringLevel.STANDARD, now=TWENTY_PAST)
    assert (figures.told.source, figures.requests) == ("log", 3)
    assert [sum(row[5] for row in rows or ()) for rows in (page.api_calls, page.api_timings)] == [3, 3]


def test_a_table_without_a_time_leaves_times_to_the_log(
    world: MonitoredWorld, told: list[Sample], tmp_path: Path
) -> None:
    """Until it has one; from then on it is believed, also in hours without a call."""
    keep_log(world, tmp_path, hour=NOON - HOUR)
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, [Call(at=NOON - HOUR, credential=str(world.credential), ms=None)])
    bring_in(world, TWENTY_PAST)
    with psycopg.connect(world.monitoring_dsn) as conn:
        assert response_times(conn, start=NOON - HOUR, end=NOON).told.source == "log"

    write_calls(world.source_dsn, [Call(at=NOON, credential=str(world.credential), ms=80.0)])
    for later in (1, 12, 13):
        bring_in(world, TWENTY_PAST + later * HOUR)
        assert source(world, "table")["has_timings"]


def test_a_log_of_which_no_file_can_be_read_is_failing(world: MonitoredWorld, tmp_path: Path) -> None:
    """It is there and tells nothing, which is not 0."""
    keep_log(world, tmp_path, hour=NOON - HOUR)
    (tmp_path / "servicetitan.log").write_bytes(b"\x1f\x8bno archive")

    with pytest.raises(MonitorError, match=r"servicetitan\.log: cannot be read"):
        bring_in(world, TWENTY_PAST)

    assert source(world, "log")["status"] == "failing"


def test_a_log_that_is_not_there_fails_the_task(world: MonitoredWorld, tmp_path: Path) -> None:
    """A missing file is not known, which is not zero."""
    with world.overlay.open("a") as overlay:
        overlay.write(f"api_calls: {{logs: ['{tmp_path}/nothing*.log']}}\n")

    with pytest.raises(MonitorError, match="nothing"):
        bring_in(world, TWENTY_PAST)
    assert source(world, "log")["status"] == "failing"


def test_a_source_database_that_is_down_fails_nothing(world: MonitoredWorld) -> None:
    """The 15-minute check tells of it; what is stored is judged."""
    call_badly(world, hour=NOON - HOUR)
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", "postgresql://nobody@127.0.0.1:1/nothing")

    answer = bring_in(world, TWENTY_PAST)
    outcome = world.tick_and_drain(TWENTY_PAST, check=API_METRICS)

    assert answer["table"] == "failing"
    assert outcome["blind"] is None
    assert states(world) == {}, "a source that fails proves nothing of the hour"


def test_a_table_that_the_policy_leaves_alone_is_not_read(world: MonitoredWorld) -> None:
    """Whatever is in it."""
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=NOON - HOUR))
    with world.overlay.open("a") as overlay:
        overlay.write("api_calls: {table: false}\n")

    assert bring_in(world, TWENTY_PAST)["table"] == "unavailable"
    assert counted(world) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"is_backfill": True}, "the past", id="a backfill"),
        pytest.param({"late": timedelta(days=2)}, "the past", id="a run that is too late to be live"),
        pytest.param({"credential": "1"}, "leave credentials out", id="a run of some credentials"),
        pytest.param({"environment": "production"}, "leave credentials out", id="a run of one environment"),
    ],
)
def test_a_run_that_is_not_about_the_whole_present_brings_in_nothing(
    world: MonitoredWorld, options: dict[str, Any], why: str
) -> None:
    """It judges what is stored."""
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=NOON - HOUR))

    assert why in bring_in(world, TWENTY_PAST, **options)["skipped"]
    assert counted(world) == 0


def test_history_is_judged_and_told_to_nobody(world: MonitoredWorld) -> None:
    """A backfill of an hour that is stored leaves events, no message."""
    call_badly(world, hour=NOON - HOUR)

    outcome = world.tick_and_drain(TWENTY_PAST, check=API_METRICS, is_backfill=True)

    assert (outcome["mode"], states(world), world.slack_texts()) == ("historical", {}, [])
    events = world.rows("SELECT kind FROM monitoring.alert_event")
    assert [row["kind"] for row in events] == ["observed"] * 3


def test_filters_judge_what_they_name(world: MonitoredWorld) -> None:
    """A credential's incidents, not what all credentials share; an environment's endpoints."""
    call_badly(world, hour=NOON - HOUR)
    world.tick(TWENTY_PAST, check=API_METRICS, credential=str(world.credential))
    assert states(world) == {"api_incidents": "firing"}
    world.tick(TWENTY_PAST + MINUTE, check=API_METRICS, environment="production")
    assert set(states(world)) == {"api_errors", "api_latency", "api_incidents"}


def test_the_sandbox_is_capped(world: MonitoredWorld) -> None:
    """As everywhere."""
    calls = bad_calls(world, hour=NOON - HOUR)
    store_hour(world, calls, hour=NOON - HOUR)
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("UPDATE monitoring.api_call_hourly SET environment = 'integration'")
    world.tick(TWENTY_PAST, check=API_METRICS)

    rows = world.rows("SELECT severity FROM monitoring.alert WHERE rule = 'api_errors'")
    assert [row["severity"] for row in rows] == ["low"]


def test_an_older_reading_that_comes_last_changes_nothing(world: MonitoredWorld) -> None:
    """Of two runs the later reading wins, whichever commits first."""
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=NOON - HOUR))
    bring_in(world, TWENTY_PAST + HOUR)
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute("DELETE FROM servicetitan_api_calls")

    assert bring_in(world, TWENTY_PAST)["calls"] == 0
    (row,) = world.rows("SELECT sum(requests) AS n FROM monitoring.api_call_hourly")
    assert row["n"] == 200
