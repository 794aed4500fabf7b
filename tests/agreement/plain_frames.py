"""From plain values to the frames that the rules take: what the reader and the snapshots would give for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from include.sync_health.frames import (
    COUNT_COLUMNS,
    CREDENTIAL_COLUMNS,
    CREDENTIAL_MEMORY_COLUMNS,
    ENVIRONMENTS,
    RUN_COLUMNS,
)
from tests.sync_health.frames_of import runs_frame
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential, Snapshot, last_errors, of


def counted_runs(rows: Iterable[Row]) -> pd.DataFrame:
    """`RUN_COLUMNS` and `COUNT_COLUMNS`."""
    rows = list(rows)
    frame = runs_frame(rows)
    for column in ("records_processed", "records_successful", "records_failed"):
        frame[column] = pd.Series([getattr(row, column) for row in rows], dtype="float64")
    frame["processing_seconds"] = pd.Series([float("nan")] * len(rows), dtype="float64")
    return frame[[*RUN_COLUMNS, *COUNT_COLUMNS]]


def credentials_of(credentials: Iterable[Credential]) -> pd.DataFrame:
    """`CREDENTIAL_COLUMNS`."""
    credentials = list(credentials)
    frame = pd.DataFrame(
        {
            "credential_id": pd.Series([each.id for each in credentials], dtype="int64"),
            "company_id": pd.Series([each.company for each in credentials], dtype="int64"),
            "company_name": pd.Series([each.company_name for each in credentials], dtype=object),
            "environment": pd.Categorical([each.environment for each in credentials], categories=ENVIRONMENTS),
            "connection_status": pd.Series([each.status for each in credentials], dtype=object),
            "token_expires_at": _times(each.token_expires_at for each in credentials),
            "last_connection_attempt": _times(each.last_connection_attempt for each in credentials),
            "created_at": _times(each.created_at for each in credentials),
            "updated_at": _times(each.updated_at for each in credentials),
            "has_client_id": pd.Series([each.has_client_id for each in credentials], dtype=bool),
            "has_client_secret": pd.Series([each.has_client_secret for each in credentials], dtype=bool),
        }
    )
    return frame[list(CREDENTIAL_COLUMNS)]


def memory_of(credentials: Iterable[Credential], snapshots: Iterable[Snapshot], *, as_of: datetime) -> pd.DataFrame:
    """`CREDENTIAL_MEMORY_COLUMNS`: what the snapshots up to ``as_of`` say of each credential that has any."""
    snapshots = list(snapshots)
    records = []
    for credential in credentials:
        mine = of(credential, snapshots, as_of=as_of)
        if not mine:
            continue
        series = last_errors(mine)
        left = [each.token_expires_at - each.at for each in mine if each.token_expires_at is not None]
        records.append(
            {
                "credential_id": str(credential.id),
                "connection_status": mine[-1].status,
                "token_expires_at": mine[-1].token_expires_at,
                "has_client_id": mine[-1].has_client_id,
                "has_client_secret": mine[-1].has_client_secret,
                "is_deleted": mine[-1].is_deleted,
                "error_since": series[0].at if series else None,
                "is_error_from_start": bool(series) and len(series) == len(mine),
                "token_lifetime": max(left, default=None),
            }
        )
    frame = pd.DataFrame(records, columns=list(CREDENTIAL_MEMORY_COLUMNS))
    for column in ("token_expires_at", "error_since"):
        frame[column] = _times(None if pd.isna(value) else value for value in frame[column].tolist())
    frame["token_lifetime"] = pd.to_timedelta(frame["token_lifetime"])
    for column in ("has_client_id", "has_client_secret", "is_deleted", "is_error_from_start"):
        frame[column] = frame[column].astype(bool)
    return frame


def _times(values: Iterable[datetime | None]) -> pd.Series:
    return pd.Series(pd.to_datetime(list(values), utc=True)).astype("datetime64[us, UTC]")
