"""Syncs by hour: whole hours only, and the same figures as the daily aggregates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import aggregate_days
from include.sync_health.record_counts import RECORDS
from include.sync_health.sync_events import sync_events
from include.sync_health.sync_hours import NULLABLE, SYNC_HOUR_COLUMNS, sync_hours, whole_hours
from tests.sync_health.frames_of import AS_OF, credentials_frame
from tests.sync_health.oracle_metrics import Sync, frame_of, outcome, syncs

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 11, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("since", "as_of", "first", "last"),
    [
        pytest.param("11:05", "12:15", "12:00", "12:00", id="the hour that had begun is not whole"),
        pytest.param("11:00", "12:00", "12:00", "12:00", id="nor the one that begins with since, which is left out"),
        pytest.param("10:59", "12:00", "11:00", "12:00", id="one that begins after since is"),
        pytest.param("12:05", "12:15", "13:00", "12:00", id="a short read has none"),
    ],
)
def test_whole_hours_are_those_of_which_nothing_was_left_out(since: str, as_of: str, first: str, last: str) -> None:
    """And the present one, as far as it has come."""

    def at(text: str) -> datetime:
        return datetime.fromisoformat(f"2026-03-10T{text}:00+00:00")

    assert whole_hours(at(since), at(as_of)) == (at(first), at(last))


def test_hours_are_of_utc_whatever_zone_the_times_are_given_in() -> None:
    """A zone of half an hour has other hours."""
    kolkata = datetime.fromisoformat("2026-03-10T17:45:00+05:30")  # 12:15 in UTC

    assert whole_hours(kolkata - HOUR, kolkata) == (AS_OF, AS_OF)


@given(rows=syncs(as_of=MIDNIGHT - INSTANT, window=DAY))
def test_the_hours_of_a_day_sum_to_the_day(rows: list[Sync]) -> None:
    """By the definitions of the daily aggregates, where both place a sync by its end."""
    # A failed sync without an end belongs to the day of its start, and here to its last touch; a count beyond all belief
    # keeps a sync from being clean there.
    rows = [row for row in rows if row.completed_at is not None or outcome(row) is None]
    rows = [row for row in rows if (row.records_processed or 0) < 2**31 and (row.records_failed or 0) < 2**31]
    credentials, day = credentials_frame([1, 2, 3]), MIDNIGHT - DAY
    since = day - HOUR
    events = sync_events(frame_of(rows), credentials, since=since, as_of=MIDNIGHT - INSTANT)
    hours = sync_hours(events, since=since, as_of=MIDNIGHT - INSTANT)
    daily = aggregate_days(
        frame_of(rows),
        names=CompanyNames.of(credentials),
        days=[day.date()],
        timezone="UTC",
        as_of=MIDNIGHT,
        late_data_days=3,
    ).daily

    assert tuple(hours.columns) == SYNC_HOUR_COLUMNS
    for name in SYNC_HOUR_COLUMNS[4:-1]:
        if name == "duration_seconds_sum":
            expected = float((daily["duration_avg_seconds"].fillna(0) * daily["syncs_timed"]).sum())
        elif name == "syncs_clean":
            continue
        else:
            expected = int(daily[name].sum())
        assert hours[name].sum() == pytest.approx(expected), name
    classes = {name: int(daily[name].sum()) for name in daily if name.startswith("failed_")}
    found: dict[str, int] = {}
    for each in hours["failed_by_class"]:
        for error_class, number in each.items():
            found[f"failed_{error_class}"] = found.get(f"failed_{error_class}", 0) + number
    assert found == {name: number for name, number in classes.items() if number}
    started = [row for row in rows if day <= row.started_at < MIDNIGHT]
    assert hours["syncs_started"].sum() == len(started)


KNOWN = [(), ("records_processed",), RECORDS]


@given(rows=syncs(as_of=MIDNIGHT - INSTANT, window=DAY), known=st.sampled_from(KNOWN))
def test_what_rests_on_a_count_that_cannot_be_read_is_unknown(rows: list[Sync], known: tuple[str, ...]) -> None:
    """In each row in which a sync completed or failed, never 0; all else is what it is with the counts."""
    since = MIDNIGHT - DAY - HOUR
    read = {"since": since, "as_of": MIDNIGHT - INSTANT}
    events = sync_events(frame_of(rows), credentials_frame([1, 2, 3]), **read)
    blind = frame_of(rows).assign(**{name: float("nan") for name in RECORDS if name not in known})
    found = sync_hours(sync_events(blind, credentials_frame([1, 2, 3]), **read), **read, known=known)
    whole = sync_hours(events, **read)

    unknown = {name for name in RECORDS if name not in known}
    unknown |= {"syncs_clean", "syncs_partial"} if known != RECORDS else set()
    ended = whole["syncs_completed"] + whole["syncs_failed"] > 0
    assert {str(whole[name].dtype) for name in NULLABLE} == {"float64"}
    assert not whole[list(NULLABLE)].isna().any(axis=None)
    for name in SYNC_HOUR_COLUMNS:
        expected = whole[name].where(~ended) if name in unknown else whole[name]
        assert found[name].equals(expected), name


@given(rows=syncs(as_of=MIDNIGHT - INSTANT, window=DAY), known=st.sampled_from(KNOWN), data=st.data())
def test_a_sum_is_as_unknown_as_the_syncs_it_is_of_however_hours_are_read(
    rows: list[Sync], known: tuple[str, ...], data: st.DataObject
) -> None:
    """Added up from two reads or from one; it is known of no sync at all, and then it is 0."""
    hour = MIDNIGHT - data.draw(st.integers(1, 23)) * HOUR
    since, end = MIDNIGHT - DAY - HOUR, MIDNIGHT - INSTANT

    def read(since: datetime, as_of: datetime) -> pd.DataFrame:
        events = sync_events(frame_of(rows), credentials_frame([1, 2, 3]), since=since, as_of=as_of)
        return sync_hours(events, since=since, as_of=as_of, known=known)

    parts = pd.concat([read(since, hour - INSTANT), read(hour - INSTANT, end)])
    for name in NULLABLE:
        one, two = (frame[name].sum(skipna=False) for frame in (read(since, end), parts))
        assert one == two or (np.isnan(one) and np.isnan(two)), name


@pytest.mark.parametrize(
    ("counts", "clean", "partial"),
    [
        pytest.param((10, 10, 0), 1, 0, id="no failed record is clean"),
        pytest.param((10, 9, 1), 0, 1, id="a failed record is partial"),
        pytest.param((10, 10, None), 1, 0, id="an unknown number that the others leave none of is clean"),
        pytest.param((10, 8, None), 0, 0, id="one that they do not is neither"),
        pytest.param((None, None, None), 1, 0, id="nothing known of any is clean, as in the days"),
    ],
)
def test_a_completed_sync_is_clean_or_partial_by_its_failed_records(
    counts: tuple[int | None, ...], clean: int, partial: int
) -> None:
    """The daily aggregates say the same."""
    processed, successful, failed = counts
    end = AS_OF - timedelta(minutes=5)
    row = Sync(
        id=1,
        credential=1,
        data_type="both",
        status="completed",
        started_at=end,
        completed_at=end,
        updated_at=end,
        records_processed=processed,
        records_successful=successful,
        records_failed=failed,
    )
    events = sync_events(frame_of([row]), credentials_frame([1]), since=AS_OF - 2 * HOUR, as_of=AS_OF)
    (hour,) = sync_hours(events, since=AS_OF - 2 * HOUR, as_of=AS_OF).to_dict("records")
    daily = aggregate_days(
        frame_of([row]),
        names=CompanyNames.of(credentials_frame([1])),
        days=[end.date()],
        timezone="UTC",
        as_of=AS_OF,
        late_data_days=3,
    ).daily

    assert (hour["syncs_clean"], hour["syncs_partial"]) == (clean, partial)
    assert (int(daily["syncs_clean"].iloc[0]), int(daily["syncs_partial"].iloc[0])) == (clean, partial)
