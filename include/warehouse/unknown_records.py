"""Of which syncs the records are unknown, as the stored days tell it, and the sentence that stands in place of a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import psycopg
from numpy.typing import NDArray

from include.sync_health.record_counts import RECORDS, unavailable_sentence
from include.warehouse.metric_emissions import newest_counts

_TELLING = ("syncs_completed", "syncs_failed", "syncs_clean", "syncs_partial", *RECORDS)


def outcomes_are_unknown(sums: pd.DataFrame) -> NDArray[np.bool_]:
    """
    Return of which rows of `read_day_sums` nobody knows how many records succeeded and failed.

    One shape of the source counts what was processed alone, and its days have 0 for the rest: records, of which none succeeded
    and none failed, and completed syncs that are neither clean nor partial.
    """
    number = {name: sums[name].to_numpy(np.float64) for name in _TELLING}
    tells_none = (number["records_successful"] == 0) & (number["records_failed"] == 0)
    unclear = number["syncs_clean"] + number["syncs_partial"] < number["syncs_completed"]
    found: NDArray[np.bool_] = (number["records_processed"] != 0) & tells_none & unclear
    return found


def judged_syncs(sums: pd.DataFrame) -> pd.DataFrame:
    """
    Return of each row of `read_day_sums` its ``day``, ``ended`` (completed and failed syncs), ``judged`` (those of which is known
    whether records failed) and ``clean`` (of these, those that completed with no failed record); whole float64.
    """
    number = {name: sums[name].to_numpy(np.float64) for name in _TELLING}
    ended, is_known = number["syncs_completed"] + number["syncs_failed"], ~outcomes_are_unknown(sums)
    return pd.DataFrame(
        {
            "day": sums["day"],
            "ended": ended,
            "judged": np.where(is_known, ended, 0.0),
            "clean": np.where(is_known, number["syncs_clean"], 0.0),
        }
    )


def why_unavailable(conn: psycopg.Connection[Any], *, ended: int, counted: int, judged: int) -> str | None:
    """
    Return the sentence that says of how many syncs the records are unknown, and what to do; None where all are known.

    One statement, and none where all are known. The arguments are those of `unavailable_sentence`.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    if counted == judged == ended:
        return None
    newest = newest_counts(conn)
    return unavailable_sentence(ended=ended, counted=counted, judged=judged, unread=newest.unread if newest else None)
