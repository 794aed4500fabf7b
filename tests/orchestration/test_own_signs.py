"""What a run says of the channels: that one refuses us, for as long as the policy sends anything there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.warehouse.channel_states import note_refusal, note_sent
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world

OLD = "slack:#old"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A monitor whose Slack channel was archived, seen at noon."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.overlay.write_text(made.overlay.read_text().replace("#servicetitan-alerts", "#old"))
        with connect(made.monitoring_dsn) as conn:
            note_refusal(conn, OLD, now=NOON, error="is_archived")
        made.tick(NOON)
        yield made


def states(world: MonitoredWorld) -> list[tuple[str, str]]:
    """The alerts about channels, each with its state."""
    rows = world.rows(
        "SELECT identity ->> 'cause' AS channel, state FROM monitoring.alert WHERE identity ->> 'check' = 'delivery'"
    )
    return [(str(row["channel"]), str(row["state"])) for row in rows]


def test_a_channel_that_refuses_us_is_an_alert_until_it_takes_a_message(world: MonitoredWorld) -> None:
    world.tick(NOON + TICK)
    assert states(world) == [(OLD, "firing")]
    with connect(world.monitoring_dsn) as conn:
        note_sent(conn, OLD, now=NOON + TICK)
    world.tick(NOON + 2 * TICK)

    assert states(world) == [(OLD, "inactive")]


def test_a_channel_that_the_policy_names_no_more_is_no_trouble(world: MonitoredWorld) -> None:
    """It is sent nothing, so that it could never be seen to take a message again."""
    assert states(world) == [(OLD, "firing")]
    world.overlay.write_text(world.overlay.read_text().replace("#old", "#servicetitan-alerts"))
    world.tick(NOON + TICK)

    assert states(world) == [(OLD, "inactive")]
