"""
The frames that pass between the reader and the checks: their columns, types and units.

Ids are ``int64`` where the source's key is an integer and ``str`` where it is a UUID;
`id_text` gives the text that identities use. All times are ``datetime64[us, UTC]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from include.sync_health.errors import FrameError

if TYPE_CHECKING:
    import pandas as pd

RUN_STATUSES = ("pending", "running", "completed", "failed", "cancelled", "unknown")
DATA_TYPES = ("invoices", "customers", "both", "unknown")
ENVIRONMENTS = ("production", "integration", "unknown")

CANCELLED_BY_USER = "Sync cancelled by user"
"""The only text that upstream's cancelSync writes; it leaves status ``failed``."""

RUN_COLUMNS = (
    "sync_id",  # int64 | str
    "credential_id",  # int64 | str
    "data_type",  # category over DATA_TYPES
    "status",  # category over RUN_STATUSES, as the source has it
    "is_cancelled",  # bool: status cancelled, or failed with CANCELLED_BY_USER
    "started_at",  # UTC
    "completed_at",  # UTC, NaT while open (or where upstream left it out)
    "finished_at",  # UTC: completed_at; else updated_at (else started_at, where there is no such
    #                 column) of a failed or cancelled row; NaT for every other row without completed_at
    "error_message",  # str or None: of failed rows only, its first ERROR_TEXT_LIMIT characters
)
"""One row per sync run: those finished in the read window, those still open, and those started in it that say neither."""

COUNT_COLUMNS = (
    "records_processed",  # float64: a whole number as the source has it; NaN where it has none
    "records_successful",  # float64
    "records_failed",  # float64
    "processing_seconds",  # float64: processing_time_seconds, which upstream hardly ever sets; NaN where it is not
)
"""What a read with counts adds to `RUN_COLUMNS`."""

DETAIL_COLUMNS = (
    "details",  # str or None: a JSON list of two, error_details and metadata, each null where the source has none and
    #             true where it is larger than DETAIL_TEXT_LIMIT; None where both are null, or of an open sync
)
"""What a read with details adds to `RUN_COLUMNS` and `COUNT_COLUMNS`."""

CREDENTIAL_COLUMNS = (
    "credential_id",  # int64 | str
    "company_id",  # int64 | str
    "company_name",  # str or None: None when the company row is gone
    "environment",  # category over ENVIRONMENTS
    "connection_status",  # str, as the source has it
    "token_expires_at",  # UTC or NaT
    "last_connection_attempt",  # UTC or NaT
    "created_at",  # UTC or NaT where the column is absent
    "updated_at",  # UTC or NaT where the column is absent
    "has_client_id",  # bool: present and not blank; the value itself is never read
    "has_client_secret",  # bool
)
"""One row per credential."""

CREDENTIAL_MEMORY_COLUMNS = (
    "credential_id",  # str
    "connection_status",  # str or None
    "token_expires_at",  # UTC or NaT
    "has_client_id",  # bool
    "has_client_secret",  # bool
    "is_deleted",  # bool
    "error_since",  # UTC: the as_of of the first snapshot of the unbroken series in status error; NaT if not in error
    "is_error_from_start",  # bool: that series begins with the credential's very first snapshot
    "token_lifetime",  # timedelta64: the longest token_expires_at - as_of ever snapshotted; NaT without any
)
"""One row per credential: what the snapshots up to an instant say of it. See `include.warehouse.snapshots`."""

CREDENTIAL_FACT_COLUMNS = (
    *CREDENTIAL_COLUMNS,
    "is_recorded",  # bool: status and token are those of the instant judged; False: nobody recorded them then
    "error_since",  # UTC: since when it is known to be in status error; NaT if it is not, or nothing says
    "token_lifetime",  # timedelta64: how long its tokens are known to last, at least; NaT if nothing says
    "last_success_at",  # UTC: its newest completed run up to the instant judged; NaT if there is none
)
"""What the credential rules judge: `include.sync_health.credential_facts` makes it."""

DETAIL_TEXT_LIMIT = 65_536
"""Bytes of one JSON document that leave the source database; a larger one is counted, not read."""

ERROR_TEXT_LIMIT = 2_000
"""Characters of an error message that leave the source database; messages show far fewer."""


def require_columns(frame: pd.DataFrame, columns: Iterable[str], *, name: str) -> None:
    """Raise `FrameError` when ``frame`` lacks one of ``columns``."""
    if missing := set(columns) - set(frame.columns):
        raise FrameError(frame=name, missing=missing)


def id_text(ids: pd.Series) -> pd.Series:
    """Return ids as the text that identities and messages use."""
    return ids.astype(str)
