"""Of which syncs the records are unknown, as the stored days tell it, and the sentence that stands in place of a number."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from include.sync_health.record_counts import OUTCOMES, unavailable_sentence
from include.warehouse.metric_emissions import newest_counts

# What the ledger does not say, the day's own rows do: records, of which of no credential any succeeded or failed.
_WITHOUT_OUTCOMES = """
    SELECT asked.day FROM unnest(%s::date[]) AS asked (day) LEFT JOIN monitoring.quality_day AS ledger USING (day)
    WHERE NOT coalesce(
        ledger.tells_outcomes,
        EXISTS (
            SELECT FROM monitoring.quality_daily AS daily
            WHERE daily.day = asked.day AND (daily.records_successful <> 0 OR daily.records_failed <> 0)
        ) OR NOT EXISTS (
            SELECT FROM monitoring.quality_daily AS daily WHERE daily.day = asked.day AND daily.records_processed <> 0
        )
    )
"""


def judged_syncs(conn: psycopg.Connection[Any], sums: pd.DataFrame) -> pd.DataFrame:
    """
    Return of each row of `read_day_sums` its ``day``, ``ended`` (completed and failed syncs), ``judged`` (those of which is known
    whether records failed) and ``clean`` (of these, those that completed with no failed record); whole float64.

    One shape of the source counts what was processed alone, and its days have 0 for the rest. One statement where there are
    days on which nothing succeeded or failed, else none.

    Raises:
        psycopg.Error: see `storage_errors`.
    """
    number = {
        name: sums[name].to_numpy(np.float64) for name in ("syncs_completed", "syncs_failed", "syncs_clean", *OUTCOMES)
    }
    ended = number["syncs_completed"] + number["syncs_failed"]
    told = sums["day"][(number["records_successful"] != 0) | (number["records_failed"] != 0)]
    doubtful = sorted(set(sums["day"][ended > 0]) - set(told))
    is_known = ~sums["day"].isin(_without_outcomes(conn, doubtful)).to_numpy(bool)
    return pd.DataFrame(
        {
            "day": sums["day"],
            "ended": ended,
            "judged": np.where(is_known, ended, 0.0),
            "clean": np.where(is_known, number["syncs_clean"], 0.0),
        }
    )


def why_unavailable(
    conn: psycopg.Connection[Any], *, ended: int, counted: int, judged: int, of_days: bool = False
) -> str | None:
    """
    Return the sentence that says of how many syncs the records are unknown, and what to do; None where all are known.

    One statement, and none where all are known. The arguments are those of `unavailable_sentence`.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    if counted == judged == ended:
        return None
    newest = newest_counts(conn)
    return unavailable_sentence(ended=ended, counted=counted, judged=judged, newest=newest, of_days=of_days)


def _without_outcomes(conn: psycopg.Connection[Any], days: Sequence[date]) -> list[date]:
    return [day for (day,) in conn.execute(_WITHOUT_OUTCOMES, (list(days),))] if days else []
