"""``migrate`` from the shell: what it prints, and the code it ends with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from include.cli import main
from include.warehouse.migration import HEAD_REVISION


@pytest.fixture
def dsn(make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database behind the connection ``monitoring_db``."""
    dsn = make_database("migrate")
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", dsn)
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    return dsn


def test_it_tells_from_where_to_where(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 0
    assert main(["migrate"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"monitoring: nothing -> {HEAD_REVISION}",
        f"monitoring: already at {HEAD_REVISION}, nothing to do",
    ]


def test_it_answers_in_json(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--json"]) == 0
    assert main(["migrate", "--json"]) == 0

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"schema": "monitoring", "from": None, "to": HEAD_REVISION, "changed": True},
        {"schema": "monitoring", "from": HEAD_REVISION, "to": HEAD_REVISION, "changed": False},
    ]


@pytest.mark.parametrize("how", ["the policy", "an option"])
def test_another_connection_can_be_named_by(
    how: str,
    dsn: str,
    tmp_path: Path,
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    elsewhere = make_database("elsewhere")
    monkeypatch.setenv("AIRFLOW_CONN_OUR_DB", elsewhere)
    arguments = ["migrate"]
    if how == "the policy":
        overlay = tmp_path / "monitor.yaml"
        overlay.write_text("storage: {connection: our_db}\n", encoding="utf-8")
        monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))
    else:
        arguments += ["--connection", "our_db"]

    assert main(arguments) == 0

    found = {}
    for name, where in (("monitoring_db", dsn), ("our_db", elsewhere)):
        with psycopg.connect(where) as conn:
            found[name] = conn.execute("SELECT to_regclass('monitoring.alert') IS NOT NULL").fetchone()
    assert found == {"monitoring_db": (False,), "our_db": (True,)}


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        pytest.param("", "connection 'monitoring_db' is not configured", id="no connection"),
        pytest.param("postgresql://u:s3cr3t@127.0.0.1:1/db", "cannot be reached", id="nobody listens"),
        pytest.param("smtp://u:s3cr3t@127.0.0.1:25/", "must be a PostgreSQL connection", id="not a database"),
    ],
)
def test_what_could_not_be_done_is_one_line_and_code_2(
    connection: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", connection)
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)

    assert main(["migrate", "--json"]) == 2

    captured = capsys.readouterr()
    assert message in json.loads(captured.out)["error"]
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert "s3cr3t" not in captured.out + captured.err


def test_a_newer_schema_is_left_alone(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["migrate"])
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE monitoring.schema_version SET version_num = '9999'")

    assert main(["migrate"]) == 2
    assert capsys.readouterr().err.endswith("update the project; do not downgrade\n")


def test_a_role_beside_the_owner_is_sent_to_the_owner_in_one_line(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["migrate"])
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE ROLE migrate_guest LOGIN PASSWORD 's3cr3t'")
        try:
            monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", re.sub(r"//[^@]*@", "//migrate_guest:s3cr3t@", dsn))
            code = main(["migrate"])
        finally:
            conn.execute("DROP ROLE migrate_guest")

    told = capsys.readouterr().err
    assert code == 2
    assert told.count("\n") == 1
    assert "migrate with a connection as " in told
    assert "ON ALL TABLES IN SCHEMA monitoring TO migrate_guest" in told
    assert "GRANT USAGE, CREATE" not in told
