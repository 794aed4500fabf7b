"""The tick runner: the DAGs' path from tick to tick, without Airflow, and with the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.orchestration.delivery import Drain
from include.orchestration.operators import SlackDrainOperator
from include.orchestration.policy_file import load_policy
from include.orchestration.tick_runner import TickRunner, due_windows
from include.sync_health.checks import CHECKS, CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES
from include.sync_health.routing import address_of
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world

HOUR = timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def runner(world: MonitoredWorld, **options: Any) -> TickRunner:
    """A runner over a world's databases, under its policy."""
    return TickRunner(
        source_conninfo=world.source_dsn,
        monitoring_conninfo=world.monitoring_dsn,
        policy=load_policy(overlay=world.overlay).policy,
        **options,
    )


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        pytest.param(
            datetime(2026, 3, 10, 11, 45, tzinfo=UTC),
            datetime(2026, 3, 10, 12, 20, tzinfo=UTC),
            [
                ("12:00", "sync_failures"),
                ("12:00", "credential_health"),
                ("12:00", "data_quality"),
                ("12:15", "sync_failures"),
                ("12:20", "api_metrics"),
            ],
            id="at noon all three, the frequent one first, and twenty past the hourly one",
        ),
        pytest.param(
            datetime(2026, 3, 10, 12, 5, tzinfo=UTC),
            datetime(2026, 3, 10, 12, 14, tzinfo=UTC),
            [],
            id="the start is excluded, and a quarter is not over before it ends",
        ),
        pytest.param(
            datetime(2026, 3, 10, 23, 50, tzinfo=UTC),
            datetime(2026, 3, 11, 0, 0, tzinfo=UTC),
            [("00:00", "sync_failures"), ("00:00", "credential_health"), ("00:00", "data_quality")],
            id="midnight belongs to the window that ends there",
        ),
    ],
)
def test_windows_end_where_the_dags_windows_end(
    after: datetime, until: datetime, expected: list[tuple[str, str]]
) -> None:
    """The cron expressions of the DAGs."""
    found = due_windows(tuple(CHECKS.values()), after=after, until=until)

    assert [(f"{as_of:%H:%M}", check.name) for as_of, check in found] == expected


Script = Mapping[datetime, Callable[[], object]]
"""What happens in the source, and when."""


def as_time_goes_by(script: Script) -> Callable[[datetime], None]:
    """Return what lets each thing of a script happen once its time has come: a source has no rows from the future."""
    waiting = dict(script)

    def advance(now: datetime) -> None:
        for at in sorted(at for at in waiting if at <= now):
            waiting.pop(at)()

    return advance


def breaks_and_recovers(world: MonitoredWorld) -> Script:
    """Three failures before one, a success after three."""
    return {
        NOON + HOUR - timedelta(minutes=1): lambda: world.fail_three_times(world.credential, before=NOON + HOUR),
        NOON + 3 * HOUR: lambda: world.succeed(world.credential, at=NOON + 3 * HOUR),
    }


def test_hours_of_ticks_tell_what_the_dags_would_tell(world: MonitoredWorld) -> None:
    """Opened and closed once each, and delivered by the drain it is given."""

    def drain(channel: str, now: datetime) -> Drain:
        operator = SlackDrainOperator(task_id="drain", channel=address_of(channel))
        return Drain(
            channel=channel,
            monitoring_conninfo=world.monitoring_dsn,
            owner="runner",
            send=operator.sender(),
            clock=lambda: now,
            sleep=lambda seconds: None,
        )

    runs = runner(world, drain=drain, configured=("slack",), before_tick=as_time_goes_by(breaks_and_recovers(world)))
    ticks = list(runs.run(after=NOON, until=NOON + 6 * HOUR))

    assert len(ticks) == 24 + 2 + 6
    assert [(each.as_of, each.outcome.opened) for each in ticks if each.outcome.opened] == [(NOON + HOUR, 2)]
    assert [each.as_of for each in ticks if each.outcome.closed] == [NOON + 3 * HOUR]
    assert len(world.slack_texts()) == 2
    assert "has failed 3 times in the last hour" in world.slack_texts()[0]
    # The opening, the close in its thread, and the opening brought up to date.
    assert sum(result.sent for each in ticks for result in each.drained) == 3


def test_running_the_same_period_twice_changes_nothing(world: MonitoredWorld) -> None:
    """State, outbox and history are the same after a second pass, hours later."""
    tables = {
        "alert": "fingerprint, state, severity, opened_at, closed_at, told",
        "alert_event": "fingerprint, as_of, kind, reason",
        "delivery": "key, channel, reason, silent, status",
    }

    def content() -> dict[str, list[str]]:
        return {
            table: sorted(map(repr, world.rows(f"SELECT {columns} FROM monitoring.{table}")))
            for table, columns in tables.items()
        }

    advance = as_time_goes_by(breaks_and_recovers(world))
    first = list(runner(world, before_tick=advance).run(after=NOON - HOUR, until=NOON + 4 * HOUR))
    before = content()
    again = list(runner(world, lag=5 * HOUR).run(after=NOON - HOUR, until=NOON + 4 * HOUR))

    assert len(again) == len(first)
    assert {name: rows for name, rows in content().items() if rows != before[name]} == {}


def test_the_runner_and_the_dags_tasks_leave_the_same_behind(
    world: MonitoredWorld, make_database: Callable[..., str]
) -> None:
    """One ticks in process, the other as the tasks of the three DAGs do; over the same source."""
    from include.warehouse.migration import upgrade

    world.fail_three_times(world.credential, before=NOON + HOUR)
    world.hub.set_status(world.credential, "error", at=NOON + HOUR)
    for check in (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY):
        world.tick(NOON + 6 * HOUR, check=check, late=timedelta(seconds=30))
    by_tasks = world.rows("SELECT rule, identity, state, severity, opened_at, message FROM monitoring.alert ORDER BY 1")

    ours = make_database("runner")
    upgrade(ours)
    second = TickRunner(
        source_conninfo=world.source_dsn,
        monitoring_conninfo=ours,
        policy=load_policy(overlay=world.overlay).policy,
    )
    list(second.run(after=NOON + 6 * HOUR - TICK, until=NOON + 6 * HOUR))
    world.monitoring_dsn = ours
    assert (
        world.rows("SELECT rule, identity, state, severity, opened_at, message FROM monitoring.alert ORDER BY 1")
        == by_tasks
    )


def test_a_backfill_of_the_runner_is_history(world: MonitoredWorld) -> None:
    """The breaches that a live pass would find, as history: no alert, no message."""
    for happen in breaks_and_recovers(world).values():
        happen()
    past = runner(world, is_backfill=True, lag=timedelta(hours=12))
    ticks = list(past.run(after=NOON, until=NOON + 6 * HOUR))

    assert {str(each.outcome.mode) for each in ticks} == {"historical"}
    assert world.rows("SELECT * FROM monitoring.alert") == []
    assert world.rows("SELECT * FROM monitoring.delivery") == []
    found = world.rows("SELECT DISTINCT kind, reason FROM monitoring.alert_event")
    assert {row["kind"] for row in found} == {"observed"}
    observed = [each.as_of for each in ticks if each.outcome.verdicts.get("sync_failures.breach")]
    assert observed == [NOON + HOUR + ticks * TICK for ticks in range(4)][: len(observed)]
    assert len(observed) >= 3
