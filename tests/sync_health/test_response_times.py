"""Response times: quantiles within their accuracy, whatever was merged."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.response_times import (
    ACCURACY,
    HISTOGRAM_MS,
    LONGEST_MS,
    buckets_of,
    histogram_of,
    milliseconds_of,
    quantile,
    share_within,
)

TIMES = st.lists(st.one_of(st.integers(1, 200_000), st.floats(1.0, LONGEST_MS)), min_size=1, max_size=60)


def counted(times: list[float]) -> Counter[int]:
    return Counter(buckets_of(np.array(times, dtype=np.float64)).tolist())


@given(TIMES, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_its_accuracy(times: list[float], share: float) -> None:
    exact = sorted(times)[max(1, math.ceil(round(share * len(times), 9))) - 1]
    found = quantile(counted(times), share)
    assert found is not None
    assert abs(found - exact) <= ACCURACY * exact * (1 + 1e-6)


@given(TIMES, TIMES)
def test_counts_of_two_halves_merge_to_those_of_the_whole(one: list[float], other: list[float]) -> None:
    assert counted(one) + counted(other) == counted([*one, *other])


@given(TIMES)
def test_a_histogram_counts_every_time_once_and_bounds_are_inclusive(times: list[float]) -> None:
    found = histogram_of(np.array(times, dtype=np.float64))
    for place, bound in enumerate(HISTOGRAM_MS):
        assert sum(found[: place + 1]) == sum(time <= bound for time in times)
    assert sum(found) == len(times)


@pytest.mark.parametrize(
    ("time", "bucket"),
    [
        pytest.param(0.0, 0, id="nothing is up to 1 ms"),
        pytest.param(0.4, 0, id="less than 1 ms is up to 1 ms"),
        pytest.param(1.0, 0, id="1 ms is in the first bucket"),
        pytest.param(1.02, 1, id="just above is in the next"),
        pytest.param(100_000.0, 288, id="the server's own time-out"),
        pytest.param(1e12, 378, id="more than an hour is an hour"),
    ],
)
def test_a_time_has_its_bucket(time: float, bucket: int) -> None:
    assert buckets_of(np.array([time])).tolist() == [bucket]


def test_of_nothing_there_is_no_quantile_and_no_share() -> None:
    assert quantile({}, 0.95) is None
    assert share_within({}, 5_000.0) is None


def test_the_share_within_a_bound_counts_what_is_clearly_within() -> None:
    assert share_within(counted([100.0, 200.0, 4_000.0, 9_000.0]), 5_000.0) == 0.75
    assert milliseconds_of(0) == 1.0


@pytest.mark.parametrize("wrong", [-1.0, float("nan")], ids=["negative", "no number"])
def test_what_is_no_time_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="negative or no number"):
        buckets_of(np.array([wrong]))


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="a share is"):
        quantile({1: 1}, share)
