"""Syncs that were started and never ended: upstream refuses a new one while such a row is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.durations import describe
from include.sync_health.failures import CREDENTIAL_REMOVED, iso_utc, observation_frame, utc_words
from include.sync_health.frames import RUN_COLUMNS, id_text, require_columns
from include.sync_health.rule_policies import StuckSyncPolicy
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

OPEN_STATUSES = ("pending", "running")
ENDED_STATUSES = ("completed", "failed", "cancelled")

SyncKey = tuple[str, str]
"""(credential id, sync id)."""


def judge_stuck_syncs(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: StuckSyncPolicy,
    as_of: datetime,
    open_lookback: timedelta,
    open_keys: Collection[SyncKey] = (),
    missing_sync_ids: Collection[str] = (),
) -> pd.DataFrame:
    """
    Judge the runs that were open at ``as_of``.

    BREACH: open for more than ``open_for`` since ``started_at`` (exactly that long is not stuck), high past
    ``high_after`` (None: never). A run that ended only after ``as_of`` was still open then, so that a late run sees what
    a timely one saw. For open alerts: CLEAR when the run has ended (`has_ended`), REMOVED when its row or credential is
    gone, EXPIRED when it has been open for longer than ``open_lookback``, which is as far back as runs are followed.

    Args:
        runs: `RUN_COLUMNS`; the open runs and those whose alert is open.
        subjects: who the credentials are.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_lookback: an open run started before ``as_of - open_lookback`` is abandoned.
        open_keys: (credential, sync) pairs whose alert is open.
        missing_sync_ids: ids that were asked for and have no row any more.

    Returns:
        `OBSERVATION_COLUMNS`: one row per stuck run and per open alert, ordered by (credential, sync) as text.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, RUN_COLUMNS, name="runs")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    now = pd.Timestamp(as_of)
    open_then = was_open(runs, as_of=as_of)
    age = now - runs["started_at"]
    abandoned = open_then & (age > open_lookback)
    stuck = open_then & ~abandoned & (age > policy.open_for)
    sync_text, credential_text = id_text(runs["sync_id"]), id_text(runs["credential_id"])
    pairs = pd.MultiIndex.from_arrays([credential_text, sync_text])
    alerted = pd.Series(pairs.isin(list(open_keys)), index=runs.index, dtype=bool)
    ended = has_ended(runs, as_of=as_of)
    kept = runs[stuck | alerted]

    rows = []
    told: set[SyncKey] = set()
    for index, run in zip(kept.index, kept.to_dict("records"), strict=True):
        key = (credential_text[index], sync_text[index])
        told.add(key)
        if key[0] not in subjects and not alerted[index]:
            continue  # its credential is gone: nobody to tell of
        subject = subjects.get(key[0]) or unknown_subject(key[0])
        row = _row(key, subject=subject, policy=policy)
        status = str(run["status"]) if str(run["status"]) in OPEN_STATUSES else "running"
        row |= {
            "data_type": str(run["data_type"]),
            "message": (
                f"ServiceTitan {run['data_type']} sync for {subject.label} ({subject.environment}) "
                f"has been {status} for {_age_words(age[index])}"
            ),
            "evidence": {"started_at": iso_utc(run["started_at"]), "open_seconds": _seconds(age[index])},
            "metadata": row["metadata"]
            | {"sync_id": key[1], "data_type": str(run["data_type"]), "started_at": iso_utc(run["started_at"])},
        }
        if key[0] not in subjects:
            row["verdict"] = Verdict.REMOVED
            row["reason"] = CREDENTIAL_REMOVED
        elif stuck[index]:
            row["verdict"] = Verdict.BREACH
            row["reason"] = f"open for more than {describe(policy.open_for)}"
            if policy.high_after is not None and age[index] > policy.high_after:
                row["severity"] = max(policy.severity, Severity.HIGH, key=lambda severity: severity.rank)
        elif abandoned[index]:
            row["verdict"] = Verdict.EXPIRED
            row["reason"] = f"open for longer than {describe(open_lookback)}, which is as far as runs are followed"
        elif ended[index]:
            row["verdict"] = Verdict.CLEAR
            row["reason"] = f"the run ended as {run['status']} at {utc_words(run['finished_at'])}"
        else:
            row["verdict"] = Verdict.BAND
            row["reason"] = (
                f"the run is {run['status']}, started at {utc_words(run['started_at'])}: not known to have ended"
            )
        rows.append(row)

    missing = set(missing_sync_ids)
    for key in sorted(set(open_keys) - told):
        subject = subjects.get(key[0]) or unknown_subject(key[0])
        gone = key[1] in missing
        rows.append(
            _row(key, subject=subject, policy=policy)
            | {
                "verdict": Verdict.REMOVED if gone else Verdict.NO_DATA,
                "reason": "the run's row was deleted upstream" if gone else "the run's row was not read",
            }
        )
    rows.sort(key=lambda row: (row["identity"]["credential"], row["identity"]["sync"]))
    return observation_frame(rows)


def was_open(runs: pd.DataFrame, *, as_of: datetime) -> pd.Series:
    """
    Return which runs were open at ``as_of``: started by then, and not finished by then.

    A run without ``finished_at`` counts only while its status says that it is open: a completed row that lacks
    its ``completed_at`` is a contradiction, not a stuck run.
    """
    now = pd.Timestamp(as_of)
    started = runs["started_at"] <= now
    unfinished = runs["finished_at"].isna() & runs["status"].isin(OPEN_STATUSES)
    return started & (unfinished | (runs["finished_at"] > now))


def has_ended(runs: pd.DataFrame, *, as_of: datetime) -> pd.Series:
    """
    Return which runs are known to have ended by ``as_of``: a status that says so, and an end that can be true.

    A row that still says running is no evidence, whatever its ``completed_at``; nor is an end before the start. A
    completed one that lacks its ``completed_at`` has ended all the same.
    """
    status_says_so = runs["status"].isin(ENDED_STATUSES) | runs["is_cancelled"]
    plausible = (runs["finished_at"] <= pd.Timestamp(as_of)) & (runs["finished_at"] >= runs["started_at"])
    undated = (runs["status"] == "completed") & runs["finished_at"].isna()
    return (status_says_so & plausible) | undated


def _age_words(age: Any) -> str:
    return "an unknown time" if pd.isna(age) else describe(age.to_pytimedelta())


def _seconds(age: Any) -> int | None:
    return None if pd.isna(age) else int(age.total_seconds())


def _row(key: SyncKey, *, subject: Subject, policy: StuckSyncPolicy) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "credential_id": key[0],
        "company_name": subject.company_name,
        "environment": subject.environment,
        "sync_id": key[1],
    }
    row: dict[str, Any] = {
        "rule": "stuck_sync",
        "identity": {"credential": key[0], "sync": key[1]},
        "severity": policy.severity,
        "credential_id": key[0],
        "company_id": subject.company_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
        "data_type": None,
        "title": "ServiceTitan Sync Stuck",
        "message": f"ServiceTitan sync {key[1]} for {subject.label} ({subject.environment}) is stuck",
        "metadata": metadata,
        "error_class": None,
        "cause": None,
        "evidence": {},
    }
    return row
