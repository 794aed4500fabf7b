"""From plain days to the stored days that trend rules compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd

from include.sync_health.stored_days import STORED_COLUMNS, DayRead, StoredDays
from tests.sync_health.oracle_trends import Day


def stored_days(days: Iterable[Day], *, read_at: Mapping[date, datetime] | None = None) -> StoredDays:
    """Return days as they would be stored, the ledger with them; by default each was read two days later."""
    days = list(days)
    rows = pd.DataFrame(
        {
            "day": pd.Series([np.datetime64(each.day, "s") for each in days], dtype="datetime64[s]"),
            "credential_id": pd.Categorical([each.credential for each in days]),
            "data_type": pd.Categorical([each.data_type for each in days]),
            "is_final": pd.Series([each.is_final for each in days], dtype=bool),
            "is_vanished": pd.Series([each.is_vanished for each in days], dtype=bool),
            "syncs_completed": pd.Series([each.completed for each in days], dtype="int64"),
            "records_processed": pd.Series([each.processed for each in days], dtype="int64"),
            "quality_score": pd.Series(
                [
                    float("nan")
                    if each.successful is None or not each.processed
                    else 100 * each.successful / each.processed
                    for each in days
                ],
                dtype="float64",
            ),
        }
    )
    if read_at is None:
        read_at = {each.day: midnight_utc(each.day) + timedelta(days=2) for each in days}
    return StoredDays(
        rows=rows[list(STORED_COLUMNS)],
        computed={day: DayRead(read_at=at, timezone=None) for day, at in read_at.items()},
    )


def midnight_utc(day: date) -> datetime:
    """When a day begins in UTC."""
    return datetime.fromisoformat(f"{day.isoformat()}T00:00:00+00:00")


def weeks_of(day: date, *, count: int = 8, **known: object) -> list[Day]:
    """The same weekday of so many weeks before."""
    return [Day(day=day - timedelta(days=7 * weeks), **known) for weeks in range(1, count + 1)]  # type: ignore[arg-type]
