"""Calls for the tests, one by one, and what they come to, counted the plain way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from include.sync_health.api_calls import CALL_COLUMNS
from include.sync_health.response_times import HISTOGRAM_MS

T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
"""The beginning of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call; ``credential`` and ``endpoint`` empty, ``status`` 0 and ``ms`` None: not known."""

    at: datetime = T0
    credential: str = "1"
    endpoint: str = "/customers"
    status: int = 200
    ms: float | None = 250.0


def calls_frame(calls: Iterable[Call]) -> pd.DataFrame:
    """Return `CALL_COLUMNS`."""
    rows = [
        (each.at, each.credential, each.endpoint, each.status, math.nan if each.ms is None else each.ms)
        for each in calls
    ]
    frame = pd.DataFrame(rows, columns=list(CALL_COLUMNS))
    frame["at"] = pd.to_datetime(frame["at"], utc=True).astype("datetime64[us, UTC]")
    return frame.astype({"response_ms": "float64", "status_code": "int64", "credential_id": object, "endpoint": object})


def plain_hours(calls: Iterable[Call]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the sums by (hour, credential, endpoint, status); endpoints must be templates already."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in calls:
        hour = each.at.replace(minute=0, second=0, microsecond=0)
        mine = found.setdefault(
            (hour, each.credential, each.endpoint, each.status),
            {"requests": 0, "errors": 0, "rate_limited": 0, "times": []},
        )
        mine["requests"] += 1
        mine["errors"] += each.status >= 400
        mine["rate_limited"] += each.status == 429
        mine["times"] += [] if each.ms is None else [each.ms]
    return found


def plain_histogram(times: Iterable[float]) -> list[int]:
    """Return how many times lie within each bound and above the one before, and above the last."""
    bounds = (*HISTOGRAM_MS, math.inf)
    found = [0] * len(bounds)
    for time in times:
        found[next(place for place, bound in enumerate(bounds) if time <= bound)] += 1
    return found


CALLS = st.builds(
    Call,
    at=st.integers(0, 3 * 3_600_000_000 - 1).map(lambda us: T0 + timedelta(microseconds=us)),
    credential=st.sampled_from(["", "1", "2"]),
    endpoint=st.sampled_from(["", "/customers", "/jobs/{id}"]),
    status=st.sampled_from([0, 200, 399, 400, 404, 429, 500]),
    ms=st.none() | st.floats(0, 4_000_000),
)
"""Of three hours; times up to above the longest that is told apart."""
