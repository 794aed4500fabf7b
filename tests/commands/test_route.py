"""``route``: where an alert would go, by the shipped policy, by the story's, and by one that has everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include import cli
from include.commands.alert_arguments import is_about
from tests.sync_health.message_alerts import RULES, alert

ROOT = Path(__file__).resolve().parents[2]
STORY = ROOT / "include/policies/story.yaml"
SLACK, MAIL = "slack:#servicetitan-alerts", "email:ops@example.com"

RICH = """
receivers:
  ops: {slack: ["#ops"], email: [ops@example.com]}
  vip: {slack: ["#vip"]}
  data: {email: [data@example.com]}
routes:
  - {match: {tag: [vip], severity: [critical, high]}, to: vip, continue: true}
  - {match: {rule: [data_quality], data_type: [invoices], company: [42]}, to: data, continue: false}
  - {match: {severity: [critical, high, medium]}, to: ops, continue: false}
  - {match: {environment: [integration]}, to: data}
tags:
  vip: {companies: [42], credentials: [7]}
rules:
  stuck_sync: {mode: shadow}
  no_syncs: {mode: off}
alerting:
  fallback: {"slack:#ops": "email:ops@example.com"}
  mutes:
    - {name: nights, match: {severity: [medium]}, from: "22:00", until: "06:00", timezone: America/Chicago,
       reason: nobody reads it}
    - {name: weekends, match: {rule: [stale_sync]}, days: [saturday, sunday], from: "00:00", until: "00:00",
       timezone: UTC, reason: syncs rest}
"""


@pytest.fixture(autouse=True)
def _no_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)


@pytest.fixture
def rich(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A policy with several routes, tags, mutes, a fallback, a rule in shadow and one that is off."""
    overlay = tmp_path / "rich.yaml"
    overlay.write_text(RICH)
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return what ``route --json`` answers."""
    assert cli.main(["route", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines that ``route`` prints."""
    assert cli.main(["route", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "severity", "channels"),
    [
        pytest.param(["--type", "sync_failures"], "high", [SLACK, MAIL], id="the rule's own severity"),
        pytest.param(["--type", "servicetitan_sync_failures"], "high", [SLACK, MAIL], id="by its type"),
        pytest.param(["--type", "platform_outage"], "critical", [SLACK, MAIL], id="critical"),
        pytest.param(["--type", "stale_sync", "--environment", "production"], "medium", [SLACK, MAIL], id="medium"),
        pytest.param(["--type", "stale_sync", "--severity", "low"], "low", [], id="low is told to nobody"),
        pytest.param(
            ["--type", "sync_failures", "--severity", "critical", "--environment", "integration"],
            "low",
            [],
            id="the sandbox is capped at low, and so told to nobody",
        ),
        pytest.param(["--type", "monitor_health"], "high", [SLACK, MAIL], id="about no environment: no cap"),
    ],
)
def test_the_shipped_routes(
    capsys: pytest.CaptureFixture[str], arguments: list[str], severity: str, channels: list[str]
) -> None:
    found = answer(capsys, *arguments)

    assert (found["severity"], found["channels"]) == (severity, channels)
    assert found["routes"][0]["matches"] is bool(channels)
    assert found["routes"][0]["mismatches"] == ([] if channels else ["severity"])


@pytest.mark.parametrize(
    ("arguments", "severity", "mode", "channels"),
    [
        pytest.param(["--type", "sync_failures"], "high", "live", [SLACK, MAIL], id="a failure"),
        pytest.param(["--type", "stale_sync", "--severity", "low"], "low", "live", [SLACK, MAIL], id="low goes too"),
        pytest.param(
            ["--type", "token_expiry", "--environment", "integration"],
            "medium",
            "live",
            [SLACK, MAIL],
            id="the sandbox is not capped",
        ),
        pytest.param(["--type", "platform_outage"], "critical", "off", [], id="the story has no outage"),
        pytest.param(["--type", "stuck_sync"], "medium", "off", [], id="nor stuck syncs"),
    ],
)
def test_the_routes_of_the_story(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    severity: str,
    mode: str,
    channels: list[str],
) -> None:
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(STORY))

    found = answer(capsys, *arguments)

    assert (found["severity"], found["mode"], found["channels"]) == (severity, mode, channels)
    assert found["routed"] == [SLACK, MAIL]


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize(
    ("arguments", "steps", "channels"),
    [
        pytest.param(
            ["--type", "sync_failures", "--credential", "7"],
            ["matches, continues", "does not match: rule, company, data type", "matches, stops here", "not reached"],
            ["slack:#vip", "slack:#ops", "email:ops@example.com"],
            id="a credential brings its tag, and a route that continues lets the next one have it too",
        ),
        pytest.param(
            ["--type", "data_quality", "--company", "42", "--data-type", "invoices"],
            ["does not match: severity", "matches, stops here", "not reached", "not reached"],
            ["email:data@example.com"],
            id="the first that stops is the last",
        ),
        pytest.param(
            ["--type", "stale_sync", "--severity", "high", "--tag", "vip"],
            ["matches, continues", "does not match: rule, company, data type", "matches, stops here", "not reached"],
            ["slack:#vip", "slack:#ops", "email:ops@example.com"],
            id="a tag given",
        ),
        pytest.param(
            ["--type", "stale_sync", "--environment", "integration"],
            [
                "does not match: severity, tag",
                "does not match: rule, company, data type",
                "does not match: severity",
                "matches, stops here",
            ],
            ["email:data@example.com"],
            id="the cap of the environment counts in the routes",
        ),
    ],
)
def test_every_route_says_what_it_does(
    capsys: pytest.CaptureFixture[str], arguments: list[str], steps: list[str], channels: list[str]
) -> None:
    lines = text(capsys, *arguments)
    found = answer(capsys, *arguments)

    assert [line.split(": ", 1)[1] for line in lines if line.startswith("routes[")] == steps
    assert f"goes to: {', '.join(channels)}" in lines
    assert found["channels"] == channels
    assert [each["matches"] for each in found["routes"]] == [
        None if step == "not reached" else step.startswith("matches") for step in steps
    ]
    assert [each["then"] for each in found["routes"]] == [
        {"matches, continues": "continues", "matches, stops here": "stops"}.get(step) for step in steps
    ]


@pytest.mark.usefixtures("rich")
def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything at once: tags, cap, routes, fallback and mutes."""
    lines = text(capsys, "--type", "stale_sync", "--credential", "7", "--at", "2026-03-07T04:30:00Z")

    assert lines == [
        "servicetitan_stale_sync, medium, production, credential 7, tag vip",
        "routes[0] (severity critical or high, tag vip) to vip: does not match: severity",
        "routes[1] (rule data_quality, company 42, data type invoices) to data: does not match: rule, company, data type",
        "routes[2] (severity critical or high or medium) to ops: matches, stops here",
        "routes[3] (environment integration) to data: not reached",
        "goes to: slack:#ops, email:ops@example.com",
        "fallback: email:ops@example.com, where slack:#ops refuses us",
        "mute nights (nobody reads it): keeps it back at 2026-03-07 04:30 UTC (22:00 to 06:00 America/Chicago)",
        "mute weekends (syncs rest): keeps it back at 2026-03-07 04:30 UTC (00:00 to 00:00 UTC)",
    ]


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize(
    ("at", "muting"),
    [
        pytest.param("2026-03-06T03:59:59Z", [], id="a second before 22:00 in Chicago"),
        pytest.param("2026-03-06T04:00:00Z", ["nights"], id="at 22:00"),
        pytest.param("2026-03-10T02:59:59Z", [], id="a second before, when the clocks have changed"),
        pytest.param("2026-03-10T03:00:00Z", ["nights"], id="at 22:00, an hour earlier since"),
        pytest.param("2026-03-10T11:00:00Z", [], id="at 06:00 it is over"),
        pytest.param("2026-03-08T12:00:00Z", ["weekends"], id="on a Sunday at noon"),
    ],
)
def test_what_mutes_it_is_asked_of_the_clock(capsys: pytest.CaptureFixture[str], at: str, muting: list[str]) -> None:
    found = answer(capsys, "--type", "stale_sync", "--at", at)

    assert [each["name"] for each in found["mutes"] if each["mutes_now"]] == muting


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        pytest.param("stuck_sync", "goes to: nobody, because the rule is shadow; else to slack:#ops", id="shadow"),
        pytest.param("no_syncs", "goes to: nobody, because the rule is off; else to slack:#ops", id="off"),
    ],
)
def test_a_rule_that_is_not_live_tells_nobody(capsys: pytest.CaptureFixture[str], rule: str, words: str) -> None:
    lines = text(capsys, "--type", rule)

    assert f"{words}, email:ops@example.com" in lines
    assert cli.main(["route", "--type", rule, "--expect", "none"]) == 0
    assert cli.main(["route", "--type", rule, "--expect", "slack:#ops,email:ops@example.com"]) == 2


@pytest.mark.parametrize(
    ("expect", "code", "difference"),
    [
        pytest.param(f"{SLACK},{MAIL}", 0, "", id="as expected"),
        pytest.param(f"{MAIL}, {SLACK}", 0, "", id="whatever the order"),
        pytest.param(SLACK, 2, f"too many: {MAIL}", id="somebody is told who should not be"),
        pytest.param(f"{SLACK},{MAIL},slack:#vip", 2, "missing: slack:#vip", id="somebody is not told"),
        pytest.param("none", 2, f"it should go to nobody and goes to {SLACK}, {MAIL}", id="nobody should be told"),
    ],
)
def test_a_pipeline_can_expect(capsys: pytest.CaptureFixture[str], expect: str, code: int, difference: str) -> None:
    """The answer is printed all the same."""
    assert cli.main(["route", "--type", "sync_failures", "--expect", expect, "--json"]) == code

    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["as_expected"] is (code == 0)
    assert found["channels"] == [SLACK, MAIL]
    assert difference in err
    assert err.count("\n") == (0 if code == 0 else 1)


@pytest.mark.usefixtures("rich")
def test_a_mute_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline that ran at night would fail otherwise."""
    muted = ["--type", "stale_sync", "--at", "2026-03-07T04:30:00Z"]

    assert cli.main(["route", *muted, "--expect", "slack:#ops,email:ops@example.com"]) == 0


@pytest.mark.parametrize(
    ("rule", "environment"), [("stale_sync", "production"), ("no_syncs", "production"), ("monitor_health", None)]
)
def test_an_alert_is_of_production_unless_it_is_about_no_environment(
    capsys: pytest.CaptureFixture[str], rule: str, environment: str | None
) -> None:
    assert answer(capsys, "--type", rule)["environment"] == environment


@pytest.mark.parametrize("rule", RULES)
def test_what_can_be_asked_of_a_rule_is_what_its_alerts_are_about(rule: str) -> None:
    """Else a pipeline would expect where an alert goes that never opens."""
    one = alert(rule)

    assert is_about(rule, "environment") is (one.environment is not None)
    assert is_about(rule, "credential") is (one.credential_id is not None)
    assert is_about(rule, "company") is is_about(rule, "tag") is (one.company_id is not None)
    assert is_about(rule, "data_type") is (one.data_type is not None)


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--type", "stale_syn"], "--type: 'stale_syn' is no rule; did you mean stale_sync?", id="type"),
        pytest.param(
            ["--type", "stale_sync", "--severity", "hgih"],
            "--severity: 'hgih' is no severity; did you mean high? use one of critical, high, low, medium",
            id="severity",
        ),
        pytest.param(
            ["--type", "stale_sync", "--environment", "prod"],
            "--environment: 'prod' is no environment; ",
            id="environment",
        ),
        pytest.param(
            ["--type", "monitor_health", "--environment", "production"],
            "--environment: 'production' with an alert of monitor_health, which is about none; leave it out",
            id="an environment where there is none",
        ),
        pytest.param(
            ["--type", "platform_outage", "--credential", "7"],
            "--credential: '7' with an alert of platform_outage, which is about none; leave it out",
            id="a credential where there is none",
        ),
        pytest.param(
            ["--type", "no_syncs", "--tag", "vip"],
            "--tag: 'vip' with an alert of no_syncs, which is about none; leave it out",
            id="a tag where there is no credential",
        ),
        pytest.param(
            ["--type", "sync_failures", "--data-type", "invoices"],
            "--data-type: 'invoices' with an alert of sync_failures, which is about none; leave it out",
            id="a data type where there is none",
        ),
        pytest.param(["--type", "stale_sync", "--at", ""], "--at: '' is no instant", id="an empty time is not now"),
        pytest.param(
            ["--type", "stale_sync", "--environment", ""],
            "--environment: '' is no environment",
            id="an empty environment is not production",
        ),
        pytest.param(
            ["--type", "stale_sync", "--tag", "vpi"],
            "--tag: 'vpi' is no tag of the policy; did you mean vip?",
            id="tag",
        ),
        pytest.param(
            ["--type", "stale_sync", "--company", "Acme Heating"],
            "--company: 'Acme Heating' is no company; use an id of Hub Plus, such as 42",
            id="a name for an id",
        ),
        pytest.param(
            ["--type", "data_quality", "--data-type", "invoice"],
            "--data-type: 'invoice' is no data type; did you mean invoices?",
            id="data type",
        ),
        pytest.param(
            ["--type", "stale_sync", "--expect", "#ops"],
            "--expect: '#ops' is no channel; write slack:#name or email:address",
            id="a channel without its kind",
        ),
        pytest.param(
            ["--type", "stale_sync", "--expect", "https://hooks.slack.com/services/T0/B0/x"],
            "--expect: a text that looks like a secret is no channel",
            id="a secret is not repeated",
        ),
        pytest.param(["--type", "stale_sync", "--at", "noon"], "--at: 'noon' is no instant; write ISO 8601", id="time"),
        pytest.param([], "the following arguments are required: --type", id="nothing"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert cli.main(["route", *arguments]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert "hooks.slack" not in err


def test_a_shell_needs_no_database_and_loads_none() -> None:
    """No connection is configured, and neither psycopg nor pandas nor Airflow is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "SERVICETITAN"))}
    code = (
        "import sys\nfrom include import cli\n"
        "code = cli.main(['route', '--type', 'sync_failures', '--expect', "
        f"'{SLACK},{MAIL}'])\n"
        "print(code, sorted({name.split('.')[0] for name in sys.modules} & {'airflow', 'pandas', 'numpy', 'psycopg'}))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
