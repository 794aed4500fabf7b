"""``doctor`` against a real database, Slack and mail server: what it finds, how it ends, what it never shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include import cli
from include.commands.doctor import line_of, summary_of
from include.orchestration.diagnosis import diagnose
from include.orchestration.findings import Finding, Status, failed, passed, warned, without
from include.simulation.hub_plus import HubPlus, create_source
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.warehouse.migration import upgrade

SECRET = "hunter2hunter2"
READER = "doctor_reader"
HARMLESS = (
    "id, company_id, environment, connection_status, token_expires_at, last_connection_attempt, created_at, updated_at"
)


class Surroundings:
    """A place where all is well, made of the environment's variables; a test spoils what it is about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._policy = monkeypatch, folder / "policy.yaml"
        monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(self._policy))
        monkeypatch.setenv("AIRFLOW_HOME", str(folder))
        self.policy("receivers: {ops: {email: [ops@hub.example]}}")

    def policy(self, text: str) -> None:
        self._policy.write_text(text)

    def connection(self, conn_id: str, value: str | dict[str, object]) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self._patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    def without(self, conn_id: str) -> None:
        self._patch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")


@pytest.fixture
def source(make_database: Callable[..., str]) -> str:
    """Return the DSN of a source whose last sync started five minutes ago, as a role that may only read."""
    dsn = make_database("source")
    create_source(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute(f"DROP ROLE IF EXISTS {READER}")
        conn.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{SECRET}'")
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        conn.execute(f"REVOKE SELECT ON servicetitan_credentials FROM {READER}")
        conn.execute(f"GRANT SELECT ({HARMLESS}) ON servicetitan_credentials TO {READER}")
        conn.execute(
            "CREATE VIEW servicetitan_credentials_monitor AS SELECT id, client_id IS NOT NULL AS has_client_id,"
            " client_secret IS NOT NULL AS has_client_secret FROM servicetitan_credentials"
        )
        conn.execute(f"GRANT SELECT ON servicetitan_credentials_monitor TO {READER}")
    return dsn


def add_syncs(dsn: str, *, timezone: str = "UTC") -> None:
    """Add a day of syncs, one every quarter of an hour, written as PHP of that zone writes."""
    now = datetime.now(UTC)
    with HubPlus(dsn, timezone=timezone) as hub:
        credential = hub.add_credential(hub.add_company("Acme"))
        for number in range(96, 0, -1):
            start = now - timedelta(minutes=15 * number - 10)
            hub.add_run(credential, started_at=start, completed_at=start + timedelta(minutes=2))


def as_reader(dsn: str) -> str:
    return re.sub(r"//[^@]*@", f"//{READER}:{SECRET}@", dsn)


@pytest.fixture
def place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, make_database: Callable[..., str]
) -> Iterator[Surroundings]:
    """Return surroundings where all is well."""
    storage = make_database("storage")
    upgrade(storage)
    surroundings = Surroundings(monkeypatch, tmp_path)
    with SlackServer(tokens={f"xoxb-{SECRET}": ("chat:write", "channels:read")}) as slack, MailServer() as mail:
        surroundings.connection("hub_plus_db", as_reader(source))
        surroundings.connection("monitoring_db", storage)
        surroundings.connection(
            "slack_alerts", {"conn_type": "slack", "password": slack.token, "extra": {"base_url": slack.base_url}}
        )
        extra = {"from_email": "monitor@hub.example", "disable_ssl": True, "disable_tls": True, "secret": SECRET}
        surroundings.connection(
            "alert_email", {"conn_type": "smtp", "host": mail.host, "port": mail.port, "extra": extra}
        )
        yield surroundings
        assert slack.messages == []
        assert mail.mails == []


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command; return its code and the findings by name."""
    code = cli.main(["doctor", "--json"])
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    answer = json.loads(out)
    assert answer["ok"] is (code == 0)
    return code, {finding["name"]: finding for finding in answer["findings"]}


def test_where_all_is_well_every_line_passes(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_syncs(source)

    code, found = doctor(capsys)

    assert code == 0
    assert {name for name, finding in found.items() if finding["status"] != "pass"} == set()
    assert list(found) == [
        "policy",
        "source.connection",
        "source.clock",
        "source.schema",
        "source.grants",
        "source.timezone",
        "storage.connection",
        "storage.clock",
        "storage.schema",
        "storage.grants",
        "slack.token",
        "slack.scopes",
        "slack.channel.#servicetitan-alerts",
        "mail.server",
    ]


def test_for_people_it_prints_a_line_for_each_and_a_sum(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.without("slack_alerts")

    code = cli.main(["doctor"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 2
    assert all(re.match(r"(pass|warn|fail)  [a-z.]+", line) for line in lines[:-1])
    assert any(line.startswith("fail  slack.token") and "AIRFLOW_CONN_SLACK_ALERTS" in line for line in lines)
    assert lines[-1].endswith(", 1 failed")
    assert SECRET not in "".join(lines)


@pytest.mark.parametrize(
    ("timezone", "setting", "status", "says"),
    [
        pytest.param("UTC", "UTC", "pass", "read as UTC", id="both in UTC"),
        pytest.param("America/New_York", "America/New_York", "pass", "read as America/New_York", id="both in New York"),
        pytest.param("America/New_York", "UTC", "warn", "America/New_York would explain it", id="written in New York"),
        pytest.param("Asia/Tokyo", "UTC", "warn", "in the future", id="written in Tokyo, ahead"),
    ],
)
def test_a_wrong_time_zone_is_noticed(
    place: Surroundings,
    source: str,
    capsys: pytest.CaptureFixture[str],
    timezone: str,
    setting: str,
    status: str,
    says: str,
) -> None:
    add_syncs(source, timezone=timezone)
    place.policy(f"source: {{timezone: {setting}}}")

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.timezone"]["status"] == status
    assert says in found["source.timezone"]["detail"]


def test_one_stray_stamp_in_an_old_row_is_not_the_newest(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    with HubPlus(source) as hub:
        credential = hub.add_credential(hub.add_company("Acme"))
        hub.add_run(credential, started_at=now + timedelta(hours=6), completed_at=now + timedelta(hours=7))
    add_syncs(source)

    _, found = doctor(capsys)

    assert found["source.timezone"]["status"] == "pass"


def test_a_source_without_any_sync_cannot_tell_its_zone(
    place: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys)

    assert code == 0
    assert found["source.timezone"]["status"] == "warn"


def test_a_source_user_that_may_write_is_warned_of(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.connection("hub_plus_db", source)

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.grants"]["status"] == "warn"
    assert "company, servicetitan_credentials, servicetitan_sync_logs" in found["source.grants"]["detail"]


def test_a_source_that_shows_secrets_is_warned_of(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute(f"GRANT SELECT ON servicetitan_credentials TO {READER}")

    _, found = doctor(capsys)

    assert found["source.secrets"]["status"] == "warn"
    assert "client_secret, access_token, refresh_token" in found["source.secrets"]["detail"]


def test_what_a_source_cannot_give_is_told(
    place: Surroundings, source: str, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute("DROP VIEW servicetitan_credentials_monitor")
        conn.execute(f"REVOKE SELECT ON servicetitan_sync_logs FROM {READER}")
        conn.execute(
            "GRANT SELECT (id, service_titan_credential_id, data_type, status, started_at, completed_at, error_message)"
            f" ON servicetitan_sync_logs TO {READER}"
        )
        conn.execute("ALTER TABLE servicetitan_sync_logs DROP CONSTRAINT servicetitan_sync_logs_pkey")

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.index"]["status"] == "warn"
    assert found["source.completeness"]["status"] == "warn"
    assert "GRANT SELECT (updated_at)" in found["source.updated_at"]["fix"]


def test_a_source_that_may_not_be_read_names_the_grant(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute(f"REVOKE SELECT ON servicetitan_sync_logs FROM {READER}")

    code, found = doctor(capsys)

    assert code == 2
    assert found["source.connection"]["status"] == "fail"
    assert "GRANT SELECT" in found["source.connection"]["fix"]
    assert found["storage.grants"]["status"] == "pass"


def test_a_storage_that_was_never_migrated_says_so(
    place: Surroundings, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.connection("monitoring_db", make_database("bare"))

    code, found = doctor(capsys)

    assert code == 2
    assert found["storage.connection"]["status"] == "pass"
    assert found["storage.schema"]["status"] == "fail"
    assert "include.cli migrate" in found["storage.schema"]["fix"]


def test_a_storage_user_without_rights_is_told_which(
    place: Surroundings, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = make_database("rights")
    upgrade(storage)
    with psycopg.connect(storage) as conn:
        conn.execute(f"GRANT USAGE ON SCHEMA monitoring TO {READER}")
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO {READER}")
    place.connection("monitoring_db", as_reader(storage))

    code, found = doctor(capsys)

    assert code == 2
    assert found["storage.grants"]["status"] == "fail"
    assert "INSERT on alert" in found["storage.grants"]["detail"]


@pytest.mark.parametrize(
    ("conn_id", "value", "name", "says"),
    [
        pytest.param(
            "hub_plus_db", f"mysql://u:{SECRET}@h/d", "source.connection", "of type 'mysql'", id="no postgres"
        ),
        pytest.param("hub_plus_db", f"{{{SECRET}", "source.connection", "not valid JSON", id="broken JSON"),
        pytest.param(
            "hub_plus_db",
            f"postgres://u:{SECRET}@127.0.0.1:1/d",
            "source.connection",
            "cannot be reached",
            id="nobody listens at the source",
        ),
        pytest.param(
            "monitoring_db",
            f"postgres://u:{SECRET}@127.0.0.1:1/d",
            "storage.connection",
            "cannot be reached",
            id="nobody listens at the storage",
        ),
        pytest.param("alert_email", f"http://u:{SECRET}@h/", "mail.server", "of type 'http'", id="mail over http"),
    ],
)
def test_a_broken_connection_is_a_finding_and_the_rest_is_still_looked_at(
    place: Surroundings, capsys: pytest.CaptureFixture[str], conn_id: str, value: str, name: str, says: str
) -> None:
    place.connection(conn_id, value)

    code, found = doctor(capsys)

    assert code == 2
    assert [n for n, finding in found.items() if finding["status"] == "fail"] == [name]
    assert says in found[name]["detail"] + found[name]["fix"]
    assert "slack.token" in found


def test_a_wrong_policy_is_told_and_the_shipped_one_gone_by(
    place: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    place.policy("summary_above: x")

    code, found = doctor(capsys)

    assert code == 2
    assert found["policy"]["status"] == "fail"
    assert "summary_above" in found["policy"]["detail"]
    assert found["policy.fallback"]["status"] == "warn"
    assert found["storage.grants"]["status"] == "pass"


def test_routes_that_leave_critical_alerts_out_are_warned_of(
    place: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    place.policy("routes: [{to: ops, match: {severity: [high, critical], environment: [production]}}]")

    _, found = doctor(capsys)

    assert found["policy.routes.critical"]["status"] == found["policy.routes.high"]["status"] == "warn"


def test_only_a_webhook_is_warned_of_and_not_posted_to(place: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    place.without("slack_alerts")
    with SlackServer() as slack:
        place.connection("slack_alerts_webhook", {"conn_type": "slackwebhook", "password": slack.webhook_url})

        code, found = doctor(capsys)

        assert slack.requests == []
    assert code == 0
    assert found["slack.webhook"]["status"] == "warn"


def test_channels_that_nobody_uses_need_no_connection(place: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    place.without("slack_alerts")
    place.policy("receivers: {ops: {slack: [], email: [a@hub.example]}}")

    code, found = doctor(capsys)

    assert code == 0
    assert "no receiver names" in found["slack.token"]["detail"]


def test_clocks_that_differ_are_warned_of(place: Surroundings) -> None:
    """A frozen clock of ours, an hour behind the servers'."""
    found = {finding.name: finding for finding in diagnose(now=datetime.now(UTC) - timedelta(hours=1))}

    assert found["source.clock"].status is found["storage.clock"].status is Status.WARN
    assert re.search(r"3[56]\d\d seconds apart", found["source.clock"].detail)


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone-aware"):
        next(diagnose(now=datetime(2026, 1, 1)))  # noqa: DTZ001 - that is what is refused


def test_a_line_tells_status_name_detail_and_fix() -> None:
    assert re.sub(" +", " ", line_of(failed("a.b", "broken", fix="mend it"))) == "fail a.b broken -> mend it"
    assert re.sub(" +", " ", line_of(passed("a.b", "fine"))) == "pass a.b fine"
    findings: list[Finding] = [passed("a", "x"), warned("b", "y", fix="z"), passed("c", "x")]
    assert summary_of(findings) == "2 passed, 1 to know of, 0 failed"


def test_secrets_are_blotted_out_of_what_others_say() -> None:
    assert without("535 bad\r\npassword hunter2!", ["hunter2"]) == "535 bad password ***!"
    assert len(without("x" * 1000, [])) == 300
