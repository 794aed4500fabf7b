"""What a credential's company was called on a day, and which environment it was of: as it was, not as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import CREDENTIAL_COLUMNS, id_text, require_columns

NAME_COLUMNS = (
    "credential_id",  # str
    "since",  # UTC; NaT: since ever
    "company_id",  # str or None
    "company_name",  # str or None
    "environment",  # str or None
)
"""One row per credential and change of its name; of a credential without any, the source's own columns speak."""

NAMED = ("company_id", "company_name", "environment")
UNKNOWN_ENVIRONMENT = "unknown"


def names_on(
    credential_ids: Sequence[str],
    *,
    credential: NDArray[np.int64],
    until: NDArray[np.datetime64],
    credentials: pd.DataFrame,
    names: pd.DataFrame | None,
) -> dict[str, NDArray[Any]]:
    """
    Return company id, company name and environment of credentials as they were right before given instants.

    What was recorded first holds for all the time before it too: nobody knows of any other.

    Args:
        credential_ids: different ids, as text.
        credential: of each row asked for, the position of its credential in ``credential_ids``.
        until: of each row, the instant, in UTC; what changed at it or later is not seen.
        credentials: `CREDENTIAL_COLUMNS`: how they are now, which holds where nothing was recorded.
        names: `NAME_COLUMNS`: what was recorded, in any order; None: nothing was.

    Returns:
        An object array for each of `NAMED`: str or None, ``unknown`` for an environment that nobody knows.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(credentials, CREDENTIAL_COLUMNS, name="credentials")
    place = pd.Index(credential_ids)
    known = _as_it_is(credentials)
    if names is not None:
        require_columns(names, NAME_COLUMNS, name="names")
        recorded = names[list(NAME_COLUMNS)].assign(since=names["since"].dt.tz_localize(None))
        known = pd.concat([known[~known["credential_id"].isin(recorded["credential_id"])], recorded], ignore_index=True)
    at = place.get_indexer(pd.Index(known["credential_id"]))
    known, at = known[at >= 0], at[at >= 0]
    since = known["since"].to_numpy("datetime64[us]")
    moments = np.unique(since[~np.isnat(since)])
    ranks = np.where(np.isnat(since), 0, 1 + np.searchsorted(moments, since))
    # A credential's first row holds since ever.
    order = np.lexsort((ranks, at))
    at, ranks = at[order], ranks[order].astype(np.int64)
    is_first = np.append(True, at[1:] != at[:-1])[: len(at)]
    width = len(moments) + 2
    keys = at * width + np.where(is_first, 0, ranks)
    wanted = credential * width + np.searchsorted(moments, until, side="left")
    found = np.searchsorted(keys, wanted, side="right") - 1
    is_known = (found >= 0) & (at[np.maximum(found, 0)] == credential) if len(at) else np.zeros(len(credential), bool)
    answer = {}
    for column in NAMED:
        values = known[column].to_numpy(object)[order]
        answer[column] = np.full(len(credential), None, dtype=object)
        answer[column][is_known] = values[found[is_known]]
    environment = answer["environment"]
    environment[pd.isna(environment)] = UNKNOWN_ENVIRONMENT
    return answer


def _as_it_is(credentials: pd.DataFrame) -> pd.DataFrame:
    """Return `NAME_COLUMNS` of the source's own rows, ``since`` without a zone."""

    def texts(values: pd.Series) -> pd.Series:
        return values.astype(object).where(values.notna(), None)

    now = pd.DataFrame(
        {
            "credential_id": id_text(credentials["credential_id"]).astype(object),
            "since": pd.Series(pd.NaT, index=credentials.index, dtype="datetime64[us]"),
            "company_id": texts(
                id_text(credentials["company_id"].convert_dtypes()).where(credentials["company_id"].notna())
            ),
            "company_name": texts(credentials["company_name"]),
            "environment": texts(credentials["environment"].astype(object)),
        }
    )
    return now.drop_duplicates("credential_id")
