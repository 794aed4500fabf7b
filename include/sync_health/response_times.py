"""
Response times as counts of buckets: mergeable, of bounded size, with a bounded error.

Bucket ``k`` holds the times in ``(GAMMA**(k - 1), GAMMA**k]`` milliseconds, and stands for the middle of it in the sense
that no time of it is further away than 2 % (DDSketch: Masson, Rim, Lee, https://arxiv.org/abs/1908.10693, section 2). Bucket
0 holds all up to 1 ms. A hundred seconds, ServiceTitan's own time-out, lie in bucket 288.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ACCURACY = 0.02
"""A quantile is at most this share of its own value away from the exact one (nearest rank); below 1 ms it is 1 ms."""

GAMMA = (1 + ACCURACY) / (1 - ACCURACY)

LONGEST_MS = 3_600_000.0
"""A longer time is taken for this one: no call takes an hour."""

HISTOGRAM_MS = (50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0)
"""Upper bounds, inclusive, of the histogram that Prometheus is told."""


def buckets_of(milliseconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """
    Return the bucket of each time.

    Raises:
        ValueError: a time is negative or no number.
    """
    if len(milliseconds) and not (milliseconds >= 0).all():
        raise ValueError("a response time is negative or no number")
    within = np.clip(milliseconds, 1.0, LONGEST_MS)
    # What lies on a bound up to the last digits must not depend on how the logarithm rounds.
    return np.ceil(np.log(within) / math.log(GAMMA) - 1e-9).astype(np.int64)


def milliseconds_of(bucket: int) -> float:
    """Return the time that stands for a bucket; at most `ACCURACY` away from each time in it, except below 1 ms."""
    return 1.0 if bucket <= 0 else 2 * GAMMA**bucket / (GAMMA + 1)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """
    Return the nearest-rank quantile in milliseconds, within `ACCURACY`; None of nothing.

    Args:
        counts: by bucket; not negative.
        share: such as 0.95; more than 0, at most 1.

    Raises:
        ValueError: the share is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is more than 0 and at most 1, not {share}")
    total = sum(counts.values())
    if not total:
        return None
    # In integers of a billionth: 0.95 has no exact binary form, and ceil would see it.
    rank = max(1, -(-round(share * 1_000_000_000) * total // 1_000_000_000))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return milliseconds_of(bucket)
    raise AssertionError("the rank lies within the counts")


def share_within(counts: Mapping[int, int], milliseconds: float) -> float | None:
    """
    Return the share of the times that are at most so long; None of nothing.

    Within `ACCURACY` of the bound: the bucket that the bound lies in counts as within when its middle is.
    """
    total = sum(counts.values())
    if not total:
        return None
    return sum(number for bucket, number in counts.items() if milliseconds_of(bucket) <= milliseconds) / total


def histogram_of(milliseconds: NDArray[np.float64]) -> list[int]:
    """Return how many times lie within each of `HISTOGRAM_MS` and above the one before it, and those above the last."""
    places = np.searchsorted(np.array(HISTOGRAM_MS), milliseconds, side="left")
    return [int(number) for number in np.bincount(places, minlength=len(HISTOGRAM_MS) + 1)]
