"""What a credential's company was called on a day, and which environment it was of: as it was, not as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
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


@dataclass(frozen=True, slots=True)
class CompanyNames:
    """
    What is known of credentials' names, made once for many days: use `of` and `on`.

    ``place`` has each credential's number by its id as text. The arrays are by that number and then by ``rank``: 0 for a
    credential's first row, which holds since ever, else the place of its instant among the ``moments``, counted from 1.
    Their last row is that of every credential that nobody knows.
    """

    place: Mapping[str, int]
    moments: NDArray[np.datetime64]
    number: NDArray[np.int64]
    rank: NDArray[np.int64]
    values: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, credentials: pd.DataFrame, recorded: pd.DataFrame | None = None) -> CompanyNames:
        """
        Return what is known of credentials.

        Args:
            credentials: `CREDENTIAL_COLUMNS`: how they are now, which holds where nothing was recorded.
            recorded: `NAME_COLUMNS`: what was recorded, in any order; None: nothing was.

        Raises:
            FrameError: a column is missing.
        """
        require_columns(credentials, CREDENTIAL_COLUMNS, name="credentials")
        known = _as_it_is(credentials)
        if recorded is not None:
            require_columns(recorded, NAME_COLUMNS, name="recorded")
            past = recorded[list(NAME_COLUMNS)].assign(since=recorded["since"].dt.tz_localize(None))
            known = pd.concat([known[~known["credential_id"].isin(past["credential_id"])], past], ignore_index=True)
        number, ids = pd.factorize(known["credential_id"].to_numpy(object))
        since = known["since"].to_numpy("datetime64[us]")
        moments = np.unique(since[~np.isnat(since)])
        rank = np.where(np.isnat(since), 0, 1 + np.searchsorted(moments, since))
        order = np.lexsort((rank, number))
        number, rank = number[order].astype(np.int64), rank[order].astype(np.int64)
        is_first = np.append(True, number[1:] != number[:-1])[: len(number)]
        nobody = np.array([None], dtype=object)
        values = {column: np.concatenate([known[column].to_numpy(object)[order], nobody]) for column in NAMED}
        environment = values["environment"]
        environment[pd.isna(environment)] = UNKNOWN_ENVIRONMENT
        return cls(
            place={str(each): position for position, each in enumerate(ids)},
            moments=moments,
            number=np.append(number, len(ids)),
            rank=np.append(np.where(is_first, 0, rank), 0),
            values=values,
        )

    def on(
        self, credential_ids: Sequence[str], *, credential: NDArray[np.int64], until: NDArray[np.datetime64]
    ) -> dict[str, NDArray[Any]]:
        """
        Return company id, company name and environment of credentials as they were right before given instants.

        What was recorded first holds for all the time before it too: nobody knows of any other.

        Args:
            credential_ids: different ids, as text.
            credential: of each row asked for, the position of its credential in ``credential_ids``.
            until: of each row, the instant, in UTC; what changed at it or later is not seen.

        Returns:
            An object array for each of `NAMED`: str or None, ``unknown`` for an environment that nobody knows.
        """
        unknown = len(self.place)
        places = np.fromiter(map(self.place.get, credential_ids, repeat(unknown)), np.int64, len(credential_ids))
        width = len(self.moments) + 2
        # The last row of the credential whose rank is none of a later instant; of an unknown one, the row behind the last.
        keys = places[credential] * width + np.searchsorted(self.moments, until, side="left")
        found = np.searchsorted(self.number * width + self.rank, keys, side="right") - 1
        return {column: self.values[column].take(found) for column in NAMED}


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
