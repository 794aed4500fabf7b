"""What syncs, credentials and the quality of data say as metrics, against the oracle and at every edge."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.metric_contract import success_percent
from include.sync_health.policy import MonitoringLevel
from include.sync_health.sync_events import sync_events
from include.sync_health.sync_metrics import (
    COST_COLUMNS,
    Sample,
    averaged_beyond,
    cost_samples,
    counter_increments,
    sync_samples,
)
from tests.sync_health import oracle_metrics as oracle
from tests.sync_health.frames_of import AS_OF, credentials_frame
from tests.sync_health.oracle_metrics import Sync, frame_of, syncs, told

WINDOW = timedelta(minutes=15)
SECOND = timedelta(seconds=1)
STANDARD, MINIMAL, DETAILED = MonitoringLevel.STANDARD, MonitoringLevel.MINIMAL, MonitoringLevel.DETAILED
NAMES = {1: ("production", "1001"), 2: ("production", "1002")}  # the third has no row any more


def sync(
    *, ended: timedelta | None = timedelta(minutes=1), took: timedelta = SECOND, number: int = 1, **values: Any
) -> Sync:
    """Return a completed sync of credential 1 that ended so long before `AS_OF`; None: it has not ended."""
    end = AS_OF - (ended if ended is not None else timedelta(minutes=1))
    values = {"status": "completed", "credential": 1, "data_type": "both", "started_at": end - took} | values
    values.setdefault("completed_at", end if ended is not None else None)
    return Sync(id=number, updated_at=end, **values)


def events_of(rows: list[Sync], *, since: datetime = AS_OF - WINDOW, **options: Any) -> pd.DataFrame:
    """Return their events in the window."""
    return sync_events(frame_of(rows), credentials_frame(NAMES), since=since, as_of=AS_OF, **options)


def said(rows: list[Sync], *, level: MonitoringLevel = STANDARD) -> oracle.Told:
    """Return what rows say."""
    return told(sync_samples(events_of(rows), level=level))


@given(rows=syncs(window=WINDOW), level=st.sampled_from(MonitoringLevel))
def test_syncs_say_what_the_oracle_says(rows: list[Sync], level: MonitoringLevel) -> None:
    """Every metric, label and value, at every level."""
    names = {credential: (environment, company) for credential, (environment, company) in NAMES.items()}

    assert said(rows, level=level) == oracle.expected(
        rows, names=names, since=AS_OF - WINDOW, as_of=AS_OF, level=str(level)
    )


@given(rows=syncs(window=WINDOW), seed=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: list[Sync], seed: Any) -> None:
    """The reader's order is its own business."""
    mixed = list(rows)
    seed.shuffle(mixed)

    pd.testing.assert_frame_equal(events_of(rows), events_of(mixed))


@given(rows=syncs(window=WINDOW))
def test_increments_add_up_to_the_samples(rows: list[Sync]) -> None:
    """What the warehouse adds and what StatsD is told are the same figures."""
    events = events_of(rows)
    increments = counter_increments(events)
    samples = told(sync_samples(events, level=DETAILED))

    stored: oracle.Told = {}
    for row in increments.to_dict("records"):
        company = row["company_id"] or "unknown"
        status = [] if row["status"] == "started" else [row["status"]]
        name = "started" if row["status"] == "started" else "completed"
        labels = (row["environment"], row["data_type"], *status, company, row["credential_id"])
        stored[f"servicetitan.sync.{name}", labels] = [row["syncs"]]
        assert sum(samples.get(("servicetitan.sync.duration", labels), [])) == pytest.approx(
            row["duration_seconds_sum"]
        )
        assert len(samples.get(("servicetitan.sync.duration", labels), [])) == row["duration_count"]
        for error_class, number in row["failed_by_class"].items():
            key = (row["environment"], row["data_type"], error_class, company, row["credential_id"])
            stored["servicetitan.sync.failures", key] = [number]
        for count in ("records_processed", "records_successful", "records_failed"):
            assert samples.get((f"servicetitan.sync.{count}", labels)) == (
                None if pd.isna(row[count]) else [row[count]]
            )
    counters = ("servicetitan.sync.started", "servicetitan.sync.completed", "servicetitan.sync.failures")
    assert {key: value for key, value in samples.items() if key[0] in counters} == stored


@pytest.mark.parametrize(
    ("row", "is_counted"),
    [
        pytest.param(sync(ended=timedelta(0)), True, id="one that ends at as_of ends in the window"),
        pytest.param(sync(ended=-SECOND), False, id="one that ends after it does not yet"),
        pytest.param(sync(ended=WINDOW), False, id="the window's beginning is not in it"),
        pytest.param(sync(ended=WINDOW - SECOND), True, id="the instant after it is"),
        pytest.param(sync(ended=None, status="running"), False, id="an open one has not ended"),
        pytest.param(sync(status="unknown"), False, id="of an unknown status nobody knows whether it ended"),
        pytest.param(sync(ended=None), True, id="a completed one without an end ends when it starts"),
        pytest.param(
            sync(ended=None, status="failed"), True, id="a failed one without an end ends when it was last touched"
        ),
    ],
)
def test_a_sync_counts_as_ended_in_the_window_of_its_end(row: Sync, is_counted: bool) -> None:
    """(since, as_of], open at its beginning."""
    names = {name for name, _ in said([row])}

    assert ("servicetitan.sync.completed" in names) is is_counted


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"status": "completed"}, "completed"),
        ({"status": "failed", "error_message": "odd"}, "failed"),
        ({"status": "failed", "error_message": "Sync cancelled by user"}, "cancelled"),
        ({"status": "cancelled"}, "cancelled"),
    ],
    ids=["completed", "failed", "cancelled by the user, which upstream writes as failed", "cancelled"],
)
def test_the_label_status_says_how_a_sync_ended(values: dict[str, Any], status: str) -> None:
    """A cancelled sync is no failed one."""
    assert said([sync(**values)])["servicetitan.sync.completed", ("production", "both", status, "1001")] == [1]


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        pytest.param(sync(took=timedelta(seconds=90)), 90, id="its end less its start"),
        pytest.param(sync(took=timedelta(seconds=90), seconds=30), 30, id="what is stored, where it is"),
        pytest.param(sync(took=timedelta(seconds=90), seconds=0), None, id="a stored 0 is no duration"),
        pytest.param(sync(took=timedelta(0)), None, id="nor is one of no time"),
        pytest.param(sync(took=-SECOND), None, id="nor one that ended before it began"),
        pytest.param(sync(ended=None, status="failed"), None, id="without an end nobody knows it"),
        pytest.param(sync(took=timedelta(seconds=5), status="failed"), 5, id="a failed one took its time too"),
    ],
)
def test_a_duration_is_told_where_it_is_known(row: Sync, seconds: float | None) -> None:
    """Stored, else the difference; never 0."""
    durations = [values for (name, _), values in said([row]).items() if name == "servicetitan.sync.duration"]

    assert durations == ([[seconds]] if seconds is not None else [])


def test_without_the_fallback_only_stored_durations_count() -> None:
    """The policy's switch."""
    events = events_of([sync(took=timedelta(seconds=90)), sync(number=2, seconds=7)], duration_fallback=False)

    assert told(sync_samples(events, level=STANDARD))[
        "servicetitan.sync.duration", ("production", "both", "completed", "1001")
    ] == [7]


@pytest.mark.parametrize(
    ("processed", "successful", "percent"),
    [
        pytest.param(200, 190, 95.0, id="95 of 100, as in the story"),
        pytest.param(5, 0, 0.0, id="a total failure is 0 percent, not nothing"),
        pytest.param(0, 0, None, id="of nothing there is no rate"),
        pytest.param(None, 3, None, id="an unknown whole tells nothing"),
        pytest.param(3, None, None, id="nor an unknown part"),
        pytest.param(3, 4, None, id="more than all cannot be true"),
        pytest.param(3, -1, None, id="nor less than none"),
    ],
)
def test_the_success_rate_is_of_the_records_processed(
    processed: int | None, successful: int | None, percent: float | None
) -> None:
    """Of the last sync, and by the same rule wherever a share of records is told."""
    key = ("servicetitan.sync.success_rate", ("production", "both", "completed", "1001"))
    found = said([sync(records_processed=processed, records_successful=successful)]).get(key)

    assert found == (None if percent is None else [percent])
    assert success_percent(successful, processed) == percent


def test_of_several_syncs_the_last_speaks_by_its_end_and_then_its_id() -> None:
    """Ids are numbers: the tenth is after the ninth."""
    rows = [
        sync(number=9, records_processed=9),
        sync(number=10, records_processed=10),
        sync(number=11, ended=timedelta(minutes=2), records_processed=11),
    ]

    assert said(rows)["servicetitan.sync.records_processed", ("production", "both", "completed", "1001")] == [10]


def test_a_sync_that_shows_up_late_is_counted_but_is_not_the_last() -> None:
    """A gauge never goes back in time."""
    samples = told(sync_samples(events_of([sync(records_processed=4)]), level=STANDARD, is_last=["2"]))

    labels = ("production", "both", "completed", "1001")
    assert samples["servicetitan.sync.completed", labels] == [1]
    assert ("servicetitan.sync.records_processed", labels) not in samples


@pytest.mark.parametrize("level", MonitoringLevel)
def test_a_check_says_what_it_costs_at_every_level(level: MonitoringLevel) -> None:
    """Rows and milliseconds."""
    costs = pd.DataFrame([("sync_failures", 1200, 34.5)], columns=list(COST_COLUMNS))

    assert told(cost_samples(costs, level=level)) == {
        ("servicetitan.monitor.check_rows", ("sync_failures",)): [1200],
        ("servicetitan.monitor.check_milliseconds", ("sync_failures",)): [34.5],
    }


@pytest.mark.parametrize(
    ("cap", "durations", "averaged"),
    [
        pytest.param(3, {"completed": [1, 2], "failed": [9]}, 0, id="as many as allowed go one by one"),
        pytest.param(2, {"completed": [1.5], "failed": [9]}, 3, id="beyond, an average for each set of labels"),
        pytest.param(0, {"completed": [1.5], "failed": [9]}, 3, id="none at all may be allowed"),
    ],
)
def test_timings_are_bounded(cap: int, durations: dict[str, list[float]], averaged: int) -> None:
    """Whatever else there is stays as it is, and how many were averaged is told."""
    rows = [
        sync(number=1, took=SECOND),
        sync(number=2, took=2 * SECOND),
        sync(number=3, took=9 * SECOND, status="failed"),
    ]
    samples = sync_samples(events_of(rows), level=STANDARD)

    kept, replaced = averaged_beyond(samples, cap=cap)

    found = told(kept)
    assert {key[1][2]: values for key, values in found.items() if key[0].endswith("duration")} == durations
    assert replaced == averaged

    def others(of: list[Sample]) -> list[Sample]:
        return [sample for sample in of if sample.metric.kind != "timing"]

    assert others(kept) == others(samples)


@pytest.mark.parametrize("level", MonitoringLevel)
def test_nothing_says_nothing(level: MonitoringLevel) -> None:
    """A quiet quarter of an hour emits no counters, and no 0."""
    assert sync_samples(events_of([]), level=level) == []
    assert counter_increments(events_of([])).empty
