"""
What is known of each credential at the instant judged: the source's row, our snapshots of it, and its last success.

The source has no past: at an older instant its status and token are those of our snapshots, or not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from include.sync_health.frames import (
    CREDENTIAL_COLUMNS,
    CREDENTIAL_FACT_COLUMNS,
    CREDENTIAL_MEMORY_COLUMNS,
    RUN_COLUMNS,
    id_text,
    require_columns,
)

ERROR_STATUS = "error"
"""What upstream sets on a failed refresh; every shape of its tables has the word."""

KNOWN_STATUSES = ("active", "connected", ERROR_STATUS, "inactive", "pending")
"""All that the source's shapes and code know. Of any other nobody knows whether such a credential is in use."""

NO_MEMORY = pd.DataFrame(columns=list(CREDENTIAL_MEMORY_COLUMNS))
"""What is remembered before the first snapshot."""


def credential_facts(
    credentials: pd.DataFrame,
    *,
    runs: pd.DataFrame,
    as_of: datetime,
    is_present: bool,
    memory: pd.DataFrame = NO_MEMORY,
    older_success: Mapping[str, datetime] | None = None,
) -> pd.DataFrame:
    """
    Return the credentials as they were at ``as_of``.

    Args:
        credentials: `CREDENTIAL_COLUMNS`, as the source has them now.
        runs: `RUN_COLUMNS`.
        as_of: the instant judged; aware.
        is_present: whether ``as_of`` is now, as far as the source's columns without a past are concerned.
        memory: `CREDENTIAL_MEMORY_COLUMNS`, of the snapshots up to ``as_of``.
        older_success: the newest completed run of credentials that have none in ``runs``, by credential id; aware.

    Returns:
        `CREDENTIAL_FACT_COLUMNS`, in the order given. ``error_since``: when our snapshots first saw it, which is ``as_of``
        where the newest of them saw none yet; where the first of them already shows the error, or there is none, the
        later of ``updated_at`` and ``last_connection_attempt`` if that is earlier. ``token_lifetime``: the longest of what
        was snapshotted, what remains now, and, of a present row whose ``updated_at`` ever moved, ``token_expires_at`` less
        the time it was last touched (the later of ``updated_at`` and ``last_connection_attempt``): each is a lower bound
        of how long its tokens last, and one of 0 or less says nothing.

    Raises:
        FrameError: a column is missing.
        ValueError: ``as_of`` is naive.
    """
    require_columns(credentials, CREDENTIAL_COLUMNS, name="credentials")
    require_columns(memory, CREDENTIAL_MEMORY_COLUMNS, name="memory")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    facts = credentials[list(CREDENTIAL_COLUMNS)].reset_index(drop=True)
    key = id_text(facts["credential_id"])
    remembered = memory.drop_duplicates("credential_id", keep="last").set_index("credential_id").reindex(key)
    remembered.index = facts.index
    is_known = key.isin(memory["credential_id"].astype(str)) & ~_flags(remembered["is_deleted"])
    if is_present:
        facts["is_recorded"] = True
    else:
        facts["is_recorded"] = is_known
        for column in ("connection_status", "token_expires_at", "has_client_id", "has_client_secret"):
            facts[column] = _like(remembered[column], facts[column])
        for column in ("last_connection_attempt", "updated_at"):
            facts[column] = facts[column].where(facts[column] <= pd.Timestamp(as_of))
    facts["error_since"] = _error_since(facts, remembered, as_of=as_of)
    facts["token_lifetime"] = _token_lifetime(facts, remembered, as_of=as_of, is_present=is_present)
    facts["last_success_at"] = _last_success(key, runs, as_of=as_of, older=older_success or {})
    return facts[list(CREDENTIAL_FACT_COLUMNS)]


def last_successes(runs: pd.DataFrame, *, as_of: datetime) -> pd.Series:
    """Return the newest ``completed_at`` up to ``as_of`` of each credential (id as text) that completed a run."""
    require_columns(runs, RUN_COLUMNS, name="runs")
    done = runs[(runs["status"] == "completed") & ~runs["is_cancelled"] & (runs["completed_at"] <= pd.Timestamp(as_of))]
    return done["completed_at"].groupby(id_text(done["credential_id"])).max()


def _error_since(facts: pd.DataFrame, remembered: pd.DataFrame, *, as_of: datetime) -> pd.Series:
    in_error = facts["is_recorded"] & (facts["connection_status"] == ERROR_STATUS)
    stamps = facts[["updated_at", "last_connection_attempt"]]
    stamps = stamps.where(stamps <= pd.Timestamp(as_of))
    told_by_source = stamps.max(axis=1)
    seen = _times(remembered["error_since"])
    # This run is the first to see it, and every later one will say so: were it the stamps' word now, a check that comes
    # second at the same instant, or the next tick, would judge by another beginning than this one.
    is_first_sight = in_error & remembered["connection_status"].notna() & seen.isna()
    seen = _times(seen.mask(is_first_sight, pd.Timestamp(as_of)))
    # Where the first snapshot already shows the error, it began earlier: the source's own stamps say when.
    from_start = seen.isna() | _flags(remembered["is_error_from_start"])
    earliest = pd.concat([seen, told_by_source], axis=1).min(axis=1)
    since = _times(seen.where(~from_start, earliest))
    return since.where(in_error)


def _token_lifetime(facts: pd.DataFrame, remembered: pd.DataFrame, *, as_of: datetime, is_present: bool) -> pd.Series:
    expires = facts["token_expires_at"]
    bounds = [_durations(remembered["token_lifetime"]), expires - pd.Timestamp(as_of)]
    if is_present:
        bounds.append(expires - _touched_at(facts))
    longest = _durations(pd.concat(bounds, axis=1).max(axis=1))
    # A token first seen when it had expired says nothing of how long it lasted.
    return longest.where(longest > pd.Timedelta(0))


def _touched_at(facts: pd.DataFrame) -> pd.Series:
    """
    Return when a row was last touched, which is no earlier than its token was issued; NaT where no stamp says so.

    A shape of the source fills ``updated_at`` with DEFAULT now() and never moves it: as long as it equals ``created_at``
    it says when the credential was made, not when it got its token. ``last_connection_attempt`` alone does not either: only
    a handshake sets it, and a token that is refreshed without one is younger than that.
    A stamp after the instant judged counts as any other: the token that is read is the one of that moment, refreshed between
    the instant and the read.
    """
    is_kept = facts["updated_at"].notna() & (facts["updated_at"] != facts["created_at"])
    return facts[["updated_at", "last_connection_attempt"]].max(axis=1).where(is_kept)


def _last_success(key: pd.Series, runs: pd.DataFrame, *, as_of: datetime, older: Mapping[str, datetime]) -> pd.Series:
    found = _times(key.map(last_successes(runs, as_of=as_of).to_dict()))
    return found.fillna(_times(key.map(dict(older)))) if older else found


def _times(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")


def _durations(values: pd.Series) -> pd.Series:
    # In microseconds throughout: nanoseconds end after 292 years, and a token may expire in the year 9999.
    if values.dtype.kind != "m":
        values = pd.to_timedelta(values)
    return values.astype("timedelta64[us]")


def _flags(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), other=False).astype(bool)


def _like(values: pd.Series, model: pd.Series) -> pd.Series:
    """Return remembered values in the type of the source's own column."""
    if isinstance(model.dtype, pd.DatetimeTZDtype):
        return _times(values)
    return _flags(values) if model.dtype == bool else values.astype(object).where(values.notna(), other="")
