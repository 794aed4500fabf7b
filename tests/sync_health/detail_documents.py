"""Documents as a sync's JSON columns hold them, read as the aggregation reads them."""

from __future__ import annotations

import json
from typing import Any

from include.sync_health.field_quality import SyncDetail, read_details

ZIP_EMPTY = {"field": "zip", "message": "Zip Code is Empty"}


def read(
    error_details: Any, metadata: Any = None, *, message: str | None = None, data_type: str = "customers"
) -> SyncDetail:
    """Return what the two columns and the error message tell of the fields."""
    return read_details(json.dumps([error_details, metadata]), error_message=message, data_type=data_type)


def numbers(detail: SyncDetail) -> dict[str, tuple[int, int]]:
    """Return failures and missing by field."""
    return {name: (found.failures, found.missing) for name, found in detail.fields.items()}


def turned(value: Any) -> Any:
    """Return the same document with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(list(value))}
    return [turned(each) for each in value] if isinstance(value, list) else value
