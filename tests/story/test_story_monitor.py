"""The whole monitor under the story's overlay: from the source's rows to the messages in Slack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.orchestration.monitored_world import NOON, TICK, monitored_world
from tests.story.ticks import HOUR, STORY_FILE


def test_every_tick_tells_what_it_finds_until_it_finds_nothing(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice the same failures, once nothing to say, and at last the recovery."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(STORY_FILE))
        world.fail_three_times(world.credential, before=NOON)
        told = []
        for as_of in (NOON, NOON + TICK, NOON + HOUR):
            world.tick_and_drain(as_of)
            told.append(len(world.slack_texts()))
        world.succeed(world.credential, at=NOON + HOUR + TICK / 3)
        world.tick_and_drain(NOON + HOUR + TICK)

        assert told == [1, 2, 2]
        assert "has failed 3 times in the last hour" in world.slack_texts()[0]
        assert len(world.subjects()) == 3
        (alert,) = world.rows("SELECT rule, state FROM monitoring.alert")
        assert (alert["rule"], alert["state"]) == ("sync_failures", "inactive")
