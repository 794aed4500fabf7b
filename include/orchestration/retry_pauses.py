"""How long a delivery waits before it is tried again."""

from __future__ import annotations

import math
import random
from datetime import timedelta

FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=15)

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 3_600.0
"""Seconds between which a service's ``Retry-After`` is believed."""


def retry_pause(attempts: int, *, retry_after: float | None) -> timedelta:
    """
    Return how long to wait before the next attempt.

    What the service asks for, within `SHORTEST_WAIT` and `LONGEST_WAIT`, where it asks; else doubling from
    `FIRST_BACKOFF` to `LONGEST_BACKOFF`, less up to a quarter at random, so that many workers do not come back at once.
    """
    if retry_after is not None and math.isfinite(retry_after):
        return timedelta(seconds=min(max(retry_after, SHORTEST_WAIT), LONGEST_WAIT))
    doubled = min(FIRST_BACKOFF * 2 ** min(attempts - 1, 10), LONGEST_BACKOFF)
    return doubled * (1 - 0.25 * random.random())  # noqa: S311 - jitter, not a secret
