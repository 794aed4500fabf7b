"""Ten thousand credentials break at once, and recover: what real databases, Slack and mail make of it within the tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.simulation.hub_plus import Run
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world

CREDENTIALS = 10_000
"""Together with the one that every such world has."""

MINUTE = timedelta(minutes=1)
REFUSED = "HTTP 401 invalid_client"

ALONE = "  platform_outage: {mode: off}\n"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """The monitor, over a source of ten thousand credentials that synced well an hour ago."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        for number in range(1, CREDENTIALS):
            world.hub.add_credential(world.hub.add_company(f"Company {number}"))
        sync_everywhere(world, at=NOON - timedelta(hours=1))
        yield world


def sync_everywhere(world: MonitoredWorld, *, at: datetime, error: str | None = None) -> None:
    """Let a sync of every credential end at an instant, failed where there is an error."""
    world.hub.copy_runs(
        Run(
            credential=credential,
            data_type="both",
            status="completed" if error is None else "failed",
            started_at=at - MINUTE,
            completed_at=at,
            error_message=error,
            records=(10, 10, 0) if error is None else (0, 0, 0),
        )
        for credential, _, _ in world.hub.credentials()
    )


def still_to_be_sent(world: MonitoredWorld) -> list[str]:
    """The channels of messages that are not done with."""
    rows = world.rows("SELECT channel FROM monitoring.delivery WHERE status IN ('pending', 'leased')")
    return [str(row["channel"]) for row in rows]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("overlay", [pytest.param("", id="as shipped"), pytest.param(ALONE, id="each for itself")])
def test_ten_thousand_break_and_recover_in_two_messages(world: MonitoredWorld, overlay: str) -> None:
    """At most two of each in a channel, sent in the tick that found it; everyone is accounted for."""
    world.overlay.write_text(world.overlay.read_text() + overlay)
    world.tick_and_drain(NOON - TICK)
    assert (world.slack_texts(), world.subjects()) == ([], [])

    for minutes in (9, 6, 3):
        sync_everywhere(world, at=NOON - minutes * MINUTE, error=REFUSED)
    outcome = world.tick_and_drain(NOON)
    assert outcome["opened"] >= 2 * CREDENTIALS
    assert still_to_be_sent(world) == []
    broke = Counter(slack=len(world.slack.messages), email=len(world.mail.messages))
    assert 1 <= broke["slack"] <= 2
    assert 1 <= broke["email"] <= 2
    assert str(CREDENTIALS) in world.slack_texts()[0]

    # Every timer of the shipped policy is shorter than two hours.
    for ticks in (1, 4, 8):
        sync_everywhere(world, at=NOON + ticks * TICK - MINUTE)
        world.tick_and_drain(NOON + ticks * TICK)
        assert still_to_be_sent(world) == []
    assert world.rows("SELECT 1 FROM monitoring.alert WHERE state <> 'inactive'") == []
    recovered = Counter(slack=len(world.slack.messages), email=len(world.mail.messages)) - broke
    assert 1 <= recovered["slack"] <= 2
    assert 1 <= recovered["email"] <= 2
