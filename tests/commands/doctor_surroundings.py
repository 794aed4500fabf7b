"""What the tests of ``doctor`` share: surroundings where all is well, a source's syncs, and how the command is run."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include import cli
from include.simulation.hub_plus import HubPlus

SECRET = "hunter2hunter2"
READER = "doctor_reader"


class Surroundings:
    """A place where all is well, made of the environment's variables; a test spoils what it is about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._policy = monkeypatch, folder / "policy.yaml"
        monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(self._policy))
        monkeypatch.setenv("AIRFLOW_HOME", str(folder))
        monkeypatch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", "email:ops@hub.example")
        self.policy("receivers: {ops: {email: [ops@hub.example]}}")

    def policy(self, text: str) -> None:
        self._policy.write_text(text)

    def connection(self, conn_id: str, value: str | dict[str, object]) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self._patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    def failure_channel(self, named: str) -> None:
        self._patch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", named)

    def without(self, conn_id: str) -> None:
        self._patch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")


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


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command; return its code and the findings by name."""
    code = cli.main(["doctor", "--json"])
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    answer = json.loads(out)
    assert answer["ok"] is (code == 0)
    return code, {finding["name"]: finding for finding in answer["findings"]}
