"""A monitor that has told something: the ground on which the commands about alerts are tried."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include import cli
from tests.orchestration.monitored_world import OVERLAY, MonitoredWorld

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

TAGGED = """
tags:
  vip: {companies: [1], credentials: [1]}
"""


def quarter_ago(quarters: int) -> datetime:
    """Return an instant so many quarters of an hour ago, to the second: a tick that is late, and still live."""
    return (datetime.now(UTC) - quarters * 15 * MINUTE).replace(microsecond=0)


def failing_since(world: MonitoredWorld, as_of: datetime, *, error: str = "HTTP 401 invalid_client") -> str:
    """Let the credential fail three times before a tick, which tells of it; return the fingerprint of sync_failures."""
    world.overlay.write_text(OVERLAY + TAGGED)
    world.fail_three_times(world.credential, before=as_of, error=error)
    world.tick_and_drain(as_of)
    return fingerprint(world, "sync_failures")


def fingerprint(world: MonitoredWorld, rule: str) -> str:
    """Return the fingerprint of the one alert of a rule."""
    (row,) = world.rows("SELECT fingerprint FROM monitoring.alert WHERE rule = %s", rule)
    return str(row["fingerprint"])


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """Run a command that succeeds, and return its lines."""
    assert cli.main(list(arguments)) == code
    return capsys.readouterr().out.splitlines()


def told_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run a command that succeeds, and return its JSON."""
    assert cli.main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command with a mistake in it, and return the one line that says so."""
    assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = (each for each in err.splitlines() if each.startswith("error: "))
    return line.removeprefix("error: ")
