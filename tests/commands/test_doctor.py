"""``doctor`` as a whole: what it prints, how it ends, what it never shows, and what it finds of policy and channels."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from include import cli
from include.commands.doctor import line_of, summary_of
from include.orchestration.diagnosis import diagnose
from include.orchestration.findings import Finding, failed, passed, warned, without
from include.simulation.slack_server import SlackServer
from tests.commands.doctor_surroundings import SECRET, Surroundings, add_syncs, doctor


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
        "failure.channel",
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
    assert not found[name]["fix"].startswith("see ")
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


@pytest.mark.parametrize(
    ("named", "status", "fix"),
    [
        pytest.param("", "warn", "slack:#name or email:address", id="none"),
        pytest.param("#servicetitan-alerts", "fail", "slack:#name or email:address", id="no kind"),
        pytest.param("pager:me", "fail", "slack:#name or email:address", id="a kind that is none"),
        pytest.param("slack:servicetitan-alerts", "fail", "did you mean '#servicetitan-alerts'?", id="no hash"),
        pytest.param("email:me", "fail", "bare address", id="no address"),
        pytest.param(f"slack:xoxb-1-{SECRET}", "fail", "#channel-name", id="a token, which is not shown"),
        pytest.param("slack:#servicetitan-alerts", "pass", "", id="a channel"),
    ],
)
def test_the_channel_of_the_monitors_own_failure_is_looked_at(
    place: Surroundings, capsys: pytest.CaptureFixture[str], named: str, status: str, fix: str
) -> None:
    place.failure_channel(named)

    code, found = doctor(capsys)

    assert code == (2 if status == "fail" else 0)
    assert found["failure.channel"]["status"] == status
    assert fix in found["failure.channel"]["fix"]


def test_the_channel_of_the_monitors_own_failure_is_probed_like_any_other(
    place: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    place.failure_channel("slack:#nobody-made-it")

    _, found = doctor(capsys)

    assert found["slack.channel.#nobody-made-it"]["status"] == "warn"
    assert found["slack.channel.#servicetitan-alerts"]["status"] == "pass"
