"""
Syncs that completed and yet lost their records: the share of records that failed.

Only counts that can be true are judged: a sync with at most ``min_records`` records is too small to tell, and one whose
counts are missing, negative, larger than their whole, or beyond `COUNT_LIMIT` cannot be told. A run is placed by its
``completed_at``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.failures import CREDENTIAL_REMOVED, observation_frame, window_words
from include.sync_health.field_counts import COUNT_LIMIT
from include.sync_health.frames import COUNT_COLUMNS, RUN_COLUMNS, require_columns
from include.sync_health.rule_policies import DataQualityPolicy, QualityIdentity
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

NOT_IN_USE = "the credential is no longer in use"
SYNC_LEFT = "the sync left the window in which syncs are judged"

QualityKey = tuple[str, ...]
"""(credential id, data type), or (credential id, data type, sync id) with `QualityIdentity.SYNC`."""

KEY_NAMES = ("credential", "data_type", "sync")

_VERDICTS = (Verdict.NO_DATA, Verdict.CLEAR, Verdict.BAND, Verdict.BREACH)
_TELLING = (_VERDICTS.index(Verdict.BAND), _VERDICTS.index(Verdict.BREACH))


def judge_data_quality(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: DataQualityPolicy,
    as_of: datetime,
    open_keys: Collection[QualityKey] = (),
    active: Collection[str] | None = None,
    untold: Counter[Verdict] | None = None,
) -> pd.DataFrame:
    """
    Judge the completed runs of (as_of - window, as_of] by the share of their records that failed.

    A run is judged when it has more than ``min_records`` records and 0 <= failed <= processed <= `COUNT_LIMIT`. By data
    type: BREACH when one failed by more than ``breach_share`` percent, told by the worst of them (of equals the newest,
    by (completed_at, sync_id)), high when that one is past ``high_share``; else the newest run judged decides: below
    ``clear_share`` is CLEAR, the rest is BAND; NO_DATA when none can be judged. By sync: each run is BREACH or CLEAR by
    ``breach_share`` alone; an open alert whose run left the window is EXPIRED, one whose run cannot be judged any more
    is NO_DATA.
    An open alert whose credential has no row any more, or is not ``active``, is REMOVED; without an open alert such a
    credential is not judged.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order; at least those completed within the window.
        subjects: who the credentials are.
        policy: the thresholds, and what one alert speaks of.
        as_of: the instant to judge by; aware.
        open_keys: whose alerts are open; keys of the policy's identity.
        active: ids of the credentials to judge; None for all.
        untold: where given, keys that are CLEAR or NO_DATA have no row unless their credential has an open alert; they are
            added here by verdict. Ten thousand rows that change nothing cost more than all that decides them.

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
    wanted = subjects.keys() if active is None else subjects.keys() & {*active}
    by_sync = policy.identity is QualityIdentity.SYNC
    completed = _Completed.of(runs, policy=policy, as_of=as_of, wanted=wanted)
    groups = _Groups.of(completed, policy=policy)
    opened = {*open_keys}
    chosen = np.ones(len(groups.verdict), dtype=bool)
    if untold is not None:
        chosen = np.isin(groups.verdict, _TELLING) | groups.is_of(completed, {key[0] for key in opened})
        left_out = np.bincount(groups.verdict[~chosen & groups.is_judged], minlength=len(_VERDICTS))
        untold.update({verdict: int(left_out[place]) for place, verdict in enumerate(_VERDICTS) if left_out[place]})
    places = {groups.key(completed, place): place for place in np.flatnonzero(chosen).tolist()}
    candidates = {key for key, place in places.items() if groups.is_judged[place]}

    rows = []
    for key in sorted({*candidates, *opened}):
        credential = key[0]
        subject = subjects.get(credential) or unknown_subject(credential)
        place = places.get(key)
        sync = None if place is None else completed.sync_at(groups.spoken_of[place])
        row = _row(key, sync=sync, subject=subject, policy=policy)
        if place is not None and not by_sync:
            row["evidence"] |= groups.numbers(place, newest=completed.sync_at(groups.newest[place]), policy=policy)
        if credential not in subjects:
            row["verdict"], row["reason"] = Verdict.REMOVED, CREDENTIAL_REMOVED
        elif credential not in wanted:
            row["verdict"], row["reason"] = Verdict.REMOVED, NOT_IN_USE
        elif place is None and by_sync:
            row["verdict"], row["reason"] = Verdict.EXPIRED, SYNC_LEFT
        elif place is None or sync is None:
            row["verdict"] = Verdict.NO_DATA
            row["reason"] = (
                f"no sync completed in {window_words(policy.window)} with more than {policy.min_records} records "
                "and counts that can be true"
            )
        else:
            verdict = _VERDICTS[groups.verdict[place]]
            row["verdict"], row["reason"] = verdict, _reason(verdict, sync, policy=policy)
            if _is_high(verdict, sync, policy=policy):
                row["severity"] = max(policy.severity, Severity.HIGH, key=lambda severity: severity.rank)
        rows.append(row)
    return observation_frame(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sync:
    """The run that a key is told by; ``share`` is in percent."""

    sync: str
    completed_at: datetime
    processed: float
    failed: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Completed:
    """
    The completed runs of the window, oldest first by (completed_at, sync_id), column by column.

    Args:
        credentials, data_types: the different ones, as text.
        credential, data_type: of each run, its place among those.
        sync_id, completed_at, processed, failed: as in the source.
        share: percent of its records that failed; NaN where that cannot be judged.
        is_judged, is_contradicting: whether its counts can be judged; whether they cannot be true.
        is_bad: judged, and past ``breach_share``.
    """

    credentials: list[str]
    data_types: list[str]
    credential: NDArray[np.int64]
    data_type: NDArray[np.int64]
    sync_id: NDArray[Any]
    completed_at: NDArray[np.datetime64]
    processed: NDArray[np.float64]
    failed: NDArray[np.float64]
    share: NDArray[np.float64]
    is_judged: NDArray[np.bool_]
    is_contradicting: NDArray[np.bool_]
    is_bad: NDArray[np.bool_]

    @classmethod
    def of(
        cls, runs: pd.DataFrame, *, policy: DataQualityPolicy, as_of: datetime, wanted: Container[str]
    ) -> _Completed:
        ended = runs["completed_at"].to_numpy(dtype="datetime64[us]")
        inside = (ended > _moment(as_of - policy.window)) & (ended <= _moment(as_of))
        places = np.flatnonzero(
            inside & (runs["status"] == "completed").to_numpy(bool) & ~runs["is_cancelled"].to_numpy(bool)
        )
        credential, ids = pd.factorize(runs["credential_id"].to_numpy()[places])
        credentials = [str(each) for each in ids.tolist()]
        is_wanted = np.array([each in wanted for each in credentials], dtype=bool)[credential]
        places, credential = places[is_wanted], credential[is_wanted]
        sync_id = runs["sync_id"].to_numpy()[places]
        # Whole numbers are their own order; texts get one.
        rank = pd.factorize(sync_id, sort=True)[0] if sync_id.dtype == object else sync_id
        order = _in_order(ended[places], rank)
        places = places[order]
        data_type = runs["data_type"].astype("category").cat
        processed, failed = (
            runs[name].to_numpy(np.float64)[places] for name in ("records_processed", "records_failed")
        )
        # A comparison with NaN is False: a missing count contradicts nothing, and proves nothing.
        contradicting = (processed < 0) | (failed < 0) | (failed > processed)
        contradicting |= (processed > COUNT_LIMIT) | (failed > COUNT_LIMIT)
        judged = (processed > policy.min_records) & (failed >= 0) & ~contradicting
        return cls(
            credentials=credentials,
            data_types=[str(each) for each in data_type.categories],
            credential=credential[order],
            data_type=data_type.codes.to_numpy(np.int64)[places],
            sync_id=sync_id[order],
            completed_at=ended[places],
            processed=processed,
            failed=failed,
            share=100 * failed / np.where(judged, processed, np.nan),
            is_judged=judged,
            is_contradicting=contradicting,
            # Multiplied out: exactly the threshold must be the threshold, and a quotient may miss it by a bit.
            is_bad=judged & (100 * failed > policy.breach_share * processed),
        )

    def sync_at(self, place: int) -> _Sync | None:
        """Return the run at a place; None for none."""
        if place < 0:
            return None
        return _Sync(
            sync=str(self.sync_id[place]),
            completed_at=self.completed_at[place].item().replace(tzinfo=UTC),
            processed=float(self.processed[place]),
            failed=float(self.failed[place]),
            share=float(self.share[place]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """
    The keys of the completed runs, column by column.

    Args:
        of_run: of each run, the place of its key.
        example: of each key, one of its runs.
        newest: of each key, its newest run that can be judged; -1 without any.
        spoken_of: the worst run past the threshold (of equals the newest), else the newest; -1 without any.
        verdict: place in `_VERDICTS`.
        is_judged: whether the key is judged without an open alert; a sync that cannot be judged is not.
        judged, breaching, contradicting: of each key, how many runs.
        has_sync: whether a key is a sync.
    """

    of_run: NDArray[np.int64]
    example: NDArray[np.int64]
    newest: NDArray[np.int64]
    spoken_of: NDArray[np.int64]
    verdict: NDArray[np.int64]
    is_judged: NDArray[np.bool_]
    judged: NDArray[np.int64]
    breaching: NDArray[np.int64]
    contradicting: NDArray[np.int64]
    has_sync: bool

    @classmethod
    def of(cls, runs: _Completed, *, policy: DataQualityPolicy) -> _Groups:
        count = len(runs.credential)
        has_sync = policy.identity is QualityIdentity.SYNC
        of_run = np.arange(count)
        if not has_sync:
            of_run, _ = pd.factorize(runs.credential * max(1, len(runs.data_types)) + runs.data_type)
        size = int(of_run.max()) + 1 if count else 0
        example, newest, worst = np.zeros(size, np.int64), np.full(size, -1), np.full(size, -1)
        example[of_run] = np.arange(count)
        # Of several values for one place the last is kept: the newest, and the newest of the worst.
        judged, bad = np.flatnonzero(runs.is_judged), np.flatnonzero(runs.is_bad)
        newest[of_run[judged]] = judged
        bad = bad[np.argsort(runs.share[bad], kind="stable")]
        worst[of_run[bad]] = bad
        spoken_of = np.where(worst >= 0, worst, newest)
        verdict = np.full(size, _VERDICTS.index(Verdict.NO_DATA))
        at = spoken_of[spoken_of >= 0]
        is_clear = has_sync | (100 * runs.failed[at] < policy.clear_share * runs.processed[at])
        verdict[spoken_of >= 0] = np.where(is_clear, _VERDICTS.index(Verdict.CLEAR), _VERDICTS.index(Verdict.BAND))
        verdict[worst >= 0] = _VERDICTS.index(Verdict.BREACH)
        return cls(
            of_run=of_run,
            example=example,
            newest=newest,
            spoken_of=spoken_of,
            verdict=verdict,
            is_judged=spoken_of >= 0 if has_sync else np.ones(size, dtype=bool),
            judged=np.bincount(of_run[judged], minlength=size),
            breaching=np.bincount(of_run[bad], minlength=size),
            contradicting=np.bincount(of_run[runs.is_contradicting], minlength=size),
            has_sync=has_sync,
        )

    def key(self, runs: _Completed, place: int) -> QualityKey:
        """Return a key as the world knows it."""
        run = self.example[place]
        pair = (runs.credentials[runs.credential[run]], runs.data_types[runs.data_type[run]])
        return (*pair, str(runs.sync_id[run])) if self.has_sync else pair

    def is_of(self, runs: _Completed, credentials: Container[str]) -> NDArray[np.bool_]:
        """Return which keys are of some credentials."""
        is_one = np.array([each in credentials for each in runs.credentials], dtype=bool)
        return is_one[runs.credential[self.example]]

    def numbers(self, place: int, *, newest: _Sync | None, policy: DataQualityPolicy) -> dict[str, Any]:
        """Return the counts that the evidence of a data type holds."""
        return {
            "newest_percent": None if newest is None else round(newest.share, 1),
            "judged": int(self.judged[place]),
            "breaching": int(self.breaching[place]),
            "contradicting": int(self.contradicting[place]),
            "threshold_percent": policy.breach_share,
            "window_seconds": int(policy.window.total_seconds()),
        }


def _row(key: QualityKey, *, sync: _Sync | None, subject: Subject, policy: DataQualityPolicy) -> dict[str, Any]:
    """Return what is said whatever the verdict; ``sync`` is the run spoken of, None where none can be judged."""
    failed, processed = (None, None) if sync is None else (int(sync.failed), int(sync.processed))
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
            f"{sync.share:.1f}% ({failed} of {processed} records failed)"
        ),
        "metadata": {
            "credential_id": key[0],
            "sync_id": sync.sync if sync is not None else key[2] if len(key) > 2 else None,
            "company_name": subject.company_name,
            "environment": subject.environment,
            "data_type": key[1],
            "failure_rate": None if sync is None else sync.share,
            "failed_records": failed,
            "total_records": processed,
        },
        "error_class": None,
        "cause": None,
        "evidence": {
            "failed_percent": None if sync is None else round(sync.share, 1),
            "completed_at": None if sync is None else sync.completed_at.isoformat(timespec="seconds"),
        },
    }


def _reason(verdict: Verdict, sync: _Sync, *, policy: DataQualityPolicy) -> str:
    counts, percent = f"{int(sync.failed)} of {int(sync.processed)} records", f"{sync.share:.1f}%"
    if verdict is Verdict.BREACH:
        return f"{counts} failed ({percent}), the threshold is {policy.breach_share:g}%"
    if policy.identity is QualityIdentity.SYNC:
        return f"{counts} failed ({percent}), not more than {policy.breach_share:g}%"
    if verdict is Verdict.CLEAR:
        return f"{counts} of the newest sync failed ({percent}), less than {policy.clear_share:g}%"
    return (
        f"{counts} of the newest sync failed ({percent}), which is between "
        f"{policy.clear_share:g}% and {policy.breach_share:g}%"
    )


def _is_high(verdict: Verdict, sync: _Sync, *, policy: DataQualityPolicy) -> bool:
    if verdict is not Verdict.BREACH or policy.high_share is None:
        return False
    return 100 * sync.failed > policy.high_share * sync.processed


def _in_order(times: NDArray[np.datetime64], ranks: NDArray[Any]) -> NDArray[np.int64]:
    """Return the places by time and then rank; a reader's rows mostly come that way."""
    before, after = times[:-1], times[1:]
    if np.all((before < after) | ((before == after) & (ranks[:-1] < ranks[1:]))):
        return np.arange(len(times))
    order: NDArray[np.int64] = np.lexsort((ranks, times))
    return order


def _moment(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")
