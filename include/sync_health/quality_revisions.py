"""
Revisions: final days whose verdict is another one when they are computed again.

A day that is final was looked at by people; where late data makes it good that was poor, or the reverse, that is written
down for them. It is never an alert.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from include.sync_health.frames import require_columns
from include.sync_health.rule_policies import DataQualityPolicy

GOOD, FAIR, POOR, UNKNOWN, ABSENT = "good", "fair", "poor", "unknown", "absent"
"""Verdict words of a day; `ABSENT`: the day was final and had no such row, or has none any more."""

REVISION_KEY = ("day", "credential_id", "data_type")

JUDGED_NUMBERS = (
    "quality_score",  # float64, percent; NaN: none
    "records_processed",  # int64
    "records_failed",  # int64
    "syncs_total",  # int64; 0: there is no such row
    "calc_version",  # int64
)
"""What a verdict and its revision look at, of `DAILY_COLUMNS`."""

JUDGED_COLUMNS = (*REVISION_KEY, *JUDGED_NUMBERS)

REVISION_COLUMNS = (
    *REVISION_KEY,
    "verdict_before",  # str: one of the words
    "verdict_after",  # str: another one of the words; `ABSENT`: its syncs are of another key or day now, the numbers are 0
    "score_before",  # float64, percent; NaN: none
    "score_after",  # float64
    "processed_before",  # Int64, as are the other counts; NA where there was no row
    "processed_after",
    "failed_before",
    "failed_after",
    "syncs_before",
    "syncs_after",
    "version_before",
    "version_after",
)
"""One row per key whose verdict changed, in the order of ``after``."""

_WORDS = ("score", "processed", "failed", "syncs", "version")


def day_verdicts(frame: pd.DataFrame, *, policy: DataQualityPolicy) -> pd.Series:
    """
    Return a word for each row: how a whole day looks by the thresholds that single syncs are judged by.

    `UNKNOWN` without a score, or with ``min_records`` processed or fewer; `POOR` where more than ``breach_share`` percent
    of the records failed; `GOOD` where less than ``clear_share`` percent did; else `FAIR`. Compared in whole records,
    100 * failed with share * processed, so that a share at the limit is at the limit.

    Args:
        frame: ``quality_score``, ``records_processed``, ``records_failed`` of `JUDGED_COLUMNS`.
        policy: the thresholds.

    Returns:
        str, with the index of the frame.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(frame, ("quality_score", "records_processed", "records_failed"), name="days")
    processed, failed = (frame[name].to_numpy(np.float64) for name in ("records_processed", "records_failed"))
    unknown = frame["quality_score"].isna().to_numpy(bool) | ~(processed > policy.min_records)
    words = np.select(
        [unknown, 100 * failed > policy.breach_share * processed, 100 * failed < policy.clear_share * processed],
        [UNKNOWN, POOR, GOOD],
        default=FAIR,
    )
    return pd.Series(words.astype(object), index=frame.index, name="verdict", dtype=object)


def revisions(before: pd.DataFrame, after: pd.DataFrame, *, policy: DataQualityPolicy) -> pd.DataFrame:
    """
    Return `REVISION_COLUMNS`: the keys of final days whose verdict is not what it was.

    Both sides are judged by the same thresholds, so that a change of the policy revises nothing.

    Args:
        before: `JUDGED_COLUMNS` as they were; each key at most once. Keys that are not in ``after`` are no revision: what
            is gone from the source keeps its verdict.
        after: `JUDGED_COLUMNS` as they are now; each key at most once. Keys that are not in ``before`` were absent, and
            those without syncs are: their rows were removed.
        policy: the thresholds of this moment.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(before, JUDGED_COLUMNS, name="before")
    require_columns(after, JUDGED_COLUMNS, name="after")
    old, new = _judged(before, "before", policy=policy), _judged(after, "after", policy=policy)
    both = new.merge(old, on=list(REVISION_KEY), how="left", validate="one_to_one")
    both["verdict_before"] = both["verdict_before"].astype(object).where(both["verdict_before"].notna(), ABSENT)
    changed = both[both["verdict_before"] != both["verdict_after"]]
    return changed[list(REVISION_COLUMNS)].reset_index(drop=True)


def _judged(frame: pd.DataFrame, when: str, *, policy: DataQualityPolicy) -> pd.DataFrame:
    """Return keys, verdicts and numbers, named by when they were so."""
    judged = frame[list(REVISION_KEY)].astype(object)
    judged[f"verdict_{when}"] = day_verdicts(frame, policy=policy).where(frame["syncs_total"] != 0, ABSENT)
    for word, column in zip(_WORDS, JUDGED_NUMBERS, strict=True):
        judged[f"{word}_{when}"] = frame[column].astype(np.float64 if word == "score" else "Int64")
    return judged
