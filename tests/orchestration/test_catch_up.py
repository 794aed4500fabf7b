"""After a gap: what was missed is judged window by window, and what came and went is told in one message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.orchestration.monitored_world import NO_CATCH_UP, NOON, TICK, MonitoredWorld, monitored_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential, seen at noon, by the shipped policy."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.overlay.write_text(made.overlay.read_text().replace(NO_CATCH_UP, ""))
        made.tick_and_drain(NOON)
        yield made


def notes(world: MonitoredWorld) -> list[str]:
    """What the newest run noted."""
    rows = world.rows("SELECT notes FROM monitoring.check_run ORDER BY window_to DESC LIMIT 1")
    return [str(note) for note in rows[0]["notes"]]


def test_what_came_and_went_is_told_once_and_what_stays_as_ever(world: MonitoredWorld) -> None:
    """Airflow was down for six hours: one credential failed and recovered, another still fails."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    world.fail_three_times(world.credential, before=NOON + HOUR)
    world.succeed(world.credential, at=NOON + 3 * HOUR)
    world.fail_three_times(other, before=NOON + 6 * HOUR - MINUTE, error="HTTP 500 Internal Server Error")
    outcome = world.tick_and_drain(NOON + 6 * HOUR)

    assert (outcome["opened"], outcome["closed"]) == (4, 2)
    assert notes(world)[-1].startswith("made up for 23 windows that were missed")
    missed = [text for text in world.slack_texts() if "While we could not see" in text]
    assert [("Acme Heating" in text, "Best Plumbing" in text) for text in missed] == [(True, False)]
    assert ["Best Plumbing" in text for text in world.slack_texts() if text not in missed] == [True]
    assert len(world.subjects()) == len(world.slack_texts()) == 2

    history = world.rows(
        "SELECT kind, as_of FROM monitoring.alert_event JOIN monitoring.alert USING (fingerprint) "
        "WHERE rule = 'sync_failures' AND credential_id = %s ORDER BY alert_event.as_of",
        str(world.credential),
    )
    assert [(row["kind"], row["as_of"] - NOON) for row in history] == [
        ("opened", HOUR),
        ("closed", 3 * HOUR),
    ]
    before = len(world.slack_texts())
    world.tick_and_drain(NOON + 6 * HOUR + TICK)
    assert len(world.slack_texts()) == before


def test_what_was_told_before_the_gap_and_closed_in_it_is_closed(world: MonitoredWorld) -> None:
    """Like any other; it did not come while nobody looked."""
    world.fail_three_times(world.credential, before=NOON + TICK)
    world.tick_and_drain(NOON + TICK)
    world.succeed(world.credential, at=NOON + 2 * HOUR)
    world.tick_and_drain(NOON + 4 * HOUR)

    assert ["While we could not see" in text for text in world.slack_texts()] == [False, False]
    assert "Recovered" in world.slack_texts()[1]
    never_told = world.rows("SELECT silent FROM monitoring.delivery WHERE silent = 'never_told'")
    assert len(never_told) == 2  # the failures in a row, which nobody had heard of, in two channels


def test_a_run_over_a_part_makes_up_for_nothing(world: MonitoredWorld) -> None:
    """It has not seen the rest; the next full run does."""
    world.tick(NOON + 2 * HOUR, credential=str(world.credential))
    assert not [note for note in notes(world) if "missed" in note]
    world.tick(NOON + 2 * HOUR + TICK)

    assert notes(world)[-1].startswith("made up for 8 windows that were missed")


def test_hours_in_which_the_source_was_gone_are_made_up_for_too(world: MonitoredWorld) -> None:
    """A run that saw nothing has missed its window; once it sees again, that is judged with the rest."""
    parts = world.source_dsn
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", "postgres://nobody:wrong@127.0.0.1:1/gone")
    for tick in (1, 2, 3):
        assert world.tick_and_drain(NOON + tick * TICK)["blind"] == "unreachable"
    from tests.orchestration.monitored_world import connection_of

    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(parts))
    world.fail_three_times(world.credential, before=NOON + TICK)
    world.succeed(world.credential, at=NOON + 2 * TICK)
    world.tick_and_drain(NOON + 4 * TICK)

    assert notes(world)[-1].startswith("made up for 3 windows that were missed")
    assert [text for text in world.slack_texts() if "While we could not see" in text]


def test_a_retry_makes_up_for_nothing_twice(world: MonitoredWorld) -> None:
    """The same window again finds that it was seen."""
    world.fail_three_times(world.credential, before=NOON + HOUR)
    world.succeed(world.credential, at=NOON + 3 * HOUR)
    world.tick(NOON + 6 * HOUR)
    deliveries = world.rows("SELECT key FROM monitoring.delivery ORDER BY id")
    world.tick(NOON + 6 * HOUR)

    assert world.rows("SELECT key FROM monitoring.delivery ORDER BY id") == deliveries


def test_what_opened_in_the_gap_and_closes_with_the_run_that_makes_up_for_it_is_told(world: MonitoredWorld) -> None:
    """Nobody ever heard that it was open."""
    world.fail_three_times(world.credential, before=NOON + 5 * HOUR)
    world.succeed(world.credential, at=NOON + 6 * HOUR - 10 * MINUTE)
    outcome = world.tick_and_drain(NOON + 6 * HOUR)

    assert (outcome["opened"], outcome["closed"]) == (2, 2)
    assert ["While we could not see" in text for text in world.slack_texts()] == [True]
    assert world.rows("SELECT 1 FROM monitoring.delivery WHERE silent = 'never_told'") == []


def test_what_closed_in_the_gap_stays_closed_whoever_breaks_after_it(world: MonitoredWorld) -> None:
    """Another alert is looked up in the middle of the gap; what the instants before it found is not forgotten."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    world.fail_three_times(world.credential, before=NOON + TICK)
    world.tick_and_drain(NOON + TICK)
    world.succeed(world.credential, at=NOON + 2 * HOUR)
    world.fail_three_times(other, before=NOON + 3 * HOUR)
    world.tick_and_drain(NOON + 4 * HOUR)

    closed = world.rows(
        "SELECT rule, as_of FROM monitoring.alert_event JOIN monitoring.alert USING (fingerprint)"
        " WHERE kind = 'closed' AND credential_id = %s ORDER BY rule",
        str(world.credential),
    )
    assert [(row["rule"], row["as_of"] - NOON) for row in closed] == [
        ("consecutive_failures", 2 * HOUR),
        ("sync_failures", 2 * HOUR),
    ]


def test_a_source_that_is_still_gone_is_asked_twice_however_much_was_missed(
    world: MonitoredWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for what was missed, and once for the run's own window, which says why."""
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", "postgres://nobody:wrong@127.0.0.1:1/gone")
    with caplog.at_level("ERROR", logger="servicetitan.sights"):
        assert world.tick(NOON + 3 * HOUR)["blind"] == "unreachable"

    assert len(caplog.records) == 2
