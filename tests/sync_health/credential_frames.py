"""From plain values to the frames that the rules over credentials take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from include.sync_health.credential_facts import credential_facts
from include.sync_health.frames import (
    CREDENTIAL_COLUMNS,
    CREDENTIAL_FACT_COLUMNS,
    CREDENTIAL_MEMORY_COLUMNS,
    ENVIRONMENTS,
)
from tests.sync_health.frames_of import AS_OF, runs_frame
from tests.sync_health.oracle import Row

TIMES = ("token_expires_at", "last_connection_attempt", "created_at", "updated_at", "error_since", "last_success_at")
FLAGS = ("has_client_id", "has_client_secret", "is_recorded", "is_deleted", "is_error_from_start")
HEALTHY: Mapping[str, Any] = {
    "credential_id": 1,
    "company_id": 1001,
    "company_name": "Acme",
    "environment": "production",
    "connection_status": "active",
    "has_client_id": True,
    "has_client_secret": True,
    "is_recorded": True,
    "is_deleted": False,
    "is_error_from_start": False,
}
"""What a row has unless it says otherwise; times and the lifetime are missing."""


def facts_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as `CREDENTIAL_FACT_COLUMNS`; what a row leaves out is as in `HEALTHY`."""
    return _frame(rows, CREDENTIAL_FACT_COLUMNS)


def source_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as `CREDENTIAL_COLUMNS`."""
    return _frame(rows, CREDENTIAL_COLUMNS)


def memory_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as `CREDENTIAL_MEMORY_COLUMNS`."""
    frame = _frame(rows, CREDENTIAL_MEMORY_COLUMNS)
    return frame.assign(credential_id=frame["credential_id"].astype(str).astype(object))


def times(values: Iterable[datetime | None]) -> pd.Series:
    """Return instants in the frames' type, None as NaT."""
    naive = [None if value is None else value.astimezone(UTC).replace(tzinfo=None) for value in values]
    return pd.Series(np.array(naive, dtype="datetime64[us]")).dt.tz_localize("UTC")


def _frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    filled = [{**HEALTHY, **row} for row in rows]
    return pd.DataFrame({column: _column(column, [row.get(column) for row in filled]) for column in columns})


def _column(name: str, values: list[Any]) -> pd.Series:
    if name in TIMES:
        return times(values)
    if name == "token_lifetime":
        return pd.Series(np.array(values, dtype="timedelta64[us]"))  # pandas 2.2 would go through nanoseconds
    if name in FLAGS:
        return pd.Series(values, dtype=bool)
    if name == "environment":
        return pd.Series(pd.Categorical(values, categories=ENVIRONMENTS))
    if name in ("credential_id", "company_id") and all(isinstance(value, int) for value in values):
        return pd.Series(values, dtype="int64")
    return pd.Series(values, dtype=object)


def facts(
    *rows: dict[str, Any],
    memory: list[dict[str, Any]] | None = None,
    runs: list[Row] | None = None,
    is_present: bool = True,
    older: dict[str, datetime] | None = None,
) -> pd.DataFrame:
    """What is known at `AS_OF` of the credentials of these rows."""
    return credential_facts(
        source_frame(rows),
        runs=runs_frame(runs or []),
        as_of=AS_OF,
        is_present=is_present,
        older_success=older,
        **({} if memory is None else {"memory": memory_frame(memory)}),
    )


def only(values: pd.Series) -> Any:
    """The one value as plain Python, None for a missing one."""
    [value] = values
    if pd.isna(value):
        return None
    return getattr(value, "to_pydatetime", getattr(value, "to_pytimedelta", lambda: value))()
