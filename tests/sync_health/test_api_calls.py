"""Single calls come down to hours, and hours to sums, without losing any."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.api_calls import (
    COUNTS,
    HOUR_KEY,
    HOURLY_COLUMNS,
    application_source,
    collapse,
    no_hours,
    summed,
)
from include.sync_health.errors import FrameError
from include.sync_health.response_times import LONGEST_MS, quantile
from tests.sync_health.call_rows import CALLS, T0, Call, calls_frame, plain_histogram, plain_hours

MICROSECOND = timedelta(microseconds=1)


@given(calls=st.lists(CALLS, max_size=60))
def test_hours_are_what_counting_one_by_one_gives(calls: list[Call]) -> None:
    """Every number of every key."""
    hours = collapse(calls_frame(calls))

    told = {tuple(row[name] for name in HOUR_KEY): row for row in hours.to_dict("records")}
    plain = plain_hours(calls)
    assert list(hours.columns) == list(HOURLY_COLUMNS)
    assert set(told) == set(plain)
    for key, wanted in plain.items():
        row, times = told[key], [min(ms, LONGEST_MS) for ms in wanted["times"]]
        assert [row[name] for name in COUNTS] == [wanted["requests"], wanted["errors"], 0, wanted["rate_limited"], 0]
        assert row["response_count"] == len(times) == sum(row["buckets"].values()) == sum(row["histogram"])
        assert row["response_ms_sum"] == pytest.approx(sum(times))
        assert row["response_ms_max"] == (max(times) if times else pytest.approx(math.nan, nan_ok=True))
        assert row["histogram"] == plain_histogram(times)


@given(times=st.lists(st.floats(1, 100_000), min_size=1, max_size=200))
def test_the_95th_percentile_is_within_two_percent(times: list[float]) -> None:
    """Of the nearest rank."""
    hours = collapse(calls_frame(Call(ms=ms) for ms in times))

    exact = sorted(times)[math.ceil(0.95 * len(times)) - 1]
    assert quantile(hours["buckets"][0], 0.95) == pytest.approx(exact, rel=0.02)


@given(calls=st.lists(CALLS, max_size=40), cut=st.integers(0, 40))
def test_two_reads_together_are_what_one_would_have_been(calls: list[Call], cut: int) -> None:
    """Wherever the first one ends."""
    parts = [collapse(calls_frame(part)) for part in (calls[:cut], calls[cut:])]

    together, whole = summed(pd.concat(parts, ignore_index=True)), collapse(calls_frame(calls))
    pd.testing.assert_frame_equal(
        together.drop(columns=["response_ms_sum"]), whole.drop(columns=["response_ms_sum"]), check_dtype=False
    )
    np.testing.assert_allclose(together["response_ms_sum"], whole["response_ms_sum"])


@pytest.mark.parametrize(
    ("after", "hours_later"),
    [
        pytest.param(timedelta(0), 0, id="the first instant belongs to the hour"),
        pytest.param(timedelta(hours=1) - MICROSECOND, 0, id="so does the last"),
        pytest.param(timedelta(hours=1), 1, id="the next hour's first does not"),
    ],
)
def test_the_hour_of_a_call(after: timedelta, hours_later: int) -> None:
    """Half-open, in UTC."""
    hours = collapse(calls_frame([Call(at=T0 + after)]))

    assert list(hours["hour"]) == [T0 + timedelta(hours=hours_later)]


@pytest.mark.parametrize(
    ("status", "told", "errors", "rate_limited"),
    [
        pytest.param(399, 399, 0, 0, id="399 is no error"),
        pytest.param(400, 400, 1, 0, id="400 is one"),
        pytest.param(429, 429, 1, 1, id="429 is an incident of the rate limit too"),
        pytest.param(99, 0, 0, 0, id="99 is no status"),
        pytest.param(100, 100, 0, 0, id="100 is the first"),
        pytest.param(599, 599, 1, 0, id="599 is the last"),
        pytest.param(600, 0, 0, 0, id="600 is none"),
        pytest.param(-1, 0, 0, 0, id="a negative one is none"),
    ],
)
def test_what_a_status_means(status: int, told: int, errors: int, rate_limited: int) -> None:
    """Without counts beside it."""
    row = collapse(calls_frame([Call(status=status)])).iloc[0]

    assert (row["status_code"], row["errors"], row["rate_limited"]) == (told, errors, rate_limited)


def test_counts_beside_the_calls_win() -> None:
    """A retry line of a log is no request; a call that got no answer is an error without a status."""
    calls = calls_frame([Call(status=0, ms=None), Call(status=0, ms=None)]).assign(
        requests=[0, 1], errors=[0, 1], retries=[1, 0], circuit_opened=[0, 0]
    )

    row = collapse(calls).iloc[0]

    assert [row[name] for name in COUNTS] == [1, 1, 1, 0, 0]


def test_ids_are_masked_and_what_is_rare_shares_one_name() -> None:
    """The most frequent template keeps its name; nothing is lost."""
    calls = [Call(endpoint=f"/jobs/{number}") for number in range(5)]
    calls += [Call(endpoint=f"/{chr(97 + number)}") for number in range(10)]

    hours = collapse(calls_frame(calls), most_endpoints=1)

    assert dict(zip(hours["endpoint"], hours["requests"], strict=True)) == {"/jobs/{id}": 5, "other": 10}


def test_what_is_not_known_stays_so() -> None:
    """No credential and no endpoint are told as empty."""
    calls = calls_frame([Call()]).assign(credential_id=[None], endpoint=[None], status_code=[math.nan])

    row = collapse(calls).iloc[0]

    assert (row["credential_id"], row["endpoint"], row["status_code"]) == ("", "", 0)


def test_what_is_wrong_is_refused() -> None:
    """A missing column, a missing time, a negative duration."""
    with pytest.raises(FrameError, match="endpoint"):
        collapse(calls_frame([]).drop(columns=["endpoint"]))
    with pytest.raises(ValueError, match="has no time"):
        collapse(calls_frame([Call()]).assign(at=[pd.NaT]))
    with pytest.raises(ValueError, match="negative"):
        collapse(calls_frame([Call(ms=-1.0)]))
    assert list(no_hours().columns) == list(HOURLY_COLUMNS)


@pytest.mark.parametrize(
    ("statuses", "timed", "source"),
    [
        pytest.param({}, None, None, id="without a source there is none"),
        pytest.param({"table": "available", "log": "available"}, None, "table", id="the table before the log"),
        pytest.param({"table": "failing", "log": "available"}, None, "log", id="the log while the table fails"),
        pytest.param(
            {"table": "unavailable", "log": "unavailable", "probe": "available"}, None, None, id="never the probe"
        ),
        pytest.param(
            {"table": "available", "log": "available"}, {"log": True}, "log", id="for times, the first that has them"
        ),
        pytest.param({"log": "available"}, {"log": False}, None, id="a log without times has none"),
    ],
)
def test_which_source_is_believed(statuses: dict[str, str], timed: dict[str, bool] | None, source: str | None) -> None:
    """One, never two added up."""
    assert application_source(statuses, timed=timed) == source
