"""Rows of some days by day, credential and data type: their groups, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import DATA_TYPES, id_text

SPARSE = 16
"""With more possible keys per row than this, keys are sorted; otherwise counted."""

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DayGroups:
    """
    The rows by day, credential and data type.

    ``of_row`` holds each row's group; the others hold, for each of the ``count`` groups in the order of their keys as
    text, its place among the days, among ``credential_ids``, and among the data types by name.
    """

    count: int
    of_row: Places
    day: Places
    credential: Places
    data_type: Places
    credential_ids: Any

    @classmethod
    def of(cls, rows: pd.DataFrame, *, day: Places) -> DayGroups:
        codes, ids = _different(rows["credential_id"].to_numpy())
        texts = id_text(pd.Series(ids)).to_numpy(object)
        by_text = np.argsort(texts, kind="stable")
        rank = np.empty(len(texts), dtype=np.int64)
        rank[by_text] = np.arange(len(texts))
        by_name = np.array([sorted(DATA_TYPES).index(name) for name in DATA_TYPES], dtype=np.int64)
        data_type = rows["data_type"].cat.set_categories(DATA_TYPES).cat.codes.to_numpy(np.int64)
        keys = (day * max(len(texts), 1) + rank[codes]) * len(DATA_TYPES) + by_name[data_type]
        found, of_row = _numbered(keys)
        rest, kind = np.divmod(found, len(DATA_TYPES))
        group_day, credential = np.divmod(rest, max(len(texts), 1))
        return cls(len(found), of_row, group_day, credential, kind, texts[by_text])

    def number(self, flags: Flags) -> Places:
        """Return how many rows of each group are flagged."""
        return np.bincount(self.of_row[flags], minlength=self.count).astype(np.int64)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of each group: exact while whole numbers stay below 2**53."""
        return np.bincount(self.of_row, weights=values, minlength=self.count).astype(np.float64)


def _different(ids: NDArray[Any]) -> tuple[Places, NDArray[Any]]:
    """Return of each id the place of its own among the different ones, and those."""
    if ids.dtype.kind != "i" or not len(ids):
        codes, different = pd.factorize(ids)
        return codes.astype(np.int64), different
    lowest = ids.min()
    found, codes = _numbered(ids - lowest)
    return codes, found + lowest


def _numbered(keys: Places) -> tuple[Places, Places]:
    """Return the different keys in their order, and of each row the place of its own; keys are not negative."""
    size = int(keys.max()) + 1 if len(keys) else 0
    if size > SPARSE * len(keys):
        found, of_row = np.unique(keys, return_inverse=True)
        return found, of_row.ravel()
    # Counting needs no sort.
    is_there = np.zeros(size, dtype=bool)
    is_there[keys] = True
    place = np.cumsum(is_there) - 1
    return np.flatnonzero(is_there).astype(np.int64), place[keys]
