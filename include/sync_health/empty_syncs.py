"""
Syncs that complete and bring nothing, where there used to be something on such a day.

Nothing fails, so no other rule sees it: a date cursor that stands still, or a scope that was taken away and answers with
empty lists. A count that is missing or negative is not zero: it proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.durations import describe
from include.sync_health.failures import (
    CREDENTIAL_REMOVED,
    DataTypeKey,
    iso_utc,
    observation_frame,
    utc_words,
    window_words,
)
from include.sync_health.frames import COUNT_COLUMNS, RUN_COLUMNS, id_text, require_columns
from include.sync_health.rule_policies import EmptySyncsPolicy
from include.sync_health.stored_days import StoredDays, days_touched, examples_of, positions_of, weekday_of
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Verdict


def judge_empty_syncs(
    runs: pd.DataFrame,
    *,
    stored: StoredDays,
    subjects: Mapping[str, Subject],
    policy: EmptySyncsPolicy,
    as_of: datetime,
    timezone: str,
    open_keys: Mapping[DataTypeKey, datetime | None],
) -> pd.DataFrame:
    """
    Judge, for each credential and data type, whether its completed syncs still bring records.

    By the syncs of (as_of - window, as_of]: CLEAR when one of them has records (the newest such is the evidence). BREACH
    when there are at least ``min_syncs``, all of which processed exactly 0, and records used to come: of the last
    ``weeks`` of the weekday of each day that the window touches, at least ``min_days`` are final and had a completed
    sync, and at least ``usual_share`` percent of those had records. NO_DATA when none completed, or the counts of all
    are unknown; INSUFFICIENT otherwise. An open alert whose credential has no row any more is REMOVED.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order; at least those completed within the window.
        stored: the days compared with.
        subjects: who the credentials are; others are not judged.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        timezone: the reporting time zone, an IANA name.
        open_keys: whose alerts are open, and when their last sync with records completed as far as they know (aware; to
            the second).

    Returns:
        `OBSERVATION_COLUMNS`, ordered by key: one row per key that breaches, and per open alert.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, (*RUN_COLUMNS, *COUNT_COLUMNS), name="runs")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    completed = runs[
        (runs["status"] == "completed").to_numpy()
        & ~runs["is_cancelled"].to_numpy(bool)
        & (runs["completed_at"] <= pd.Timestamp(as_of)).to_numpy()
    ]
    inside = completed[(completed["completed_at"] > pd.Timestamp(as_of - policy.window)).to_numpy()]
    # Candidates first, and their history and words after: nearly always there is none.
    keys = _with_open(_all_empty(inside, policy=policy), open_keys)
    seen = _seen(completed, inside, keys)
    usual = _usual(keys, stored, policy=policy, as_of=as_of, timezone=timezone)
    names = list(zip(keys["credential_id"], keys["data_type"], strict=True))
    rows = [
        _row(
            key,
            seen=seen[place],
            usual=[(day, int(counted[place]), int(had[place])) for day, counted, had in usual],
            subject=subjects.get(key[0]),
            policy=policy,
            as_of=as_of,
            known_last=open_keys.get(key),
        )
        for place, key in sorted(enumerate(names), key=lambda each: each[1])
        if key[0] in subjects or key in open_keys
    ]
    return observation_frame(row for row in rows if row["verdict"] is Verdict.BREACH or _key_of(row) in open_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """
    What the syncs of one key show.

    Args:
        total, empty: completed within the window, and those of them with 0 records.
        with_records: whether one of them has records.
        counted: whether the count of one of them is known.
        first_at: when the oldest of them completed; NaT without any.
        last_records_at, last_records: when the newest sync with records completed, of all that was read, and how many
            records it has; NaT and 0 without any.
    """

    total: int
    empty: int
    with_records: bool
    counted: bool
    first_at: Any
    last_records_at: Any
    last_records: int


def _all_empty(inside: pd.DataFrame, *, policy: EmptySyncsPolicy) -> pd.DataFrame:
    """Return the keys of which at least ``min_syncs`` completed, all of them with 0 records: credential_id, data_type."""
    # By the source's own keys: as text they would cost more than all the rest.
    credential, credentials = pd.factorize(inside["credential_id"])
    data_type = inside["data_type"].cat.codes.to_numpy(np.int64)
    width = len(inside["data_type"].cat.categories)
    code = credential.astype(np.int64) * width + data_type
    total = np.bincount(code, minlength=len(credentials) * width)
    empty = np.bincount(code[inside["records_processed"].to_numpy(np.float64) == 0], minlength=len(total))
    found = np.flatnonzero((total >= policy.min_syncs) & (total == empty))
    return pd.DataFrame(
        {
            "credential_id": id_text(pd.Series(credentials[found // width])).astype(object),
            "data_type": inside["data_type"].cat.categories.to_numpy(object)[found % width],
        }
    )


def _with_open(keys: pd.DataFrame, open_keys: Mapping[DataTypeKey, Any]) -> pd.DataFrame:
    opened = pd.DataFrame(list(open_keys), columns=["credential_id", "data_type"], dtype=object)
    return pd.concat([keys, opened], ignore_index=True).drop_duplicates(ignore_index=True)


def _seen(completed: pd.DataFrame, inside: pd.DataFrame, keys: pd.DataFrame) -> list[_Seen]:
    """Return what the completed syncs of each key show, in the order of ``keys``."""
    mine = _of_credentials(inside, keys)
    key = positions_of(mine, keys)
    mine, key = mine[key >= 0], key[key >= 0]
    records = mine["records_processed"].to_numpy(np.float64)

    def count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(key[which], minlength=len(keys))

    total, empty = count(np.full(len(key), True)), count(records == 0)
    with_records, counted = count(records > 0), count(records >= 0)
    first_at = mine["completed_at"].groupby(key).min().reindex(range(len(keys)))
    newest = _newest_with_records(completed, keys)
    return [
        _Seen(
            total=int(total[place]),
            empty=int(empty[place]),
            with_records=bool(with_records[place]),
            counted=bool(counted[place]),
            first_at=first_at.iloc[place],
            last_records_at=newest["completed_at"].iloc[place],
            last_records=0 if pd.isna(number := newest["records_processed"].iloc[place]) else int(number),
        )
        for place in range(len(keys))
    ]


def _newest_with_records(completed: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """Return completed_at and records_processed of each key's newest sync with records, by (completed_at, sync_id)."""
    mine = _of_credentials(completed, keys)
    mine = mine[(mine["records_processed"] > 0).to_numpy()]
    mine = mine.assign(key=positions_of(mine, keys))
    newest = mine.sort_values(["completed_at", "sync_id"], kind="stable").drop_duplicates("key", keep="last")
    return newest.set_index("key")[["completed_at", "records_processed"]].reindex(range(len(keys)))


def _of_credentials(runs: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the keys' credentials, their ids as text."""
    ids = pd.Series(runs["credential_id"].unique())
    wanted = ids[id_text(ids).isin(keys["credential_id"]).to_numpy(bool)]
    kept = runs[runs["credential_id"].isin(wanted).to_numpy()]
    return kept.assign(credential_id=id_text(kept["credential_id"]).astype(object))


def _usual(
    keys: pd.DataFrame, stored: StoredDays, *, policy: EmptySyncsPolicy, as_of: datetime, timezone: str
) -> list[tuple[date, NDArray[np.int64], NDArray[np.int64]]]:
    """Return, for each day that the window touches, how many example days each key has, and how many had records."""
    found = []
    for day in days_touched(policy.window, as_of=as_of, timezone=timezone):
        examples = examples_of(keys, stored.rows, day=day, weeks=policy.weeks)
        ran = examples.rows["syncs_completed"].to_numpy(np.int64) > 0
        had = ran & (examples.rows["records_processed"].to_numpy(np.int64) > 0)
        counts = (np.bincount(examples.key[which], minlength=len(keys)).astype(np.int64) for which in (ran, had))
        found.append((day, *counts))
    return found  # type: ignore[return-value]  # mypy takes the unpacked generator for one of any length


def _row(
    key: DataTypeKey,
    *,
    seen: _Seen,
    usual: list[tuple[date, int, int]],
    subject: Subject | None,
    policy: EmptySyncsPolicy,
    as_of: datetime,
    known_last: datetime | None,
) -> dict[str, Any]:
    credential, data_type = key
    known = subject or unknown_subject(credential)
    last = iso_utc(seen.last_records_at) or iso_utc(known_last)
    verdict, reason = _verdict(seen, usual=usual, policy=policy)
    if subject is None:
        verdict, reason = Verdict.REMOVED, CREDENTIAL_REMOVED
    since = seen.first_at if last is None else pd.Timestamp(last)
    age = window_words(policy.window) if pd.isna(since) else describe(as_of - since.to_pydatetime())
    return {
        "rule": "empty_syncs",
        "identity": {"credential": credential, "data_type": data_type},
        "verdict": verdict,
        "severity": policy.severity,
        "credential_id": credential,
        "company_id": known.company_id,
        "company_name": known.company_name,
        "environment": known.environment,
        "data_type": data_type,
        "title": "ServiceTitan Syncs Bring Nothing",
        "message": f"ServiceTitan {data_type} syncs for {known.label} ({known.environment}) have brought no records for "
        f"{age} ({seen.empty} in a row)",
        "metadata": {
            "credential_id": credential,
            "company_name": known.company_name,
            "environment": known.environment,
            "data_type": data_type,
            "empty_syncs": seen.empty,
            "last_records_at": last,
        },
        "error_class": None,
        "cause": None,
        "evidence": {
            "empty_syncs": seen.empty,
            "window_seconds": int(policy.window.total_seconds()),
            "last_records_at": last,
            "days_with_records": _usual_words(usual),
        },
        "reason": reason,
    }


def _verdict(seen: _Seen, *, usual: list[tuple[date, int, int]], policy: EmptySyncsPolicy) -> tuple[Verdict, str]:
    inside = window_words(policy.window)
    if seen.with_records:
        records = "1 record" if seen.last_records == 1 else f"{seen.last_records} records"
        return Verdict.CLEAR, f"the sync that completed at {utc_words(seen.last_records_at)} brought {records}"
    if not seen.total:
        return Verdict.NO_DATA, f"no sync completed in {inside}"
    if not seen.counted:
        return Verdict.NO_DATA, f"the record counts of the syncs that completed in {inside} are unknown"
    if seen.empty < seen.total:
        return Verdict.INSUFFICIENT, f"the record counts of {seen.total - seen.empty} of {seen.total} syncs are unknown"
    if seen.total < policy.min_syncs:
        return Verdict.INSUFFICIENT, f"{seen.total} empty syncs in {inside}, fewer than {policy.min_syncs}"
    for day, counted, had in usual:
        if counted < policy.min_days:
            return Verdict.INSUFFICIENT, (
                f"{counted} {weekday_of(day)}s with a sync to compare with, fewer than {policy.min_days}"
            )
        if 100 * had < policy.usual_share * counted:
            return Verdict.INSUFFICIENT, (
                f"records came on {had} of {counted} {weekday_of(day)}s with a sync, less than {policy.usual_share:g}%"
            )
    return Verdict.BREACH, (
        f"all {seen.empty} syncs that completed in {inside} brought none, although records came on {_usual_words(usual)}"
    )


def _usual_words(usual: list[tuple[date, int, int]]) -> str:
    return ", ".join(f"{had} of {counted} {weekday_of(day)}s" for day, counted, had in usual)


def _key_of(row: Mapping[str, Any]) -> DataTypeKey:
    return row["identity"]["credential"], row["identity"]["data_type"]
