"""Reading runs: the same frames from every shape and zone, exact edges, and what a row means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from include.simulation.hub_plus import SHAPES, Run
from include.sync_health.frames import (
    CANCELLED_BY_USER,
    DATA_TYPES,
    ERROR_TEXT_LIMIT,
    RUN_COLUMNS,
    RUN_STATUSES,
)
from tests.warehouse.read_world import (
    AS_OF,
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    ZONES,
    MakeWorld,
    World,
)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_zone_gives_the_same_frame(make_world: MakeWorld, shape: str, zone: str) -> None:
    """What differs upstream (names, keys, naive or aware times) has vanished from the frame."""
    world = make_world(shape, zone)
    world.hub.copy_runs(
        Run(credential=world.production, started_at=AS_OF - 12 * DAY + n * 9 * MINUTE, completed_at=AS_OF - 2 * DAY)
        for n in range(1_500)
    )
    names = {
        world.add(started=90 * MINUTE, ended=59 * MINUTE): "finished in the window",
        world.add(started=50 * MINUTE, ended=40 * MINUTE, status="failed", error_message="HTTP 401"): "failed",
        world.add(started=3 * HOUR, ended=61 * MINUTE): "finished before the window",
        world.add(started=23 * HOUR, ended=30 * MINUTE, data_type="invoices"): "a long one",
        world.add(started=5 * DAY): "open for days",
        world.add(started=20 * MINUTE, data_type="customers", credential=world.sandbox): "open",
    }
    read = world.read()

    frame = read.runs.assign(name=read.runs["sync_id"].astype(str).map(names))
    assert [tuple(row) for row in frame[["name", "status", "data_type", "error_message"]].to_numpy()] == [
        ("finished in the window", "completed", "both", None),
        ("failed", "failed", "both", "HTTP 401"),
        ("a long one", "completed", "invoices", None),
        *sorted(
            [("open for days", "running", "both", None), ("open", "running", "customers", None)],
            key=lambda row: frame.index[frame["name"] == row[0]][0],
        ),
    ]
    ages = {row["name"]: (AS_OF - row["started_at"], AS_OF - row["finished_at"]) for row in frame.to_dict("records")}
    assert ages["failed"] == (50 * MINUTE, 40 * MINUTE)
    assert ages["a long one"] == (23 * HOUR, 30 * MINUTE)
    assert ages["open for days"][0] == 5 * DAY
    assert frame.loc[frame["name"].isin(["open", "open for days"]), "finished_at"].isna().all()
    assert read.anomalies == {}
    assert read.newest_started_at is not None
    assert read.newest_started_at.tzinfo is not None


@pytest.mark.parametrize("has_rows", [True, False], ids=["with rows", "without rows"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_frame_keeps_its_contract(make_world: MakeWorld, shape: str, has_rows: bool) -> None:
    """Columns, their order and types do not depend on whether there are rows."""
    world = make_world(shape)
    if has_rows:
        world.add(started=HOUR, ended=MINUTE)
    frame = world.read().runs
    assert tuple(frame.columns) == RUN_COLUMNS
    assert len(frame) == has_rows
    for column in ("started_at", "completed_at", "finished_at"):
        assert str(frame[column].dtype) == "datetime64[us, UTC]"
    assert tuple(frame["status"].cat.categories) == RUN_STATUSES
    assert tuple(frame["data_type"].cat.categories) == DATA_TYPES
    assert frame["is_cancelled"].dtype == bool
    kind = "int64" if shape != "uuid" else ("str", "object")
    assert str(frame["sync_id"].dtype) in kind
    assert str(frame["credential_id"].dtype) in kind


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("ended", "is_in"),
    [
        pytest.param(HOUR + SECOND, False, id="a second before the window"),
        pytest.param(HOUR, False, id="exactly at its start is outside"),
        pytest.param(HOUR - SECOND, True, id="a second after its start"),
        pytest.param(timedelta(0), True, id="exactly at its end is inside"),
    ],
)
def test_the_window_is_open_at_its_start_and_closed_at_its_end(
    make_world: MakeWorld, zone: str, ended: timedelta, is_in: bool
) -> None:
    """``(finished_from, as_of]``, to the second."""
    world = make_world("migrations", zone)
    world.add(started=2 * HOUR, ended=ended)
    assert len(world.ids()) == is_in


def test_a_run_that_ended_after_an_older_as_of_was_open_then(world: World) -> None:
    """History: its status is today's, its end lies after the window, and it counts as open."""
    ended_later = world.add(started=90 * MINUTE, ended=-5 * MINUTE)
    world.add(started=-MINUTE, ended=-10 * MINUTE)
    frame = world.read().runs
    assert frame["sync_id"].astype(str).tolist() == [ended_later]
    assert frame["status"].tolist() == ["completed"]
    assert frame["finished_at"].tolist() == [AS_OF + 5 * MINUTE]


@pytest.mark.parametrize(
    ("shape", "finished"),
    [
        pytest.param("migrations", AS_OF - 10 * MINUTE, id="counts by updated_at"),
        pytest.param("entities", AS_OF - 10 * MINUTE, id="counts by an updated_at with a zone"),
        pytest.param("architecture", AS_OF - 50 * MINUTE, id="counts by started_at where there is no updated_at"),
    ],
)
@pytest.mark.parametrize("zone", ZONES)
def test_a_failed_run_without_an_end(make_world: MakeWorld, shape: str, finished: datetime, zone: str) -> None:
    """Upstream leaves completed_at out in places; such a failure must not be lost."""
    world = make_world(shape, zone)
    world.add(started=50 * MINUTE, status="failed", updated_at=AS_OF - 10 * MINUTE)
    frame = world.read().runs
    assert frame["finished_at"].tolist() == [finished]
    assert frame["completed_at"].isna().all()


def test_the_repeated_hour_of_autumn_is_read_as_standard_time(make_world: MakeWorld) -> None:
    """01:30 on 1 November is 05:30 or 06:30 UTC in New York; PostgreSQL always says 06:30, and so do we."""
    world = make_world("migrations", "America/New_York")
    for minute, credential in ((30, world.production), (90, world.sandbox)):
        ended = datetime(2026, 11, 1, 5, tzinfo=UTC) + minute * MINUTE
        world.hub.add_run(credential, started_at=ended - 3 * HOUR, completed_at=ended)
    as_read = [datetime(2026, 11, 1, 6, 30, tzinfo=UTC)] * 2
    for as_of in (
        datetime(2026, 11, 1, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, 45, tzinfo=UTC),  # its window begins at 01:45 on the wall, later than 01:30
        datetime(2026, 11, 1, 6, tzinfo=UTC),  # open then: the end as read lies after the window
    ):
        assert world.read(as_of=as_of).runs["finished_at"].tolist() == as_read


def test_a_policy_of_another_zone_moves_naive_times_only(make_world: MakeWorld) -> None:
    """The zone is the policy's, column by column: an aware updated_at is not moved."""
    world = make_world("entities")
    world.add(started=9 * HOUR, status="failed", updated_at=AS_OF - MINUTE)
    world.policy = replace(world.policy, timezone="America/New_York")
    row = world.read().runs.iloc[0]
    assert row["started_at"] == AS_OF - 4 * HOUR
    assert row["finished_at"] == AS_OF - MINUTE


@pytest.mark.parametrize(
    ("values", "is_cancelled", "text"),
    [
        pytest.param({"status": "failed", "error_message": CANCELLED_BY_USER}, True, CANCELLED_BY_USER, id="by a user"),
        pytest.param({"status": "failed", "error_message": "boom"}, False, "boom", id="a failure"),
        pytest.param({"status": "failed"}, False, None, id="a failure without a text"),
        pytest.param({"status": "cancelled", "error_message": "x"}, True, None, id="the status, whose text stays away"),
        pytest.param(
            {"status": "completed", "error_message": CANCELLED_BY_USER}, False, None, id="completed after all"
        ),
        pytest.param(
            {"status": "failed", "error_message": "é" * 3_000}, False, "é" * ERROR_TEXT_LIMIT, id="a long text is cut"
        ),
    ],
)
def test_cancelled_runs_and_error_texts(
    world: World, values: dict[str, object], is_cancelled: bool, text: str | None
) -> None:
    """Only the texts of failed runs leave the database, and no more than the limit of them."""
    world.add(started=30 * MINUTE, ended=20 * MINUTE, **values)
    row = world.read().runs.iloc[0]
    assert bool(row["is_cancelled"]) is is_cancelled
    assert row["error_message"] == text


def test_texts_stay_with_their_rows(world: World) -> None:
    """Texts and stand-in ends come in arrays of their own; 300 mixed rows must be matched."""
    expected = {}
    for n in range(300):
        status = ("completed", "failed", "failed", "running")[n % 4]
        message = f"text {n}" if n % 3 and status == "failed" else None
        ended = None if status == "running" or n % 5 == 0 else timedelta(minutes=n % 59)
        if status == "completed" and ended is None:
            status = "failed"
        row = world.add(started=2 * HOUR, ended=ended, status=status, error_message=message, updated_at=AS_OF - MINUTE)
        expected[row] = (message, AS_OF - (ended if ended is not None else MINUTE) if status != "running" else pd.NaT)
    frame = world.read().runs
    found = {str(row["sync_id"]): (row["error_message"], row["finished_at"]) for row in frame.to_dict("records")}
    assert found == expected
    finished = frame["finished_at"].dropna()
    assert finished.is_monotonic_increasing
    assert len(finished) < len(frame)


def test_odd_rows_are_counted_and_never_fatal(world: World) -> None:
    """Each oddity by its name; those that are neither finished nor open are left out of the frame."""
    kept = [
        world.add(started=30 * MINUTE, ended=40 * MINUTE),  # negative duration
        world.add(started=30 * MINUTE, ended=20 * MINUTE, status="exploded"),
        world.add(started=30 * MINUTE, ended=20 * MINUTE, data_type="estimates"),
        world.add(started=30 * MINUTE, ended=20 * MINUTE, status="running"),
        world.add(started=30 * MINUTE, status="completed"),
    ]
    world.hub.add_run(world.production, started_at=datetime(2090, 1, 1, tzinfo=UTC), status="running")
    read = world.read()
    assert sorted(read.runs["sync_id"].astype(str)) == sorted(kept)
    assert read.anomalies == {
        "negative_duration": 1,
        "unknown_status": 1,
        "unknown_data_type": 1,
        "open_with_completed_at": 1,
        "completed_without_completed_at": 1,
        "future_stamp": 1,
    }
    assert read.runs["status"].tolist().count("unknown") == 1
    assert read.runs["data_type"].tolist().count("unknown") == 1


def test_one_future_stamp_does_not_make_the_newest_start(world: World) -> None:
    """The newest start tells of a wrong time zone; a stray row must not."""
    for n in range(20):
        world.add(started=HOUR + n * MINUTE, ended=MINUTE)
    world.hub.add_run(world.production, started_at=AS_OF + 9 * HOUR)
    newest = world.read().newest_started_at
    assert newest == AS_OF - HOUR - MINUTE


def test_endless_stamps_are_no_times(world: World) -> None:
    """An infinite end is none: the run is open; an infinite start is counted."""
    endless = world.add(started=30 * MINUTE)
    world.sql("UPDATE servicetitan_sync_logs SET completed_at = 'infinity'")
    world.add(started=20 * MINUTE, ended=10 * MINUTE)
    world.sql("UPDATE servicetitan_sync_logs SET started_at = '-infinity' WHERE completed_at <> 'infinity'")
    read = world.read(remembered=[endless])
    assert read.runs["completed_at"].isna().tolist() == [False, True]
    assert read.anomalies == {"missing_started_at": 1}


@pytest.mark.parametrize(
    ("values", "is_read"),
    [
        pytest.param({"started": 30 * MINUTE, "status": "completed"}, True, id="completed without an end"),
        pytest.param({"started": 30 * MINUTE, "status": "queued"}, True, id="a status that upstream may add one day"),
        pytest.param(
            {"started": HOUR, "status": "completed"}, False, id="started as the window begins, which is excluded"
        ),
        pytest.param({"started": -MINUTE, "status": "completed"}, False, id="started after the window"),
    ],
)
def test_a_run_that_says_neither_still_proves_that_something_started(
    make_world: MakeWorld, values: dict[str, object], is_read: bool
) -> None:
    world = make_world()
    run = world.add(**values)  # type: ignore[arg-type]

    assert world.ids() == ([run] if is_read else [])
