"""Windows of API calls for the rules' tests, made of single calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.api_calls import STORED_HOUR_COLUMNS, collapse
from include.sync_health.api_window import ApiWindow, SourceState
from tests.sync_health.call_rows import T0, Call, calls_frame

AS_OF = T0 + timedelta(hours=1, minutes=20)
"""Twenty past: the judged hour is the one that begins with `T0`."""

ENVIRONMENTS = {"1": "production", "2": "integration"}


def state(status: str = "available", *, timed: bool = True, looked_at: datetime = AS_OF) -> SourceState:
    """A source that was looked at just now."""
    return SourceState(status=status, has_timings=timed, looked_at=looked_at)


def stored(calls: Iterable[Call], *, source: str = "table", **counts: Any) -> pd.DataFrame:
    """Return `STORED_HOUR_COLUMNS` of calls; ``counts`` stand beside each, such as ``circuit_opened=1``."""
    hours = collapse(calls_frame(calls).assign(**counts))
    return hours.assign(
        source=source,
        company_id="10",
        environment=[ENVIRONMENTS.get(each, "unknown") for each in hours["credential_id"]],
    )[list(STORED_HOUR_COLUMNS)]


def window(*parts: pd.DataFrame, sources: Mapping[str, SourceState] | None = None) -> ApiWindow:
    """Return what the rules judge; by default of a table that was just read."""
    hours = pd.concat(parts, ignore_index=True) if parts else stored([])
    return ApiWindow(hours=hours, sources={"table": state()} if sources is None else sources)
