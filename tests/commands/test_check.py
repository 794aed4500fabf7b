"""``check``: what it prints and how it exits, over a real source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.cli import main
from include.commands.check import CHECKS
from include.sync_health.api_window import SETTLED_AFTER
from include.sync_health.checks import COUNTED_RULES, OWN_RULES, RULES, TREND_RULES
from tests.orchestration.calling_world import call_badly
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world
from tests.orchestration.trending_days import bring_nothing, lose_yesterday

AT_NOON = ["--as-of", NOON.isoformat()]
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy source; our own schema is not needed, and is taken away."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB")
        with psycopg.connect(made.monitoring_dsn, autocommit=True) as conn:
            conn.execute("DROP SCHEMA monitoring CASCADE")
        yield made


def test_all_clear_exits_0(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how much it read."""
    assert main(["check", "all", *AT_NOON]) == 0
    assert "0 breach" in capsys.readouterr().out


def test_a_breach_exits_1_and_is_printed_in_the_fixed_shape(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON that other tools read."""
    secret = "xoxb-123456789012-abcdefABCDEF123456"
    world.fail_three_times(world.credential, before=NOON, error=f"HTTP 401 invalid_client token={secret}")

    assert main(["check", "sync-failures", *AT_NOON, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["as_of"] == NOON.isoformat()
    assert list(answer["checks"]) == ["sync-failures"]
    check = answer["checks"]["sync-failures"]
    assert check["window"] == [(NOON - timedelta(hours=1)).isoformat(), NOON.isoformat()]
    assert check["rows_read"] >= 4
    (found,) = answer["observations"]
    assert {
        "type",
        "severity",
        "verdict",
        "fingerprint",
        "credential_id",
        "company",
        "environment",
        "data_type",
        "title",
        "message",
        "metadata",
    } <= set(found)
    assert (found["type"], found["verdict"], found["severity"]) == ("servicetitan_sync_failures", "breach", "high")
    assert found["metadata"]["failure_count"] == 3
    assert secret not in json.dumps(answer)


def test_all_verdicts_are_printed_when_asked_for(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """``--all`` shows what is clear as well."""
    assert main(["check", "consecutive-failures", *AT_NOON, "--all", "--json"]) == 0
    assert [each["verdict"] for each in json.loads(capsys.readouterr().out)["observations"]] == ["clear"]


def break_everything(world: MonitoredWorld, *, now: datetime) -> None:
    """Make every rule breach now: the world's own credential has completed nothing for months."""
    hub = world.hub
    for number in (1, 2, 3):
        failing = int(hub.add_credential(hub.add_company(f"Failing {number}")))
        world.fail_three_times(failing, before=now)
    hub.add_credential(hub.add_company("Expiring"), token_expires_at=now + timedelta(days=3))
    hub.add_credential(hub.add_company("Refused"), connection_status="error", updated_at=now - HOUR)
    hub.add_run(world.credential, status="running", started_at=now - 3 * HOUR)
    bad = int(hub.add_credential(hub.add_company("Losing records")))
    hub.add_run(bad, started_at=now - HOUR, completed_at=now - 50 * MINUTE, records=(100, 70, 30))
    sandbox = int(hub.add_credential(hub.add_company("Sandbox"), environment="integration"))
    for hours in range(3, 28):
        world.succeed(sandbox, at=now - hours * HOUR)
    with world.overlay.open("a") as overlay:
        overlay.write("  no_syncs: {environments: [integration]}\n")


def test_every_check_tells_its_own_rule(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Each that needs no schema of ours by its name in the shell, and all of them together."""
    break_everything(world, now=datetime.now(UTC))
    needing_nothing = {name: rule for name, rule in CHECKS.items() if rule not in {*TREND_RULES, *OWN_RULES}}
    assert {*needing_nothing.values(), *TREND_RULES, *OWN_RULES} == {*RULES}
    told: dict[str, set[str]] = {}
    for name in (*needing_nothing, "all"):
        assert main(["check", name, "--json"]) == 1
        answer = json.loads(capsys.readouterr().out)
        assert list(answer["checks"]) == (list(needing_nothing) if name == "all" else [name])
        told[name] = {each["type"] for each in answer["observations"] if each["verdict"] == "breach"}

    assert told == {
        **{name: {f"servicetitan_{rule}"} for name, rule in needing_nothing.items()},
        "all": {f"servicetitan_{rule}" for rule in needing_nothing.values()},
    }


def test_trends_need_the_monitoring_schema(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all, they are left out with a note; by themselves, there is nothing to check."""
    assert main(["check", "all", *AT_NOON]) == 0
    assert (
        "note: quality_drop, empty_syncs, api_errors, api_latency, api_incidents and error_budget: not checked: "
        "needs the monitoring schema"
    ) in capsys.readouterr().err
    for name in ("quality-drop", "empty-syncs", "api-errors", "api-latency", "api-incidents", "error-budget"):
        assert main(["check", name, *AT_NOON]) == 2
        assert "not checked: needs the monitoring schema" in capsys.readouterr().err


def test_trends_are_checked_where_there_is_one(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each by its name, and with all the others."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        lose_yesterday(world, as_of=NOON)
        bring_nothing(world, before=NOON)
        for name, rules in (
            ("quality-drop", {"quality_drop"}),
            ("empty-syncs", {"empty_syncs"}),
            ("error-budget", {"error_budget"}),
            ("all", {"quality_drop", "empty_syncs", "error_budget"}),
        ):
            assert main(["check", name, "--as-of", (NOON + SETTLED_AFTER).isoformat(), "--json"]) == 1
            answer = json.loads(capsys.readouterr().out)
            assert list(answer["checks"]) == (list(CHECKS) if name == "all" else [name])
            assert {each["type"] for each in answer["observations"] if each["verdict"] == "breach"} == {
                f"servicetitan_{rule}" for rule in rules
            }


def test_api_calls_are_checked_by_our_own_tables_alone(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the source does not answer at all."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        call_badly(world, hour=NOON - HOUR)
        monkeypatch.setenv("AIRFLOW_CONN_HUB_PLUS_DB", "postgresql://nobody@127.0.0.1:1/nothing")
        for name, rule in (
            ("api-errors", "api_errors"),
            ("api-latency", "api_latency"),
            ("api-incidents", "api_incidents"),
        ):
            assert main(["check", name, "--as-of", (NOON + SETTLED_AFTER).isoformat(), "--json"]) == 1
            answer = json.loads(capsys.readouterr().out)
            assert list(answer["checks"]) == [name]
            assert answer["checks"][name]["rows_read"] == 0
            assert {each["type"] for each in answer["observations"]} == {f"servicetitan_{rule}"}


def test_what_our_own_tables_remember_is_used_where_they_are_there(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A token that was once seen to last for weeks is no short-lived one, although its row no longer says so."""
    now = datetime.now(UTC)
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        world.hub.set_token(world.credential, expires_at=now + timedelta(days=20), at=now - timedelta(days=10))
        world.tick(now - timedelta(days=10))
        world.hub.set_token(world.credential, expires_at=now - HOUR, at=now - 2 * HOUR)

        assert main(["check", "token-expiry"]) == 1
        assert "nothing is remembered" not in capsys.readouterr().err

        monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB")
        assert main(["check", "token-expiry"]) == 0
        assert "note: nothing is remembered of the credentials" in capsys.readouterr().err


def test_what_cannot_be_told_of_some_credentials_is_left_out(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rules over a whole environment."""
    assert main(["check", "all", *AT_NOON, "--credential", str(world.credential), "--json"]) == 0
    out, err = capsys.readouterr()
    assert {"platform-outage", "no-syncs"}.isdisjoint(json.loads(out)["checks"])
    assert "platform_outage and no_syncs can only be told of all credentials of an environment" in err

    assert main(["check", "no-syncs", *AT_NOON, "--environment", "production", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["checks"]) == ["no-syncs"]


def test_an_environment_that_a_rule_does_not_watch_is_not_called_clear(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sandbox is idle most of the time: outage and silence are shipped for production alone."""
    world.hub.add_credential(world.hub.add_company("Sandbox"), environment="integration")
    assert main(["check", "platform-outage", *AT_NOON, "--environment", "integration"]) == 2
    assert "the policy does not have platform_outage watch integration" in capsys.readouterr().err

    assert main(["check", "all", *AT_NOON, "--environment", "integration", "--json"]) == 0
    out, err = capsys.readouterr()
    assert {"platform-outage", "no-syncs"}.isdisjoint(json.loads(out)["checks"])
    assert "platform_outage and no_syncs watch integration: not checked" in err


def test_the_lines_begin_with_what_breaches_and_end_with_what_nobody_knows(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lapsed short-lived token is no news; a past without rows is not "all clear"."""
    now = datetime.now(UTC)
    world.hub.set_token(world.credential, expires_at=now - 2 * HOUR, at=now - 2 * HOUR - 15 * MINUTE)
    failing = int(world.hub.add_credential(world.hub.add_company("Failing")))
    world.fail_three_times(failing, before=now)

    assert main(["check", "all"]) == 1
    verdicts = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert verdicts == sorted(verdicts, reverse=True)  # breach, then band
    assert set(verdicts) == {"breach", "band"}

    assert main(["check", "no-syncs", "--as-of", (NOON - timedelta(days=9)).isoformat()]) == 0
    assert capsys.readouterr().out.startswith("0 breach, 1 judged (1 without enough data), 0 rows read")


def test_a_rule_that_is_off_is_not_checked(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all, it is left out with a note; by itself, there is nothing to do."""
    with world.overlay.open("a") as overlay:
        overlay.write("  stale_sync: {mode: off}\n")

    assert main(["check", "all", *AT_NOON]) == 0
    assert "the policy has switched off stale_sync: not checked" in capsys.readouterr().err
    assert main(["check", "stale-syncs", *AT_NOON]) == 2
    assert "there is nothing to check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["check", "all", "--as-of", "noon"], "is no instant", id="no instant"),
        pytest.param(["check", "all", "--as-of", ""], "--as-of: '' is no instant", id="an empty one is not now"),
        pytest.param(["check", "all", "--as-of", "2099-01-01T00:00:00Z"], "in the future", id="the future"),
        pytest.param(["check", "all", "--credential", "99"], "is not among the 1 credentials", id="no such credential"),
        pytest.param(
            ["check", "no-syncs", "--credential", "1"], "can only be told of all credentials", id="a part of the whole"
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """No traceback."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_what_cannot_be_told_exits_2(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing table, and stamps from the future: 2 wins over 1."""
    now = datetime.now(UTC)
    for minutes in (1, 2, 3):
        world.succeed(world.credential, at=now + timedelta(hours=3) + minutes * MINUTE)
    world.fail_three_times(world.credential, before=NOON)
    assert main(["check", "all", *AT_NOON]) == 2
    assert "source.timezone" in capsys.readouterr().out

    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO gone")
    assert main(["check", "all"]) == 2
    assert "servicetitan_sync_logs" in capsys.readouterr().err


def test_record_counts_that_cannot_be_read_blind_data_quality_alone(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older grant, or an older source: the other rules answer, and 2 says that one of them could not."""
    now = datetime.now(UTC)
    world.fail_three_times(world.credential, before=now)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs DROP COLUMN records_processed")

    assert main(["check", "all", "--json"]) == 2
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert "servicetitan_sync_failures" in {each["type"] for each in answer["observations"]}
    assert list(answer["checks"]) == [
        name for name, rule in CHECKS.items() if rule not in {*COUNTED_RULES, *TREND_RULES, *OWN_RULES}
    ]
    assert "cannot tell: data_quality: " in err
    assert "records_processed" in err

    assert main(["check", "data-quality"]) == 2
    assert "records_processed" in capsys.readouterr().err


def test_the_verdicts_are_those_of_the_dag(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One implementation: what the shell says breaches is what the tick opened."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        world.fail_three_times(world.credential, before=NOON)
        world.hub.add_run(world.credential, status="running", started_at=NOON - 3 * timedelta(hours=1))
        world.tick(NOON)
        main(["check", "all", *AT_NOON, "--json"])
        answer = json.loads(capsys.readouterr().out)

        breaching = {each["fingerprint"] for each in answer["observations"] if each["verdict"] == "breach"}
        opened = {str(row["fingerprint"]) for row in world.rows("SELECT fingerprint FROM monitoring.alert")}
        assert breaching == opened
        assert len(opened) == 3
