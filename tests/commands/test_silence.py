"""``silence``: what it would have hidden, what is stored, and how it ends; against a real database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include import cli
from include.warehouse.monitoring_session import connect
from include.warehouse.silences import silences_at
from tests.commands.alerting_world import (
    DAY,
    HOUR,
    MINUTE,
    TAGGED,
    failing_since,
    fingerprint,
    quarter_ago,
    refused,
    told,
    told_json,
)
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world

WHO = ("--author", "Ann", "--reason", "the tenant moves")


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A credential that failed three times an hour ago, which Slack and mail were told of."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        failing_since(made, quarter_ago(4))
        yield made


def stored(world: MonitoredWorld) -> int:
    """How many silences there are."""
    return len(world.rows("SELECT 1 FROM monitoring.silence"))


def test_what_it_would_have_hidden_comes_before_it_is_stored(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = fingerprint(world, "sync_failures")

    lines = told(capsys, "silence", "add", "--match", "rule=sync_failures", "--for", "2h", *WHO)

    assert lines[:2] == ["would have hidden 2 messages of the last 7 days", "       2 sync_failures"]
    examples = lines[2:-1]
    assert len(examples) == 2
    for line in examples:
        assert f"sync_failures of Acme Heating, credential 1 ({failing[:12]}), it opened" in line
    assert re.fullmatch(
        r"silence [0-9a-f]{8} stored: rule sync_failures, from 20\S+ \S+ UTC until 20\S+ \S+ UTC", lines[-1]
    )
    assert stored(world) == 1


PICKS = {
    ("rule=sync_failures",): 2,
    ("type=servicetitan_sync_failures",): 2,
    ("rule=stale_sync", "rule=sync_failures"): 2,  # one of two values
    ("rule=stale_sync",): 0,
    ("rule=sync_failures", "severity=low"): 0,  # both keys must match
    ("rule=sync_failures", "rule=no_syncs", "credential=1"): 2,  # one of the rules has credentials
    ("credential=1", "environment=production"): 2,
    ("credential=2",): 0,
    ("tag=vip",): 2,
    ("data-type=invoices",): 0,
}
"""What is asked, and of how many messages."""


def test_a_preview_stores_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    for matches, messages in PICKS.items():
        asked = [word for match in matches for word in ("--match", match)]

        found = told_json(capsys, "silence", "add", *asked, "--for", "2h", *WHO, "--preview")

        assert (found["preview"]["messages"], found["stored"]) == (messages, False), matches
        assert found["preview"]["by_rule"] == ({"sync_failures": messages} if messages else {})
        assert len(found["preview"]["examples"]) == messages
    assert told(capsys, "silence", "add", "--match", "rule=stale_sync", "--for", "2h", *WHO, "--preview")[0] == (
        "would have hidden no message of the last 7 days"
    )
    assert stored(world) == 0


def test_an_alert_by_the_digits_of_its_message(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    digits = fingerprint(world, "sync_failures")[:12]

    found = told_json(capsys, "silence", "add", "--match", f"fingerprint={digits.upper()}", "--for", "1h", *WHO)

    assert (found["preview"]["messages"], found["silence"]["match"]) == (2, {"fingerprint": [digits]})


def test_what_is_stored_is_what_was_asked_for(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    start, end = now - MINUTE, now + 3 * DAY

    found = told_json(
        capsys,
        *("silence", "add", "--match", "credential=1", "--match", "credential=22", "--match", "severity=high"),
        *("--from", start.isoformat(), "--until", end.isoformat(), "--author", " Ann  B. ", "--reason", "it moves"),
    )["silence"]

    assert found["match"] == {"severity": ["high"], "credential": ["1", "22"]}
    assert (found["starts_at"], found["ends_at"]) == (start.isoformat(), end.isoformat())
    assert (found["author"], found["reason"], found["state"]) == ("Ann B.", "it moves", "holds")
    with connect(world.monitoring_dsn) as conn:
        (held,) = silences_at(conn, now)
    assert (str(held.id), held.match.credential, held.ends_at) == (found["id"], frozenset({"1", "22"}), end)


def test_the_list(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds and what is to come; with --all what is over as well."""
    assert told(capsys, "silence", "list") == ["no silence holds or is to come"]
    assert told(capsys, "silence", "list", "--all") == ["no silence is stored"]
    holds = told_json(capsys, "silence", "add", "--match", "rule=stale_sync", "--for", "2h", *WHO)["silence"]
    coming = (datetime.now(UTC) + HOUR).isoformat()
    comes = told_json(capsys, "silence", "add", "--match", "tag=vip", "--from", coming, "--for", "1h", *WHO)["silence"]
    over = told_json(capsys, "silence", "add", "--match", "severity=low", "--for", "1h", *WHO)["silence"]
    told(capsys, "silence", "end", over["id"][:8], "--by", "Bob")

    states = {each["id"]: each["state"] for each in told_json(capsys, "silence", "list")["silences"]}
    everything = {each["id"]: each["state"] for each in told_json(capsys, "silence", "list", "--all")["silences"]}
    lines = told(capsys, "silence", "list")

    assert cli.main(["silence", "--json", "list"]) == 0
    assert {each["id"] for each in json.loads(capsys.readouterr().out)["silences"]} == set(states)
    assert states == {holds["id"]: "holds", comes["id"]: "to come"}
    assert everything == {**states, over["id"]: "over"}
    assert sorted(line.split()[0] for line in lines) == sorted(each["id"][:8] for each in (holds, comes))
    assert all(line.endswith("  Ann: the tenant moves") for line in lines)
    assert any("  rule stale_sync  " in line for line in lines)


def test_it_is_ended_by_how_its_id_begins(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    made = told_json(capsys, "silence", "add", "--match", "rule=stale_sync", "--for", "2h", *WHO)["silence"]

    (line,) = told(capsys, "silence", "end", made["id"][:8], "--by", "Bob")

    assert line == (
        f"silence {made['id'][:8]} is over: rule stale_sync; the next run of a check tells what it kept back and still fires"
    )
    (row,) = world.rows("SELECT ended_early_by, ends_at <= now() AS is_over FROM monitoring.silence")
    assert (row["ended_early_by"], row["is_over"]) == ("Bob", True)
    again = refused(capsys, "silence", "end", made["id"][:8], "--by", "Bob")
    assert "'xyz' is no id; give at least 6 characters" in refused(capsys, "silence", "end", "xyz", "--by", "Bob")
    assert again == (
        f"ID: '{made['id'][:8]}' is the beginning of no silence that holds or is to come; see silence list --all"
    )


def test_who_asked_by_a_mail_address_is_still_named(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Masked as an address of the source would be, it said that ‹email› wants silence."""
    who = ("--author", "ann.bell@example.com", "--reason", "it moves")
    made = told_json(capsys, "silence", "add", "--match", "rule=stale_sync", "--for", "2h", *who)["silence"]

    (line,) = told(capsys, "silence", "list")

    assert made["author"] == "ann.bell"
    assert line.endswith("  rule stale_sync  ann.bell: it moves")


def test_with_json_an_end_tells_what_ended(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    made = told_json(capsys, "silence", "add", "--match", "rule=stale_sync", "--for", "2h", *WHO)["silence"]

    ended = told_json(capsys, "silence", "end", made["id"], "--by", "Bob")["silence"]

    assert (ended["id"], ended["state"], ended["ended_early_by"]) == (made["id"], "over", "Bob")
    assert "(ended by Bob)" in told(capsys, "silence", "list", "--all")[0]
    assert datetime.fromisoformat(ended["ends_at"]) < datetime.fromisoformat(made["ends_at"])


def asking(*arguments: str, without: str = "") -> list[str]:
    """A right request, but for what is given in place of its own or left out."""
    right = {"--match": "rule=stale_sync", "--for": "2h", "--author": "Ann", "--reason": "why"}
    given = {key: value for key, value in right.items() if key not in (*arguments, without)}
    return ["silence", "add", *(word for pair in given.items() for word in pair), *arguments]


NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
FUTURE = datetime(2099, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(asking("--match", "rle=x"), "--match: unknown key 'rle'; did you mean rule? use one of", id="key"),
        pytest.param(
            asking("--match", "rule=stale_synk"),
            "--match: 'stale_synk' is no rule; did you mean stale_sync? use one of",
            id="rule",
        ),
        pytest.param(
            asking("--match", "severity=urgent"),
            "--match: 'urgent' is no severity; use one of critical, high, low, medium",
            id="severity",
        ),
        pytest.param(
            asking("--match", "tag=vpi"), "--match: 'vpi' is no tag of the policy; did you mean vip?", id="tag"
        ),
        pytest.param(
            asking("--match", "credential=Acme Heating"),
            "--match: 'Acme Heating' is no credential; use an id of Hub Plus, such as 42",
            id="a name for an id",
        ),
        pytest.param(
            asking("--match", "fingerprint=12345"),
            "--match: '12345' is no fingerprint; write the hexadecimal digits that a message ends with, at least 6",
            id="too few digits",
        ),
        pytest.param(
            [*asking("--match", "credential=1"), "--match", "rule=no_syncs", "--match", "rule=platform_outage"],
            "--match: credential with rule no_syncs or platform_outage, whose alerts are about none; leave one of them out",
            id="of what is never together",
        ),
        pytest.param(
            asking("--match", "stale_sync"), "--match: 'stale_sync' is no KEY=VALUE; write it such as", id="no key"
        ),
        pytest.param(asking(without="--match"), "the following arguments are required: --match", id="of everything"),
        pytest.param(asking(without="--author"), "the following arguments are required: --author", id="of nobody"),
        pytest.param(asking(without="--reason"), "the following arguments are required: --reason", id="for no reason"),
        pytest.param(asking("--reason", "  "), "--reason: it is empty; say why", id="an empty reason"),
        pytest.param(asking("--author", ""), "--author: it is empty; say who", id="an empty author"),
        pytest.param(
            asking("--reason", "x" * 501), "--reason: 501 characters are too many; use at most 500", id="a long reason"
        ),
        pytest.param(
            asking("--reason", "a\x1b[31mb"), "holds characters that cannot be printed; leave them out", id="an escape"
        ),
        pytest.param(asking(without="--for"), "one of the arguments --until --for is required", id="without an end"),
        pytest.param(
            asking("--until", NOW.isoformat()), "argument --until: not allowed with argument --for", id="two ends"
        ),
        pytest.param(
            asking("--until", "tomorrow", without="--for"), "--until: 'tomorrow' is no instant; write ISO", id="no time"
        ),
        pytest.param(
            asking("--until", "2026-03-10T12:00", without="--for"), "has no offset; add Z or +00:00", id="a naive time"
        ),
        pytest.param(
            asking("--until", NOW.isoformat(), "--from", (NOW - HOUR).isoformat(), without="--for"),
            f"--until: '{NOW.isoformat()}' is over already, it is ",
            id="over already",
        ),
        pytest.param(
            asking("--until", NOW.isoformat(), without="--for"),
            f"--until: '{NOW.isoformat()}' is over already, it is ",
            id="over already, and nobody wrote --from",
        ),
        pytest.param(
            asking("--from", (FUTURE + HOUR).isoformat(), "--until", FUTURE.isoformat(), without="--for"),
            f"--until: '{FUTURE.isoformat()}' is not after --from, '{(FUTURE + HOUR).isoformat()}'; choose a later end",
            id="backwards",
        ),
        pytest.param(asking("--from", ""), "--from: '' is no instant; write ISO", id="an empty time is not now"),
        pytest.param(
            asking("--until", (datetime.now(UTC) + timedelta(days=91)).isoformat(), without="--for"),
            "is more than 90 days after it begins; choose less",
            id="for ever",
        ),
        pytest.param(
            asking("--for", "2"), "--for: '2' is not a duration; write a whole number and a unit", id="no unit"
        ),
        pytest.param(
            asking("--for", "0m"), "--for: '0m' is not allowed; choose more than 0 and at most 90d", id="none"
        ),
        pytest.param(
            asking("--for", "99999999999999d"),
            "--for: '99999999999999d' is longer than a duration can be",
            id="eternity",
        ),
        pytest.param(asking("--for", "91d"), "--for: '91d' is not allowed; choose more than 0 and at most", id="long"),
        pytest.param(
            ["silence", "end", "0123abcd"], "the following arguments are required: --by", id="ended by nobody"
        ),
        pytest.param(["silence", "end", "0123abcd", "--by", " "], "--by: it is empty; say who", id="by an empty name"),
        pytest.param(["silence"], "the following arguments are required: ACTION", id="no action"),
    ],
)
def test_a_mistake_is_one_line_before_any_database_is_asked(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    """None is configured here."""
    overlay = tmp_path / "monitor.yaml"
    overlay.write_text(TAGGED)
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)

    assert says in refused(capsys, *arguments)


def test_without_a_connection_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)

    assert "set AIRFLOW_CONN_MONITORING_DB in this shell" in refused(capsys, "silence", "list")
