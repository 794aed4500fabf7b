"""The daily aggregates, against an oracle in plain Python and by table."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from statistics import NormalDist

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import day_bounds, local_day
from include.sync_health.errors import FrameError
from tests.sync_health.daily_syncs import (
    AUTUMN,
    BELIEVED,
    DAY,
    HOUR,
    SECOND,
    SPRING,
    ZONES,
    Sync,
    aggregated,
    day_of,
    frame_of,
    noon,
    oracle,
    sync,
    sync_days,
)
from tests.sync_health.frames_of import credentials_frame


@settings(deadline=None, max_examples=80)
@given(world=sync_days(), late=st.integers(-2, 6), fallback=st.booleans())
@example(world=("UTC", [DAY], []), late=0, fallback=True)
def test_the_aggregates_are_those_of_the_oracle(
    world: tuple[str, list[date], list[Sync]], late: int, fallback: bool
) -> None:
    """Every column, for every key, and no other keys."""
    zone, days, syncs = world
    as_of = day_bounds(days[-1], timezone=zone)[1] + timedelta(days=late)
    expected = oracle(syncs, days=set(days), zone=zone, as_of=as_of, fallback=fallback)

    found = aggregated(*syncs, days=days, timezone=zone, as_of=as_of, duration_fallback=fallback)

    assert [(row["day"], row["credential_id"], row["data_type"]) for row in found] == sorted(expected)
    for row in found:
        told = expected[row["day"], row["credential_id"], row["data_type"]]
        assert {name: row[name] for name in told} == told


@given(world=sync_days())
@settings(deadline=None, max_examples=25)
def test_what_a_day_says_never_depends_on_which_others_are_asked_for(
    world: tuple[str, list[date], list[Sync]],
) -> None:
    """A day restated alone is the day restated among others."""
    zone, days, syncs = world
    as_of = noon(days[-1])
    together = aggregated(*syncs, days=days, timezone=zone, as_of=as_of)
    alone = [row for day in days for row in aggregated(*syncs, days=[day], timezone=zone, as_of=as_of)]

    assert together == alone


@given(lost=st.integers(0, 400), good=st.integers(0, 400))
@settings(deadline=None, max_examples=40)
@example(lost=0, good=1)
@example(lost=1, good=0)
@example(lost=0, good=10_000_000)
def test_the_interval_is_wilsons(lost: int, good: int) -> None:
    """Each bound is a share p from which the observed one lies 1.96 of p's own standard errors away; it holds the score."""
    (row,) = aggregated(sync(lost + good, good, lost))
    if lost + good == 0:
        assert (row["quality_score"], row["score_low"], row["score_high"]) == (None, None, None)
        return
    n, z = lost + good, NormalDist().inv_cdf(0.975)
    for bound in (row["score_low"] / 100, row["score_high"] / 100):
        assert (good / n - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / n, abs=1e-12)
    assert 0 <= row["score_low"] <= row["quality_score"] <= row["score_high"] <= 100
    assert row["score_low"] < row["score_high"]


@pytest.mark.parametrize(
    ("good", "n", "low", "high"),
    [
        pytest.param(81, 263, 25.53, 36.62, id="81 of 263"),
        pytest.param(15, 148, 6.24, 16.05, id="15 of 148"),
        pytest.param(0, 20, 0.0, 16.11, id="0 of 20"),
        pytest.param(1, 29, 0.61, 17.18, id="1 of 29"),
    ],
)
def test_the_interval_of_published_examples(good: int, n: int, low: float, high: float) -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17, 1998, table I, method 3."""
    (row,) = aggregated(sync(n, good, n - good))

    assert (round(row["score_low"], 2), round(row["score_high"], 2)) == (low, high)


@pytest.mark.parametrize(
    ("syncs", "score", "inconsistent"),
    [
        pytest.param([sync(10, 9, 1)], 90.0, 0, id="one sync"),
        pytest.param([sync(10, 9, 1), sync(90, 90, 0)], 99.0, 0, id="sums, not the mean of the syncs"),
        pytest.param([sync(10, 10, 0), sync(10, 0, 10, status="failed")], 50.0, 0, id="failed syncs count"),
        pytest.param(
            [sync(10, 10, 0), sync(10, 0, 10, status="failed", is_cancelled=True)], 100.0, 0, id="cancelled do not"
        ),
        pytest.param([sync(10, 10, 0), sync(7, 2, 1, status="running")], 100.0, 0, id="open ones do not"),
        pytest.param([sync(0, 0, 0)], None, 0, id="nothing processed has no score"),
        pytest.param([sync(10, 8, 1)], None, 1, id="counts that do not add up have no score"),
        pytest.param([sync(10, 12, -2)], None, 1, id="a negative count has none, though it adds up"),
        pytest.param([sync(10, 12, -2), sync(10, 8, 2)], None, 1, id="a negative count spoils the day"),
        pytest.param([sync(10, None, None)], None, 1, id="a source without the counts has none"),
        pytest.param([sync(10, 10, None)], 100.0, 0, id="a missing count is 0"),
        pytest.param([sync(None, None, None, status="failed")], None, 0, id="no counts at all are no contradiction"),
        pytest.param(
            [sync(10, 10, 0, completed_at=None)], 100.0, 1, id="completed without an end is odd, its records are not"
        ),
        pytest.param([sync(BELIEVED, BELIEVED, 0)], 100.0, 0, id="as many records as an integer holds are believed"),
        pytest.param([sync(BELIEVED + 1, BELIEVED + 1, 0)], None, 1, id="one more is no count, though it adds up"),
        pytest.param([sync(10, 8, 2), sync(2**62, 2**62, 0)], None, 1, id="a huge count spoils the day"),
        pytest.param([sync(10, 8, 2), sync(10, -(2**62), None)], None, 1, id="so does one that is negative"),
        pytest.param([sync(10, 8, 2), sync(10, 10, 2**53)], None, 1, id="and one of the failed records"),
        pytest.param(
            [sync(10, 8, 2), sync(2**62, 2**62, 0, status="running")], 80.0, 0, id="an open sync's count tells nothing"
        ),
    ],
)
def test_scores(syncs: list[Sync], score: float | None, inconsistent: int) -> None:
    """Percent of the sums, or nothing."""
    (row,) = aggregated(*syncs)

    assert (row["quality_score"], row["inconsistent"]) == (score, inconsistent)


@pytest.mark.parametrize(
    ("syncs", "sums"),
    [
        pytest.param([sync(2**62, 2**62, 0)] * 3, (0, 0, 0), id="huge counts are unknown, and so nothing in a sum"),
        pytest.param([sync(2**62, 2**62, 0), sync(10, 8, 2)], (10, 8, 2), id="beside them the others count"),
        pytest.param([sync(-(2**63), 5, 3)], (0, 5, 3), id="each count by itself"),
        pytest.param(
            [sync(BELIEVED, BELIEVED - 1, 1)] * 3,
            (3 * BELIEVED, 3 * BELIEVED - 3, 3),
            id="what is believed is summed exactly",
        ),
        pytest.param(
            [sync(-BELIEVED, -BELIEVED, 0)] * 3, (-3 * BELIEVED, -3 * BELIEVED, 0), id="negative ones as well"
        ),
    ],
)
def test_sums_of_records(syncs: list[Sync], sums: tuple[int, int, int]) -> None:
    """They overflow nothing, whatever a source of eight bytes a count holds."""
    (row,) = aggregated(*syncs)

    assert (row["records_processed"], row["records_successful"], row["records_failed"]) == sums


@pytest.mark.parametrize(
    ("each", "kinds"),
    [
        pytest.param(sync(10, 8, 2**40), (0, 0, 0), id="a huge number of failed records is unknown: neither, nor"),
        pytest.param(sync(2**40, 2**40, 0), (1, 0, 0), id="no failed record is clean, and a huge number is not empty"),
        pytest.param(sync(2**40, 8, 2), (0, 1, 0), id="two are partial"),
        pytest.param(sync(2**40, 2**40, None), (0, 0, 0), id="huge counts leave nothing that could be known"),
    ],
)
def test_what_a_sync_with_a_huge_count_is(each: Sync, kinds: tuple[int, int, int]) -> None:
    """Clean, partial or empty, as far as the other counts tell."""
    (row,) = aggregated(each)

    assert (row["syncs_clean"], row["syncs_partial"], row["syncs_empty"]) == kinds


@pytest.mark.parametrize(
    ("each", "day"),
    [
        pytest.param(sync(started_at=noon() - 24 * HOUR), DAY, id="a completed sync has the day of its end"),
        pytest.param(
            sync(status="running", started_at=noon() - 24 * HOUR),
            DAY - timedelta(days=1),
            id="an open one that of its start",
        ),
        pytest.param(
            sync(status="failed", completed_at=None, started_at=noon() - 24 * HOUR),
            DAY - timedelta(days=1),
            id="a failed one without an end that of its start",
        ),
        pytest.param(
            sync(status="running", completed_at=noon(), started_at=noon() - 24 * HOUR),
            DAY,
            id="one that says it is open and has an end, that of its end: there it is read",
        ),
    ],
)
def test_the_day_of_a_sync(each: Sync, day: date) -> None:
    """It is counted once."""
    days = [DAY - timedelta(days=number) for number in range(3)]

    assert [row["day"] for row in aggregated(each, days=days)] == [day]


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param(SPRING, 23, id="the clocks go forward"),
        pytest.param(DAY, 24, id="an ordinary day"),
        pytest.param(AUTUMN, 25, id="the clocks go back"),
    ],
)
def test_a_day_is_as_long_as_the_calendar_says(day: date, hours: int) -> None:
    """A sync in each hour of it, and one in the hours before and after."""
    start, end = day_bounds(day, timezone="America/New_York")
    syncs = [sync(completed_at=start + hour * HOUR, started_at=start) for hour in range(-1, hours + 1)]

    (row,) = aggregated(*syncs, days=[day], timezone="America/New_York")

    assert (end - start, row["syncs_total"]) == (hours * HOUR, hours)


@pytest.mark.parametrize("zone", [*ZONES, "America/Sao_Paulo", "America/Havana", "Asia/Beirut"])
def test_days_follow_each_other_without_a_gap(zone: str) -> None:
    """Also where midnight is skipped or comes twice."""
    day = date(2017, 1, 1)
    for number in range(3 * 365):
        each = day + timedelta(days=number)
        start, end = day_bounds(each, timezone=zone)
        assert local_day(start, timezone=zone) == each == local_day(end - SECOND, timezone=zone)
        assert local_day(start - SECOND, timezone=zone) == each - timedelta(days=1)


@pytest.mark.parametrize(
    ("count", "p95"),
    [
        pytest.param(1, 1, id="one sync is its own percentile"),
        pytest.param(19, 19, id="of 19 the last"),
        pytest.param(20, 19, id="of 20 exactly the 19th"),
        pytest.param(21, 20, id="of 21 the 20th"),
        pytest.param(100, 95, id="of 100 the 95th"),
    ],
)
def test_p95_is_the_nearest_rank(count: int, p95: int) -> None:
    """A value that occurred, never one between two."""
    (row,) = aggregated(*(sync(took=number * SECOND) for number in range(1, count + 1)))

    assert (row["duration_p95_seconds"], row["duration_avg_seconds"]) == (p95, (count + 1) / 2)


@pytest.mark.parametrize(
    ("each", "seconds"),
    [
        pytest.param(sync(took=90 * SECOND), 90.0, id="from start to end"),
        pytest.param(sync(took=90 * SECOND, seconds=7), 7.0, id="a stored duration wins"),
        pytest.param(sync(took=90 * SECOND, seconds=0), None, id="a stored 0 is not known"),
        pytest.param(sync(took=90 * SECOND, seconds=BELIEVED), float(BELIEVED), id="what an integer holds is believed"),
        pytest.param(sync(took=90 * SECOND, seconds=BELIEVED + 1), None, id="more is not known"),
        pytest.param(sync(took=90 * SECOND, seconds=2**62), None, id="nor is what only eight bytes hold"),
        pytest.param(sync(took=timedelta(0)), None, id="0 is not known"),
        pytest.param(sync(took=-SECOND), None, id="a negative one is none"),
        pytest.param(sync(completed_at=None), None, id="no end, no duration"),
        pytest.param(sync(status="failed"), None, id="failed syncs have none that counts"),
    ],
)
def test_durations(each: Sync, seconds: float | None) -> None:
    """Of completed syncs, where it is known."""
    (row,) = aggregated(each)

    assert (row["duration_avg_seconds"], row["duration_p95_seconds"]) == (seconds, seconds)


def test_without_the_fallback_only_stored_durations_count() -> None:
    """The policy's ``duration_fallback``."""
    (row,) = aggregated(sync(took=90 * SECOND), sync(seconds=7), duration_fallback=False)

    assert row["duration_avg_seconds"] == 7.0


@pytest.mark.parametrize(
    ("as_of", "is_final"),
    [
        pytest.param(noon(), False, id="the day itself is not final"),
        pytest.param(noon() + timedelta(days=3, hours=11, minutes=59), False, id="nor while late data may come"),
        pytest.param(noon() + timedelta(days=3, hours=12), True, id="it is with the fourth midnight after its start"),
    ],
)
def test_a_day_is_final_when_late_data_is_over(as_of: datetime, is_final: bool) -> None:
    """It ended at least three whole days before the day of ``as_of``."""
    assert [row["is_final"] for row in aggregated(sync(), as_of=as_of)] == [is_final]


def test_names_come_from_the_credentials_and_may_be_gone() -> None:
    """A row whose credential is gone is still counted."""
    known, gone = aggregated(sync(), sync(credential=99))

    assert (known["company_id"], known["company_name"], known["environment"]) == ("1001", "Company 1", "production")
    assert (gone["company_id"], gone["company_name"], gone["environment"]) == (None, None, "unknown")


def test_a_frame_without_counts_is_refused() -> None:
    """It would be a day in which nothing was processed."""
    runs = frame_of([sync()]).drop(columns="records_failed")

    with pytest.raises(FrameError, match="records_failed"):
        day_of(runs)


@pytest.mark.parametrize(
    ("days_before", "name"),
    [
        pytest.param(9, "Old", id="before it was recorded, the earliest known"),
        pytest.param(3, "Old", id="before the change"),
        pytest.param(2, "New", id="on the day of the change, as it was at the end"),
        pytest.param(0, "New", id="after the change"),
    ],
)
def test_a_company_is_called_what_it_was(days_before: int, name: str) -> None:
    """Renamed at noon two days ago; the source only knows the newest name."""
    day = DAY - timedelta(days=days_before)
    names = pd.DataFrame(
        {
            "credential_id": ["1", "1"],
            "since": pd.to_datetime([None, noon(DAY - timedelta(days=2))], utc=True).astype("datetime64[us, UTC]"),
            "company_id": ["1001", "1001"],
            "company_name": ["Old", "New"],
            "environment": ["production", "production"],
        }
    )
    (row,) = aggregated(
        sync(1, 1, 0, started_at=noon(day), completed_at=noon(day)),
        days=[day],
        names=CompanyNames.of(credentials_frame([1, 2]), names),
    )

    assert (row["company_id"], row["company_name"], row["environment"]) == ("1001", name, "production")
