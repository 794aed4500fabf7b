"""Rows of a frame for the database, with counts that may be unknown: whole numbers, and NULL where a frame has NaN."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from psycopg.types.json import Jsonb

from include.warehouse.stored_values import storable_json


def rows_with_counts(frame: pd.DataFrame, *, counts: Collection[str]) -> Jsonb:
    """
    Return the rows as a parameter for ``jsonb_populate_recordset``.

    Args:
        frame: any columns; NaN, NaT and None become NULL.
        counts: its columns of whole numbers that are float64, because some are unknown.
    """
    # As floats they would be written 10.0, which is no bigint.
    rows = frame.assign(**{name: frame[name].astype("Int64") for name in counts}).astype(object)
    return storable_json(rows.where(rows.notna(), None).to_dict("records"))
