"""Every mistake in a policy file is told with its path, its value, what is allowed, and where it stands."""

from __future__ import annotations

import pytest

from include.orchestration.policy_file import load_policy
from tests.orchestration.told_mistakes import Write, mistake_at, mistakes_of

NIGHTS = "{name: nights, match: {severity: [low]}, from: '22:00', until: '06:00', timezone: UTC, reason: x}"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        pytest.param("sources: {}", "sources", "unknown key; did you mean source?", id="a wrong section"),
        pytest.param(
            "source: {open_lookback: 90m, id_slack: 1h}",
            "rules.stuck_sync.high_after",
            "less than source.open_lookback, which is 90m",
            id="never stuck before abandoned",
        ),
        pytest.param(
            "source: {open_lookback: 1h}", "source.open_lookback", "at least id_slack", id="lookback below slack"
        ),
        pytest.param("source: {statement_timeout: 0s}", "source.statement_timeout", "use 1s to 1h", id="no time limit"),
        pytest.param(
            "source: {timezone: America/New_Yrok}", "source.timezone", "did you mean America/New_York?", id="zone"
        ),
        pytest.param("source: {timezone: America}", "source.timezone", "IANA", id="a folder of zones is no zone"),
        pytest.param("source: {timezone: ../etc/passwd}", "source.timezone", "IANA", id="a path is no zone"),
        pytest.param("source: {timezone: localtime}", "source.timezone", "IANA", id="the machine's zone is no name"),
        pytest.param("source: {timezone: posixrules}", "source.timezone", "IANA", id="rules of zones are no zone"),
        pytest.param("source: {timezone: Factory}", "source.timezone", "IANA", id="a zone not set is no zone"),
        pytest.param("source: {timezone: right/UTC}", "source.timezone", "IANA", id="leap seconds are no zone"),
        pytest.param("source: {timezone: UTC+2}", "source.timezone", "IANA", id="an offset is no zone"),
        pytest.param("reporting: {late_data_days: 99}", "reporting.late_data_days", "from 0 to 31", id="too many days"),
        pytest.param(
            "live_horizon: {sync_failures: 0s}", "live_horizon.sync_failures", "use 1s to 30d", id="no horizon"
        ),
        pytest.param("live_horizon: {syncs: 1h}", "live_horizon.syncs", "unknown key", id="a horizon of no check"),
        pytest.param(
            "environments: {prod: {severity_cap: low}}", "environments.prod", "production", id="cap on no environment"
        ),
        pytest.param(
            "source: {sync_log_table: users}", "source.sync_log_table", "servicetitan_sync_logs", id="a table"
        ),
        pytest.param(
            "source: {schema: 'a b; drop'}", "source.schema", "PostgreSQL name", id="a schema that needs quotes"
        ),
        pytest.param("receivers: {ops: {slack: [], email: []}}", "receivers.ops", "at least one", id="no channel"),
        pytest.param("receivers: {new: {}}", "receivers.new", "at least one", id="an empty receiver"),
        pytest.param("receivers: {ops: {email: [A@b.example, a@b.example]}}", "receivers.ops", "only once", id="twice"),
        pytest.param("receivers: {ops: {slack: '#a'}}", "receivers.ops.slack", "use a list", id="a channel is no list"),
        pytest.param(
            "receivers: {ops: {slack: ['#Ops']}}", "receivers.ops.slack[0]", "lower case", id="capitals in Slack"
        ),
        pytest.param(
            "receivers: {ops: {slack: [general]}}", "receivers.ops.slack[0]", "did you mean '#general'", id="no #"
        ),
        pytest.param(
            "receivers: {ops: {slack: [~]}}", "receivers.ops.slack[0]", "# begins a comment", id="a comment ate it"
        ),
        pytest.param(
            f"receivers: {{ops: {{slack: ['#{'x' * 81}']}}}}", "receivers.ops.slack[0]", "at most 80", id="long"
        ),
        pytest.param(
            "receivers: {ops: {slack: ['#a.b']}}", "receivers.ops.slack[0]", "at most 80", id="a dot in Slack"
        ),
        pytest.param("receivers: {ops: {email: [me]}}", "receivers.ops.email[0]", "bare address", id="no address"),
        pytest.param(
            "receivers: {ops: {email: ['Me <a@b.c>']}}", "receivers.ops.email[0]", "bare address", id="a name"
        ),
        pytest.param(
            "receivers: {ops: {email: ['a@b.c\\nBcc: x@y.z']}}", "receivers.ops.email[0]", "bare", id="a header"
        ),
        pytest.param(
            "receivers: {'a b': {slack: ['#a']}}", "receivers.a b", "name it with a letter", id="receiver's name"
        ),
        pytest.param("routes: [{to: opps}]", "routes[0].to", "did you mean ops?", id="a receiver that is none"),
        pytest.param("routes: [{match: {}}]", "routes[0].to", "missing", id="a route to nowhere"),
        pytest.param("routes: {to: ops}", "routes", "use a list", id="routes are a list"),
        pytest.param(
            "routes: [{to: ops, match: {severity: []}}]", "routes[0].match.severity", "leave the key out", id="none"
        ),
        pytest.param(
            "routes: [{to: ops, match: {rule: [x]}}]", "routes[0].match.rule[0]", "stuck_sync", id="match no rule"
        ),
        pytest.param(
            "routes: [{to: ops}, {to: ops, match: {severity: [high]}}]",
            "routes[1]",
            "can never be reached: routes[0] takes all",
            id="after a catch-all",
        ),
        pytest.param(
            "routes: [{to: ops, match: {severity: [high, low]}}, {to: ops, match: {severity: [low], rule: [stuck_sync]}}]",
            "routes[1]",
            "can never be reached",
            id="after a wider match",
        ),
        pytest.param(
            "credentials: {monitored_statuses: [actve]}",
            "credentials.monitored_statuses[0]",
            "did you mean active?",
            id="a status that is none",
        ),
        pytest.param(
            "credentials: {monitored_statuses: []}", "credentials.monitored_statuses", "name at least one", id="nobody"
        ),
        pytest.param("retention: {check_runs: 7d}", "retention.check_runs", "use 30d to 3650d", id="too forgetful"),
        pytest.param(
            "retention: {token_detail: 500d}",
            "retention.token_detail",
            "at most credential_snapshots, which is 400d",
            id="detail kept longer than the snapshots",
        ),
        pytest.param("retention: {alerts: 60d}", "retention.alerts", "unknown key", id="alerts are not deleted"),
        pytest.param("backfill: {pause: 2m}", "backfill.pause", "use 0s to 1m", id="a backfill that mostly waits"),
        pytest.param("backfill: {statement_timeout: 0s}", "backfill.statement_timeout", "use 1s to 1h", id="no limit"),
        pytest.param(
            "backfill: {rows_per_read: 10}", "backfill.rows_per_read", "from 1000 to 2000000", id="reads of a few rows"
        ),
        pytest.param(
            "backfill: {connection: a b}", "backfill.connection", "id of an Airflow connection", id="no replica's name"
        ),
        pytest.param("backfill: {threads: 4}", "backfill.threads", "unknown key", id="a backfill has no such key"),
        pytest.param(
            f"alerting: {{mutes: [{NIGHTS}, {NIGHTS}]}}", "alerting.mutes", "name nights only once", id="two of a name"
        ),
        pytest.param(
            "alerting: {fallback: {'slack:#a': 'slack:#a'}}",
            "alerting.fallback",
            "the fallback of slack:#a is itself",
            id="a fallback to itself",
        ),
        pytest.param(
            "alerting: {fallback: {'slack:#a': 'slack:#b', 'slack:#b': 'slack:#c'}}",
            "alerting.fallback",
            "one step is all there is",
            id="a fallback of a fallback",
        ),
        pytest.param(
            '"ro\\e[31mutes": []', r"'ro\x1b[31mutes'", "unknown key", id="a key that would colour the terminal"
        ),
        pytest.param("repeat: {low: sometimes}", "repeat.low", "or never; or every run", id="a repeat in words"),
        pytest.param("repeat: {high: 5s}", "repeat.high", "use 1m to 30d; or never", id="a repeat of seconds"),
        pytest.param("summary_above:", "summary_above", "None is not allowed", id="a key without value"),
        pytest.param("source:", "source", "use a mapping", id="a section without keys"),
        pytest.param("monitoring_level: [detailed]", "monitoring_level", "detailed, minimal", id="a list is no word"),
    ],
)
def test_a_mistake_names_its_path_value_and_what_is_allowed(overlay: Write, text: str, path: str, says: str) -> None:
    mistake = mistake_at(overlay(text), path)

    assert says in mistake
    assert "mine.yaml line 1" in mistake or "monitor.yaml line" in mistake


def test_all_mistakes_are_told_at_once(overlay: Write) -> None:
    """Of every section, malformed and contradicting, also where both stand in one file."""
    lines = mistakes_of(
        overlay(
            "source: {timezone: Nowhere}\nrules:\n  stuck_sync: {high_after: 5m}\n  sync_failures: {mode: x, window: 1}\n"
            "routes: [{to: nobody}]\nsummary_above: -1\n"
        )
    )

    assert [line.split(": ")[0] for line in lines] == [
        "source.timezone",
        "rules.sync_failures.mode",
        "rules.sync_failures.window",
        "rules.stuck_sync.high_after",
        "summary_above",
        "routes[0].to",
    ]
    assert "(mine.yaml line 3)" in lines[3]


def test_a_match_that_only_overlaps_is_reachable(overlay: Write) -> None:
    text = "routes: [{to: ops, match: {severity: [high]}}, {to: ops, match: {rule: [stuck_sync]}}, {to: ops}]"

    assert len(load_policy(overlay=overlay(text)).policy.routes) == 3


def test_what_looks_like_a_secret_is_not_repeated(overlay: Write) -> None:
    text = "source: {connection: 'postgresql://u:hunter2@h/d'}\nreceivers: {ops: {slack: ['xoxb-1-hunter2']}}"

    lines = mistakes_of(overlay(text))

    assert len(lines) == 2
    assert "hunter2" not in "".join(lines)
