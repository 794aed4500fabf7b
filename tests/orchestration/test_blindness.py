"""Every way in which a check cannot see: told once, in words that help; nothing closes meanwhile, and all ends on evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest

from include import cli
from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import update_daily
from include.simulation.hub_plus import Run
from include.sync_health.checks import CHECKS, CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES, Check
from include.sync_health.errors import MonitorError
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world
from tests.orchestration.source_troubles import COUNTS_TROUBLES, LOGS, TROUBLES, Trouble, emptied, zone

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

RULE_OF = {"sync_failures": "sync_failures", "credential_health": "connection_error", "data_quality": "data_quality"}
"""The rule of each check whose alert is open beforehand."""

TROUBLED = (NOON + TICK, NOON + 2 * TICK)
SEEN_AGAIN = NOON + 3 * TICK
LATER = NOON + 7 * TICK
"""When the failures have left their hour and the bad sync its day."""


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A platform that starts a sync every quarter of an hour, and one credential with an open alert of every check."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        busy = int(made.hub.add_credential(made.hub.add_company("Busy Plumbing")))
        made.hub.copy_runs(rhythm(busy))
        made.fail_three_times(made.credential, before=NOON)
        made.hub.set_status(made.credential, "error", at=NOON - MINUTE)
        made.hub.add_run(
            made.credential,
            started_at=NOON - 23 * HOUR - MINUTE,
            completed_at=NOON - 23 * HOUR,
            data_type="invoices",
            records=(100, 60, 40),
        )
        yield made


def rhythm(credential: int) -> Iterator[Run]:
    """Yield two days of syncs, one a quarter, the last a few minutes before noon."""
    for number in range(192, 0, -1):
        start = NOON - number * TICK + 12 * MINUTE
        yield Run(credential=credential, started_at=start, completed_at=start + MINUTE, records=(20, 20, 0))


def one_more(world: MonitoredWorld, before: datetime) -> None:
    """Let the busy platform start a sync three minutes before a tick, as ever."""
    for credential, company, _ in world.hub.credentials():
        if company == "Busy Plumbing":
            world.succeed(int(credential), at=before - 2 * MINUTE)


def heal(world: MonitoredWorld, at: datetime) -> None:
    """Add what proves that all three alerts are over."""
    world.hub.set_status(world.credential, "active", at=at)
    world.succeed(world.credential, at=at)
    world.hub.add_run(
        world.credential,
        started_at=at - MINUTE,
        completed_at=at,
        data_type="invoices",
        records=(100, 99, 1),
    )


def health(world: MonitoredWorld) -> list[dict[str, Any]]:
    """The monitor-health alerts that were ever opened."""
    return [dict(row) for row in world.rows("SELECT * FROM monitoring.alert WHERE rule = 'monitor_health'")]


READING = [check for check in CHECKS.values() if check.reads_source]
"""The checks that can be blind to the source."""


def alert_of(world: MonitoredWorld, check: Check) -> dict[str, Any]:
    """The alert of the check that was open beforehand."""
    (row,) = world.rows("SELECT * FROM monitoring.alert WHERE rule = %s", RULE_OF[check.name])
    return dict(row)


def about_sight(world: MonitoredWorld) -> list[str]:
    """What Slack was told of the monitor's own sight."""
    return [text for text in world.slack_texts() if "Cannot See" in text]


def reassuring(world: MonitoredWorld, checks: Sequence[Check], *, after: datetime) -> list[str]:
    """Which rules of the checks said CLEAR or REMOVED in runs after an instant."""
    runs = world.rows(
        "SELECT verdicts FROM monitoring.check_run WHERE window_to > %s AND check_name = ANY (%s)",
        after,
        [check.name for check in checks],
    )
    return [key for run in runs for key in run["verdicts"] if key.endswith((".clear", ".removed"))]


def from_the_shell(world: MonitoredWorld, now: datetime) -> int:
    """Run ``check all`` in the shell at a wall-clock time, and return its exit code."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now.timestamp(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("include.commands.check.datetime", Clock)
        return cli.main(["check", "all"])


@pytest.mark.parametrize(
    ("name", "every"),
    [
        pytest.param("Africa/Tunis", 1, id="an hour late"),
        pytest.param("Africa/Johannesburg", 1, id="as late as the silence that no_syncs waits for"),
        pytest.param("Asia/Tokyo", 2, id="nine hours late, and no sync in every tick"),
        pytest.param("Atlantic/Azores", 1, id="an hour early"),
        pytest.param("Pacific/Honolulu", 2, id="ten hours early, and no sync in every tick"),
    ],
)
def test_a_wrong_zone_is_neither_a_silence_nor_old_or_stuck_syncs(world: MonitoredWorld, name: str, every: int) -> None:
    """For longer than `no_syncs` waits: one message, from the first tick on."""
    for number in range(5):
        idle = int(world.hub.add_credential(world.hub.add_company(f"Idle Heating {number}")))
        world.succeed(idle, at=NOON - 47 * HOUR + 30 * MINUTE)
    world.tick_and_drain(NOON)
    with zone(name)(world):
        for number in range(1, 11):
            as_of = NOON + number * TICK
            if number % every == 0 or number == 1:
                one_more(world, as_of)
            running = world.hub.add_run(world.credential, started_at=as_of - 17 * MINUTE, status="running")
            assert world.tick_and_drain(as_of)["blind"] == "wrong_time_zone"
            world.hub.finish_run(running, at=as_of + MINUTE)
        world.tick_and_drain(as_of, check=CREDENTIAL_HEALTH)
        assert from_the_shell(world, as_of + MINUTE) == 2

    opened = world.rows("SELECT DISTINCT rule FROM monitoring.alert WHERE opened_at > %s", NOON)
    assert {row["rule"] for row in opened} == {"monitor_health"}
    assert len(health(world)) == len(about_sight(world)) == 1


def test_a_platform_that_falls_silent_is_no_zone(world: MonitoredWorld) -> None:
    """Neither while it does, nor for a run by hand between two ticks; the zone's doubt is for stamps that move."""
    for number in range(12):
        world.tick_and_drain(NOON + number * TICK)
    world.tick_and_drain(NOON + 11 * TICK + 5 * MINUTE)

    assert health(world) == []
    (silence,) = world.rows("SELECT state FROM monitoring.alert WHERE rule = 'no_syncs'")
    assert silence["state"] == "firing"


def test_a_wrong_zone_does_not_hide_a_source_that_stops(world: MonitoredWorld) -> None:
    """Once nothing has moved for as long as `no_syncs` waits, it is the silence that is told, and no more the zone."""
    world.tick_and_drain(NOON)
    with zone("Asia/Tokyo")(world):
        for number in range(1, 11):
            world.tick_and_drain(NOON + number * TICK)

    assert {alert["identity"]["cause"]: alert["state"] for alert in health(world)} == {
        "wrong_time_zone": "inactive",
        "stale_source": "firing",
    }


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(trouble, id=name)
        for name, trouble in {**TROUBLES, **COUNTS_TROUBLES}.items()
        if trouble is not TROUBLES["an empty sync log"]
    ],
)
def test_the_daily_table_loses_nothing_to_blindness(world: MonitoredWorld, trouble: Trouble) -> None:
    """One clear error, and what is stored stays."""
    restate_noon(world)
    stored = daily_rows(world)

    with trouble.begins(world):
        if trouble.cause == "wrong_time_zone":  # the check has to find it first
            world.tick(NOON)
            one_more(world, NOON + TICK)
            world.tick(NOON + TICK)
        with pytest.raises(MonitorError) as caught:
            restate_noon(world)
    assert [words for words in trouble.words if words not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) == 1
    assert daily_rows(world) == stored != []


def test_the_daily_table_loses_nothing_to_an_empty_log(world: MonitoredWorld) -> None:
    """It is no evidence that nothing ever ran."""
    restate_noon(world)
    stored = daily_rows(world)
    with emptied(LOGS)(world):
        restate_noon(world)

    assert daily_rows(world) == stored != []


def restate_noon(world: MonitoredWorld) -> None:
    """Run the daily table's task of the window that ends at noon."""
    facts = RunFacts(params={}, interval=(NOON - 6 * HOUR, NOON), run_after=NOON, is_backfill=False, last_try=True)
    update_daily(facts, now=NOON + MINUTE)


def daily_rows(world: MonitoredWorld) -> list[Any]:
    """What the daily table holds, but for when it was computed."""
    rows = world.rows("SELECT * FROM monitoring.quality_daily ORDER BY day, credential_id, data_type")
    return [{key: value for key, value in row.items() if key != "computed_at"} for row in rows]


def order_of(check: Check, trouble: Trouble) -> list[Check]:
    """The three checks, the one that tells first."""
    first = trouble.told_by or check
    return [first, *(each for each in READING if each is not first)]


@pytest.mark.parametrize(
    ("check", "trouble"),
    [
        pytest.param(check, trouble, id=f"{check.name}: {name}")
        for name, trouble in TROUBLES.items()
        for check in READING
    ]
    + [pytest.param(DATA_QUALITY, trouble, id=f"data_quality: {name}") for name, trouble in COUNTS_TROUBLES.items()],
)
def test_blindness_is_one_message_and_moves_nothing(world: MonitoredWorld, check: Check, trouble: Trouble) -> None:
    """From the first tick that cannot see to the recovery of what was open."""
    for each in dict.fromkeys((SYNC_FAILURES, check)):
        world.tick_and_drain(NOON, check=each)
    assert alert_of(world, check)["state"] == "firing"
    if trouble.rows_come:
        heal(world, NOON + MINUTE)

    order = order_of(check, trouble)
    with trouble.begins(world):
        for as_of in TROUBLED:
            if trouble.rows_come:
                one_more(world, as_of)
            for each in order if as_of == TROUBLED[0] else dict.fromkeys((order[0], SYNC_FAILURES)):
                outcome = world.tick_and_drain(as_of, check=each)
                if each is order[0] or each not in trouble.blind:
                    assert outcome["blind"] == (trouble.cause if each is order[0] else None)
        assert from_the_shell(world, TROUBLED[-1] + MINUTE) == 2

    (told,) = health(world)
    assert (told["identity"], told["state"]) == ({"check": order[0].name, "cause": trouble.cause}, "firing")
    (text,) = about_sight(world)
    assert [words for words in trouble.words if words not in text] == []
    assert reassuring(world, trouble.blind, after=NOON) == []
    frozen = alert_of(world, check)
    assert frozen["state"] == "firing"
    assert frozen["stale_since"] == TROUBLED[0] or frozen["last_breach_at"] == TROUBLED[-1]

    one_more(world, SEEN_AGAIN)
    for each in dict.fromkeys((SYNC_FAILURES, check)):
        assert world.tick_and_drain(SEEN_AGAIN, check=each)["blind"] is None
    assert [alert["state"] for alert in health(world)] == ["inactive"]
    assert len(about_sight(world)) == 2
    assert alert_of(world, check)["stale_since"] is None
    if not trouble.rows_come:
        assert alert_of(world, check)["state"] == "firing"
        heal(world, SEEN_AGAIN + MINUTE)

    one_more(world, LATER)
    for each in dict.fromkeys((SYNC_FAILURES, check)):
        world.tick_and_drain(LATER, check=each)
    assert (alert_of(world, check)["state"], alert_of(world, check)["close_reason"]) == ("inactive", "recovered")
    assert len(about_sight(world)) == 2
