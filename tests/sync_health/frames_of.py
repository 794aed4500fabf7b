"""From plain rows to the frames that checks take, and strategies that make such rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pandas as pd
from hypothesis import strategies as st

from include.sync_health.frames import COUNT_COLUMNS, DATA_TYPES, ENVIRONMENTS, RUN_COLUMNS, RUN_STATUSES
from include.sync_health.subjects import Subject
from tests.sync_health.oracle import Row, cancelled, ended

AS_OF = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ERRORS = ("HTTP 401 invalid_client", "ServiceTitan API server error: 503", None, "Sync cancelled by user", "odd")


def runs_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as the reader would: `RUN_COLUMNS`."""
    rows = list(rows)

    def times(values: Iterable[datetime | None]) -> pd.Series:
        return pd.Series(pd.to_datetime(list(values), utc=True)).astype("datetime64[us, UTC]")

    frame = pd.DataFrame(
        {
            "sync_id": pd.Series([row.id for row in rows], dtype="int64"),
            "credential_id": pd.Series([row.credential for row in rows], dtype="int64"),
            "data_type": pd.Categorical([row.data_type for row in rows], categories=DATA_TYPES),
            "status": pd.Categorical([row.status for row in rows], categories=RUN_STATUSES),
            "is_cancelled": pd.Series([cancelled(row) for row in rows], dtype=bool),
            "started_at": times(row.started_at for row in rows),
            "completed_at": times(row.completed_at for row in rows),
            "finished_at": times(ended(row) for row in rows),
            "error_message": pd.Series(
                [row.error_message if row.status == "failed" else None for row in rows], dtype=object
            ),
        }
    )
    return frame[list(RUN_COLUMNS)]


def credentials_frame(ids: Iterable[int], *, environment: str = "production") -> pd.DataFrame:
    """Return healthy credentials with these ids: `CREDENTIAL_COLUMNS`."""
    ids = list(ids)
    none = pd.Series([pd.NaT] * len(ids), dtype="datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "credential_id": pd.Series(ids, dtype="int64"),
            "company_id": pd.Series([each + 1000 for each in ids], dtype="int64"),
            "company_name": pd.Series([f"Company {each}" for each in ids], dtype=object),
            "environment": pd.Categorical([environment] * len(ids), categories=ENVIRONMENTS),
            "connection_status": pd.Series(["active"] * len(ids), dtype=object),
            "token_expires_at": none,
            "last_connection_attempt": none,
            "created_at": none,
            "updated_at": none,
            "has_client_id": pd.Series([True] * len(ids), dtype=bool),
            "has_client_secret": pd.Series([True] * len(ids), dtype=bool),
        }
    )


def subject(credential: int | str, *, name: str | None = "Acme", environment: str = "production") -> Subject:
    """Return a subject."""
    return Subject(credential_id=str(credential), company_id="1", company_name=name, environment=environment)


@st.composite
def sync_rows(draw: st.DrawFn, *, as_of: datetime = AS_OF, max_size: int = 40) -> list[Row]:
    """Rows around every boundary of the rules: ends at, just before and just after each of them."""
    edges = [timedelta(0), timedelta(hours=1), timedelta(hours=2), timedelta(hours=24), timedelta(days=7)]
    offsets = st.one_of(
        st.sampled_from([edge + nudge for edge in edges for nudge in (-SECOND, timedelta(0), SECOND)]),
        st.integers(-3 * 3600, 8 * 86400).map(lambda seconds: timedelta(seconds=seconds)),
    )
    rows = []
    for number in range(1, draw(st.integers(0, max_size)) + 1):
        status = draw(st.sampled_from(("completed", "failed", "failed", "running", "pending", "cancelled", "unknown")))
        end = as_of - draw(offsets)
        started = end - timedelta(seconds=draw(st.integers(0, 4 * 3600)))
        has_end = status in ("completed", "failed", "cancelled") and draw(st.integers(0, 9)) > 0
        rows.append(
            Row(
                id=number,
                credential=draw(st.integers(1, 3)),
                data_type=draw(st.sampled_from(("invoices", "customers", "both"))),
                status=status,
                started_at=started,
                completed_at=end if has_end else None,
                updated_at=end,
                error_message=draw(st.sampled_from(ERRORS)) if status == "failed" else None,
            )
        )
    return rows


SECOND = timedelta(seconds=1)


def runs_with_counts(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a read with counts would: `RUN_COLUMNS` and `COUNT_COLUMNS`."""
    rows = list(rows)
    frame = runs_frame(rows)
    for name in COUNT_COLUMNS[:-1]:
        frame[name] = pd.Series([getattr(row, name) for row in rows], dtype="float64")
    frame[COUNT_COLUMNS[-1]] = pd.Series([None] * len(rows), dtype="float64")
    return frame
