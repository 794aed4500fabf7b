"""
Syncs that completed and yet lost their records: the share of records that failed.

Only counts that can be true are judged: a sync with at most ``min_records`` records is too small to tell, and one whose
counts are missing, negative, or larger than their whole cannot be told. A run is placed by its ``completed_at``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from include.sync_health.failures import CREDENTIAL_REMOVED, iso_utc, observation_frame, window_words
from include.sync_health.frames import COUNT_COLUMNS, RUN_COLUMNS, id_text, require_columns
from include.sync_health.policy import DataQualityPolicy, QualityIdentity
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

NOT_IN_USE = "the credential is no longer in use"
SYNC_LEFT = "the sync left the window in which syncs are judged"

QualityKey = tuple[str, ...]
"""(credential id, data type), or (credential id, data type, sync id) with `QualityIdentity.SYNC`."""

KEY_NAMES = ("credential", "data_type", "sync")


def judge_data_quality(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: DataQualityPolicy,
    as_of: datetime,
    open_keys: Collection[QualityKey] = (),
    active: Collection[str] | None = None,
) -> pd.DataFrame:
    """
    Judge the completed runs of (as_of - window, as_of] by the share of their records that failed.

    A run is judged when it has more than ``min_records`` records and 0 <= failed <= processed. By data type: BREACH when
    one failed by more than ``breach_share`` percent, told by the worst of them (of equals the newest, by (completed_at,
    sync_id)), high when that one is past ``high_share``; else the newest run judged decides: below ``clear_share`` is
    CLEAR, the rest is BAND; NO_DATA when none can be judged. By sync: each run is BREACH or CLEAR by ``breach_share``
    alone; an open alert whose run left the window is EXPIRED, one whose run cannot be judged any more is NO_DATA.
    An open alert whose credential has no row any more, or is not ``active``, is REMOVED; without an open alert such a
    credential is not judged.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order; at least those completed within the window.
        subjects: who the credentials are.
        policy: the thresholds, and what one alert speaks of.
        as_of: the instant to judge by; aware.
        open_keys: whose alerts are open; keys of the policy's identity.
        active: ids of the credentials to judge; None for all.

    Returns:
        `OBSERVATION_COLUMNS`, ordered by key: one row per data type (or sync) with a run to judge, per data type whose
        completed runs cannot be judged, and per open alert. ``failure_rate`` is in percent, not rounded.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, (*RUN_COLUMNS, *COUNT_COLUMNS), name="runs")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    completed = _completed(runs, policy=policy, as_of=as_of)
    wanted = {*subjects} if active is None else {*subjects} & {*active}
    completed = completed[completed["credential"].isin(wanted)]
    by_sync = policy.identity is QualityIdentity.SYNC
    names = list(KEY_NAMES if by_sync else KEY_NAMES[:2])
    judged = completed[completed["is_judged"]]
    spoken_of = judged if by_sync else _spoken_of(judged)
    found = _by_key(spoken_of, names)
    numbers = {} if by_sync else _numbers(completed, judged, policy=policy)
    seen = _by_key(completed, names) if by_sync else {}

    rows = []
    candidates = set(found) if by_sync else set(numbers)
    for key in sorted({*candidates, *open_keys}):
        credential = key[0]
        subject = subjects.get(credential) or unknown_subject(credential)
        sync = found.get(key)
        row = _row(key, sync=sync, subject=subject, policy=policy)
        row["evidence"] |= numbers.get(key, {})
        if credential not in subjects:
            row["verdict"], row["reason"] = Verdict.REMOVED, CREDENTIAL_REMOVED
        elif credential not in wanted:
            row["verdict"], row["reason"] = Verdict.REMOVED, NOT_IN_USE
        elif sync is None and by_sync and key not in seen:
            row["verdict"], row["reason"] = Verdict.EXPIRED, SYNC_LEFT
        elif sync is None:
            row["verdict"] = Verdict.NO_DATA
            row["reason"] = (
                f"no sync completed in {window_words(policy.window)} with more than {policy.min_records} records "
                "and counts that can be true"
            )
        elif sync["is_bad"]:
            row["verdict"] = Verdict.BREACH
            row["reason"] = (
                f"{_counts_words(sync)} failed ({_percent(sync)}), the threshold is {policy.breach_share:g}%"
            )
            if policy.high_share is not None and 100 * sync["failed"] > policy.high_share * sync["processed"]:
                row["severity"] = max(policy.severity, Severity.HIGH, key=lambda severity: severity.rank)
        elif by_sync:
            row["verdict"] = Verdict.CLEAR
            row["reason"] = f"{_counts_words(sync)} failed ({_percent(sync)}), not more than {policy.breach_share:g}%"
        elif 100 * sync["failed"] < policy.clear_share * sync["processed"]:
            row["verdict"] = Verdict.CLEAR
            row["reason"] = (
                f"{_counts_words(sync)} of the newest sync failed ({_percent(sync)}), less than {policy.clear_share:g}%"
            )
        else:
            row["verdict"] = Verdict.BAND
            row["reason"] = (
                f"{_counts_words(sync)} of the newest sync failed ({_percent(sync)}), which is between "
                f"{policy.clear_share:g}% and {policy.breach_share:g}%"
            )
        rows.append(row)
    return observation_frame(rows)


def _completed(runs: pd.DataFrame, *, policy: DataQualityPolicy, as_of: datetime) -> pd.DataFrame:
    """
    Return the completed runs of the window, oldest first by (completed_at, sync_id).

    credential (str), data_type (str), sync (str), sync_id, completed_at, processed, failed (float64), is_judged,
    is_contradicting, is_bad (bool; past ``breach_share``), share (float64; percent of what is judged, else NaN).
    """
    inside = (runs["completed_at"] > pd.Timestamp(as_of - policy.window)) & (
        runs["completed_at"] <= pd.Timestamp(as_of)
    )
    kept = runs[inside & (runs["status"] == "completed") & ~runs["is_cancelled"]]
    processed, failed = kept["records_processed"].astype("float64"), kept["records_failed"].astype("float64")
    # A comparison with NaN is False: a missing count contradicts nothing, and proves nothing.
    contradicting = (processed < 0) | (failed < 0) | (failed > processed)
    judged = (processed > policy.min_records) & (failed >= 0) & ~contradicting & np.isfinite(processed)
    return pd.DataFrame(
        {
            "credential": id_text(kept["credential_id"]),
            "data_type": kept["data_type"].astype(str),
            "sync": id_text(kept["sync_id"]),
            "sync_id": kept["sync_id"],
            "completed_at": kept["completed_at"],
            "processed": processed,
            "failed": failed,
            "is_judged": judged,
            "is_contradicting": contradicting,
            # Multiplied out: exactly the threshold must be the threshold, and a quotient may miss it by a bit.
            "is_bad": judged & (100 * failed > policy.breach_share * processed),
            "share": (100 * failed / processed.where(judged)),
        }
    ).sort_values(["completed_at", "sync_id"], kind="stable", ignore_index=True)


def _spoken_of(judged: pd.DataFrame) -> pd.DataFrame:
    """Return, per data type, the worst run past the threshold, else the newest; ``judged`` is oldest first."""
    key = list(KEY_NAMES[:2])
    # Sorted by badness alone, and stably, the last of a key is the newest among the worst.
    weight = judged["share"].where(judged["is_bad"], -1.0)
    order = weight.sort_values(kind="stable").index
    return judged.loc[order].drop_duplicates(key, keep="last")


def _numbers(completed: pd.DataFrame, judged: pd.DataFrame, *, policy: DataQualityPolicy) -> dict[Any, dict[str, Any]]:
    """Return, per data type, the counts that the evidence holds."""
    key = list(KEY_NAMES[:2])
    totals = completed.groupby(key)[["is_judged", "is_bad", "is_contradicting"]].sum()
    newest = judged.drop_duplicates(key, keep="last").set_index(key)["share"].to_dict()
    return {
        pair: {
            "newest_percent": None if pair not in newest else round(float(newest[pair]), 1),
            "judged": int(count),
            "breaching": int(bad),
            "contradicting": int(contradicting),
            "threshold_percent": policy.breach_share,
            "window_seconds": int(policy.window.total_seconds()),
        }
        for pair, count, bad, contradicting in zip(
            totals.index, totals["is_judged"], totals["is_bad"], totals["is_contradicting"], strict=True
        )
    }


def _by_key(frame: pd.DataFrame, names: list[str]) -> dict[Any, dict[Any, Any]]:
    keys = zip(*(frame[name] for name in names), strict=True)
    return dict(zip(keys, frame.to_dict("records"), strict=True))


def _row(
    key: QualityKey, *, sync: dict[Any, Any] | None, subject: Subject, policy: DataQualityPolicy
) -> dict[str, Any]:
    """Return what is said whatever the verdict; ``sync`` is the run spoken of, None where none can be judged."""
    failed, processed = (None, None) if sync is None else (int(sync["failed"]), int(sync["processed"]))
    return {
        "rule": "data_quality",
        "identity": dict(zip(KEY_NAMES, key, strict=False)),
        "severity": policy.severity,
        "credential_id": key[0],
        "company_id": subject.company_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
        "data_type": key[1],
        "title": "ServiceTitan Data Quality Issues",
        "message": (
            f"ServiceTitan sync for {subject.label} has no records to judge"
            if sync is None
            else f"ServiceTitan sync for {subject.label} has high failure rate: "
            f"{sync['share']:.1f}% ({failed} of {processed} records failed)"
        ),
        "metadata": {
            "credential_id": key[0],
            "sync_id": sync["sync"] if sync is not None else key[2] if len(key) > 2 else None,
            "company_name": subject.company_name,
            "environment": subject.environment,
            "data_type": key[1],
            "failure_rate": None if sync is None else float(sync["share"]),
            "failed_records": failed,
            "total_records": processed,
        },
        "error_class": None,
        "cause": None,
        "evidence": {
            "failed_percent": None if sync is None else round(float(sync["share"]), 1),
            "completed_at": None if sync is None else iso_utc(sync["completed_at"]),
        },
    }


def _counts_words(sync: Mapping[Any, Any]) -> str:
    return f"{int(sync['failed'])} of {int(sync['processed'])} records"


def _percent(sync: Mapping[Any, Any]) -> str:
    return f"{sync['share']:.1f}%"
