"""Ratios of sums, never means of ratios; parts add up to the whole."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import DAILY_COLUMNS, aggregate_days
from include.sync_health.errors import FrameError, RequestError
from include.sync_health.field_quality import REQUIRED_FIELDS
from include.sync_health.proportions import percent_with_interval
from include.sync_health.quality_rollups import RATIO_COLUMNS, ROLL_UP_KEY, SUMMED_COLUMNS, Period, roll_up
from tests.sync_health.daily_syncs import frame_of, noon, sync
from tests.sync_health.frames_of import credentials_frame
from tests.sync_health.stored_quality_days import day_row, days_frame, random_days

MONDAY = date(2026, 3, 2)


def days_rolled(daily: pd.DataFrame, period: Period = Period.WEEK, **options: Any) -> dict[str, Any]:
    """Return the only row."""
    (row,) = roll_up(daily, period=period, **options).to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_a_score_is_of_sums_and_not_a_mean_of_scores() -> None:
    """Ten records at 0 % beside 990 at 100 % are 99 %, not 50 %; the interval is that of 1000 records."""
    row = days_rolled(
        days_frame(day_row(MONDAY, processed=10, successful=0), day_row(MONDAY, n=1, processed=990, successful=990))
    )
    assert row["quality_score"] == 99.0
    low, high = (each[0] for each in percent_with_interval(np.array([990]), np.array([1000]))[1:])
    assert (row["score_low"], row["score_high"]) == (low, high)
    assert (row["days"], row["days_scored"]) == (2, 2)


def test_a_day_that_contradicts_itself_is_left_out_of_the_score_and_counted() -> None:
    row = days_rolled(
        days_frame(
            day_row(MONDAY, processed=100, successful=90),
            day_row(MONDAY, n=1, processed=50, successful=99, scored=False),
        )
    )
    assert row["quality_score"] == 90.0
    assert (row["days"], row["days_scored"], row["records_scored"], row["records_processed"]) == (2, 1, 100, 150)


def test_an_average_duration_is_weighted_by_what_was_timed_and_a_p95_is_not_averaged() -> None:
    row = days_rolled(
        days_frame(
            day_row(MONDAY, timed=1, average=100.0, p95=100.0), day_row(MONDAY, n=1, timed=9, average=10.0, p95=20.0)
        )
    )
    assert row["duration_avg_seconds"] == 19.0
    assert row["duration_p95_max_seconds"] == 100.0
    assert "duration_p95_seconds" not in row


@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        pytest.param(date(2026, 3, 2), date(2026, 3, 2), date(2026, 3, 8), id="a Monday begins its week"),
        pytest.param(date(2026, 3, 8), date(2026, 3, 2), date(2026, 3, 8), id="a Sunday ends it, clocks or not"),
        pytest.param(date(2027, 1, 1), date(2026, 12, 28), date(2027, 1, 3), id="a week goes over the year's end"),
        pytest.param(
            date(2024, 12, 30), date(2024, 12, 30), date(2025, 1, 5), id="the first week of the next ISO year"
        ),
    ],
)
def test_a_week_is_from_monday_to_sunday(day: date, first: date, last: date) -> None:
    row = days_rolled(days_frame(day_row(day)))
    assert (row["first_day"], row["last_day"]) == (first, last)


def test_a_day_counts_in_the_28_periods_that_it_lies_in() -> None:
    """From the one that it ends to the one that it begins; not in the next."""
    ends = [MONDAY + timedelta(days=number) for number in range(-2, 31)]
    rolled = roll_up(days_frame(day_row(MONDAY)), period=Period.DAYS_28, ends=ends)
    assert rolled["last_day"].tolist() == [MONDAY + timedelta(days=number) for number in range(28)]
    assert rolled["first_day"].iloc[-1] == MONDAY


def test_without_ends_every_day_of_the_range_ends_a_period() -> None:
    """Also one on which nothing was synced."""
    daily = days_frame(day_row(MONDAY, processed=10, successful=10), day_row(MONDAY, n=2, processed=10, successful=0))
    rolled = roll_up(daily, period=Period.DAYS_28)
    assert rolled["last_day"].tolist() == [MONDAY + timedelta(days=number) for number in range(3)]
    assert rolled["quality_score"].tolist() == [100.0, 100.0, 50.0]


def test_days_of_huge_counts_overflow_no_period() -> None:
    """Syncs that say 2**62 records each are summed as unknown, day by day, and none of these days is scored."""
    huge = [
        sync(2**62, 2**62, 0, started_at=noon(MONDAY), completed_at=noon(MONDAY + timedelta(days=n // 3)))
        for n in range(9)
    ]
    good = sync(10, 8, 2, started_at=noon(MONDAY), completed_at=noon(MONDAY + timedelta(days=6)))
    days = [MONDAY + timedelta(days=n) for n in range(7)]
    daily = aggregate_days(
        frame_of([*huge, good]),
        names=CompanyNames.of(credentials_frame([1])),
        days=days,
        timezone="UTC",
        as_of=noon(days[-1]),
        late_data_days=3,
    ).daily

    row = days_rolled(daily)

    assert (row["records_processed"], row["records_scored"], row["quality_score"]) == (10, 10, 80.0)
    assert (row["days"], row["days_scored"], row["inconsistent"]) == (4, 1, 9)


def test_what_the_first_definition_does_not_know_is_unknown_and_not_0() -> None:
    """Beside a day that knows it, the sums are that day's, and the days that lack it are counted."""
    old, new = day_row(MONDAY, old=True), day_row(MONDAY, n=1, with_detail=4, processed=100, successful=100)
    alone, both = days_rolled(days_frame(old)), days_rolled(days_frame(old, new))
    assert math.isnan(alone["syncs_empty"])
    assert math.isnan(alone["coverage"])
    assert (both["days_outdated"], both["syncs_with_detail"]) == (1, 4.0)
    assert both["coverage"] == 100 * 4 / (new["syncs_completed"] + new["syncs_failed"])


def test_no_day_is_no_row() -> None:
    for period in Period:
        rolled = roll_up(days_frame(), period=period)
        assert rolled.empty
        assert list(rolled) == ["first_day", "last_day", *ROLL_UP_KEY, *SUMMED_COLUMNS, *RATIO_COLUMNS, "is_final"]


def test_nonsense_is_refused() -> None:
    with pytest.raises(RequestError, match="company_id cannot keep rows apart"):
        roll_up(days_frame(), period=Period.DAY, by=("company_id",))
    with pytest.raises(RequestError, match="ends: they are only for 28 days"):
        roll_up(days_frame(), period=Period.WEEK, ends=[MONDAY])
    with pytest.raises(FrameError, match="quality_score"):
        roll_up(days_frame().drop(columns="quality_score"), period=Period.DAY)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(Period), st.sampled_from([(), ("credential_id",), ROLL_UP_KEY]))
def test_it_is_what_plain_counting_gives(seed: int, period: Period, by: tuple[str, ...]) -> None:
    daily = random_days(seed)
    found = roll_up(daily, period=period, by=by).to_dict("records")
    expected = plain_roll_up(daily, period, by)
    assert [tuple(row[name] for name in ("last_day", "first_day", *by)) for row in found] == list(expected)
    for row, wanted in zip(found, expected.values(), strict=True):
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(Period), st.sampled_from(ROLL_UP_KEY))
def test_the_parts_add_up_to_the_whole(seed: int, period: Period, part: str) -> None:
    """Rolled up apart and then added is rolled up together."""
    daily = random_days(seed)
    ends = sorted(set(daily["day"])) if period is Period.DAYS_28 else None
    whole = roll_up(daily, period=period, by=(), ends=ends).set_index("last_day")
    parts = roll_up(daily, period=period, by=(part,), ends=ends).groupby("last_day")
    for name in SUMMED_COLUMNS:
        pd.testing.assert_series_equal(parts[name].sum(min_count=1), whole[name], check_dtype=False)


def plain_roll_up(daily: pd.DataFrame, period: Period, by: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return the sums and ratios by (last day, first day, key), counted row by row."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    newest = max(daily["day"])
    for row in daily.to_dict("records"):
        day = row["day"]
        if period is Period.DAY:
            spans = [(day, day)]
        elif period is Period.WEEK:
            spans = [(day - timedelta(days=day.weekday()), day + timedelta(days=6 - day.weekday()))]
        else:
            lasts = [day + timedelta(days=number) for number in range(28)]
            spans = [(last - timedelta(days=27), last) for last in lasts if last <= newest]
        for first, last in spans:
            groups.setdefault((last, first, *(row[name] for name in by)), []).append(
                {str(k): v for k, v in row.items()}
            )
    return {key: plain_ratios(groups[key]) for key in sorted(groups)}


def plain_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    def total(name: str, among: list[dict[str, Any]]) -> float:
        known = [row[name] for row in among if not math.isnan(row[name])]
        return sum(known) if known else math.nan

    def percent(part: float, whole: float) -> float:
        return 100 * part / whole if whole > 0 else math.nan

    scored = [row for row in rows if not math.isnan(row["quality_score"])]
    timed = [row for row in rows if row["syncs_timed"] > 0]
    detailed = [row for row in rows if not math.isnan(row["syncs_with_detail"])]
    ended = sum(row["syncs_completed"] + row["syncs_failed"] for row in rows)
    required = sum(row["records_with_detail"] * len(REQUIRED_FIELDS.get(row["data_type"], ())) for row in detailed)
    lacking = sum(row["missing_required"] for row in detailed if REQUIRED_FIELDS.get(row["data_type"], ()))
    weight = sum(row["syncs_timed"] for row in timed)
    return {
        "days": len(rows),
        "days_scored": len(scored),
        **{name: total(name, rows) for name in DAILY_COLUMNS if name.startswith(("syncs_", "records_", "failed_"))},
        "quality_score": percent(
            sum(row["records_successful"] for row in scored), sum(row["records_processed"] for row in scored)
        ),
        "duration_avg_seconds": sum(row["duration_avg_seconds"] * row["syncs_timed"] for row in timed) / weight
        if weight
        else math.nan,
        "completeness": percent(required - lacking, required),
        "coverage": percent(
            sum(row["syncs_with_detail"] for row in detailed),
            sum(row["syncs_completed"] + row["syncs_failed"] for row in detailed),
        ),
        "success_rate": percent(sum(row["syncs_completed"] for row in rows), ended),
        "strict_success_rate": percent(sum(row["syncs_clean"] for row in rows), ended),
    }
