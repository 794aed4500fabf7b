"""
A day whose records failed more often than usual: its score against the same weekday of the weeks before.

What counts is the whole day as it is stored. A credential that has always lost a tenth of its records is no news here;
one that never did, and does since Monday, is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.failures import CREDENTIAL_REMOVED, DataTypeKey, observation_frame
from include.sync_health.rule_policies import QualityDropPolicy
from include.sync_health.stored_days import (
    StoredDays,
    examples_of,
    judged_day,
    key_names,
    positions_of,
    weekday_of,
    weeks_before,
)
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

MAD_TO_DEVIATION = 1.4826
"""
Median absolute deviation to standard deviation, for normally distributed values: 1 / (the 75 % quantile of the standard
normal distribution), to four places (P. J. Rousseeuw and C. Croux, "Alternatives to the Median Absolute Deviation",
J. Am. Stat. Assoc. 88, 1993, p. 1273). A deviation that a few odd days do not move.
"""

NOISE_POINTS = 1e-9
"""Scores are quotients in floating point: a difference below this is none, so that the threshold itself is no breach."""


def judge_quality_drop(
    stored: StoredDays,
    *,
    subjects: Mapping[str, Subject],
    policy: QualityDropPolicy,
    as_of: datetime,
    timezone: str,
    open_keys: Collection[DataTypeKey] = (),
) -> pd.DataFrame:
    """
    Judge the score of the last whole day, key by key, by the same weekday's last final days.

    The day is the one before that of ``as_of`` in the reporting time zone. Its examples are the days exactly 1 to
    ``weeks`` weeks before it that are final and have a score and at least ``min_records`` records. With their median as
    the usual, drop = usual - score, and threshold = max(``min_drop``, ``spread`` * 1.4826 * median absolute deviation):
    BREACH when the drop is more than the threshold, high from ``high_drop``; CLEAR when it is less than ``clear_share``
    percent of it; BAND between. Fewer than ``min_days`` examples, or fewer than ``min_records`` records on the day:
    INSUFFICIENT. No score of that day (a row whose syncs are gone from the source has none), or a day that was not read
    after its end: NO_DATA. An open alert whose credential has no row any more is REMOVED.

    Args:
        stored: the day and its examples.
        subjects: who the credentials are; others are not judged.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        timezone: the reporting time zone, an IANA name.
        open_keys: whose alerts are open.

    Returns:
        `OBSERVATION_COLUMNS`, ordered by key: one row per key that breaches or lies between, and per open alert.
        Scores and points in ``metadata`` are not rounded.

    Raises:
        ValueError: ``as_of`` is naive.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    day = judged_day(as_of, timezone=timezone)
    is_whole = stored.computed_whole(day, timezone=timezone)
    measured = measured_days(stored.rows, day=day, policy=policy, always=open_keys) if is_whole else {}
    nothing = (
        f"no quality score of {_day_words(day)} is stored"
        if is_whole
        else f"{_day_words(day)} has not been computed since it ended"
    )
    return observation_frame(
        _row(
            key,
            day=day,
            found=measured.get(key),
            subject=subjects.get(key[0]),
            policy=policy,
            nothing=nothing,
        )
        for key in sorted({*(key for key in measured if key[0] in subjects), *open_keys})
    )


def measured_days(
    rows: pd.DataFrame, *, day: date, policy: QualityDropPolicy, always: Collection[DataTypeKey] = ()
) -> Mapping[DataTypeKey, Mapping[str, Any]]:
    """
    Return what a day's score is measured by, of each key that has one and is neither clear nor insufficient.

    Args:
        rows: `include.sync_health.stored_days.STORED_COLUMNS`.
        day: the day judged.
        policy: the thresholds.
        always: keys to return whatever their verdict.

    Returns:
        By (credential id, data type): verdict (a `Verdict`), score, processed, usual, mad, drop, threshold (percent and
        points, float; NaN where there is no example) and weeks (which examples there are: 1 is the week before).
    """
    of_day = rows[
        (rows["day"].to_numpy("datetime64[s]") == np.datetime64(day, "s"))
        & ~rows["is_vanished"].to_numpy(bool)
        & rows["quality_score"].notna().to_numpy()
    ]
    examples = examples_of(of_day, rows, day=day, weeks=policy.weeks)
    score = examples.rows["quality_score"].to_numpy(np.float64)
    counts = ~np.isnan(score) & (examples.rows["records_processed"].to_numpy(np.int64) >= policy.min_records)
    scores = np.full((len(of_day), policy.weeks), np.nan)
    scores[examples.key[counts], examples.week[counts] - 1] = score[counts]

    mine = of_day["quality_score"].to_numpy(np.float64)
    processed = of_day["records_processed"].to_numpy(np.int64)
    usual = _row_medians(scores)
    mad = _row_medians(np.abs(scores - usual[:, None]))
    drop = usual - mine
    threshold = np.maximum(policy.min_drop, policy.spread * MAD_TO_DEVIATION * mad)
    has_few = (np.isfinite(scores).sum(axis=1) < policy.min_days) | (processed < policy.min_records)
    verdict = np.select(
        [
            has_few,
            drop > threshold + NOISE_POINTS,
            drop < policy.clear_share / 100 * threshold - NOISE_POINTS,
        ],
        [str(Verdict.INSUFFICIENT), str(Verdict.BREACH), str(Verdict.CLEAR)],
        str(Verdict.BAND),
    )
    # Decided for everybody at once; put into numbers and words only where somebody may hear of it.
    opened = pd.DataFrame(list(always), columns=["credential_id", "data_type"], dtype=object)
    matters = np.flatnonzero(
        np.isin(verdict, [str(Verdict.BREACH), str(Verdict.BAND)]) | (positions_of(of_day, opened) >= 0)
    )
    keys = of_day.iloc[matters]
    return {
        key: {
            "verdict": Verdict(verdict[place]),
            "score": float(mine[place]),
            "processed": int(processed[place]),
            "usual": float(usual[place]),
            "mad": float(mad[place]),
            "drop": float(drop[place]),
            "threshold": float(threshold[place]),
            "weeks": tuple(int(week) + 1 for week in np.flatnonzero(np.isfinite(scores[place]))),
        }
        for place, key in zip(matters, key_names(keys), strict=True)
    }


def _row_medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's median, NaN left out; of an even number the mean of the middle two; NaN for a row of NaN."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    row = np.arange(len(values))
    low, high = ordered[row, np.maximum(count - 1, 0) // 2], ordered[row, np.minimum(count // 2, values.shape[1] - 1)]
    medians: NDArray[np.float64] = (low + high) / 2
    return medians


def _row(
    key: DataTypeKey,
    *,
    day: date,
    found: Mapping[str, Any] | None,
    subject: Subject | None,
    policy: QualityDropPolicy,
    nothing: str,
) -> dict[str, Any]:
    credential, data_type = key
    known = subject or unknown_subject(credential)
    compared = () if found is None else _example_days(day, found["weeks"], weeks=policy.weeks)
    verdict, reason = _verdict(found, day=day, compared=compared, policy=policy, nothing=nothing)
    if subject is None:
        verdict, reason = Verdict.REMOVED, CREDENTIAL_REMOVED
    is_high = (
        verdict is Verdict.BREACH
        and found is not None
        and policy.high_drop is not None
        and found["drop"] >= policy.high_drop - NOISE_POINTS
    )
    return {
        "rule": "quality_drop",
        "identity": {"credential": credential, "data_type": data_type},
        "verdict": verdict,
        "severity": max(policy.severity, Severity.HIGH, key=lambda each: each.rank) if is_high else policy.severity,
        "credential_id": credential,
        "company_id": known.company_id,
        "company_name": known.company_name,
        "environment": known.environment,
        "data_type": data_type,
        "title": "ServiceTitan Data Quality Drop",
        "message": f"ServiceTitan {data_type} quality for {known.label} ({known.environment}) "
        + _drop_words(found, day=day),
        "metadata": {
            "credential_id": credential,
            "company_name": known.company_name,
            "environment": known.environment,
            "data_type": data_type,
            "day": day.isoformat(),
            "score": None if found is None else found["score"],
            "usual_score": None if found is None else _known(found["usual"]),
            "drop_points": None if found is None else _known(found["drop"]),
            "records_processed": None if found is None else found["processed"],
        },
        "error_class": None,
        "cause": None,
        "evidence": {} if found is None else _evidence(found, day=day, compared=compared),
        "reason": reason,
    }


def _verdict(
    found: Mapping[str, Any] | None, *, day: date, compared: Collection[date], policy: QualityDropPolicy, nothing: str
) -> tuple[Verdict, str]:
    if found is None:
        return Verdict.NO_DATA, nothing
    verdict: Verdict = found["verdict"]
    if verdict is Verdict.INSUFFICIENT:
        if found["processed"] < policy.min_records:
            return verdict, f"{found['processed']} records on {_day_words(day)}, fewer than {policy.min_records}"
        return verdict, f"{len(compared)} days to compare with, fewer than {policy.min_days}"
    clear = policy.clear_share / 100 * found["threshold"]
    measure = {
        Verdict.BREACH: f"more than {found['threshold']:.1f}",
        Verdict.CLEAR: f"less than {clear:.1f}",
        Verdict.BAND: f"between {clear:.1f} and {found['threshold']:.1f}",
    }[verdict]
    side = "above" if found["drop"] < 0 else "below"
    return verdict, (
        f"{found['score']:.1f}% on {_day_words(day)} is {abs(found['drop']):.1f} points {side} the median of "
        f"{len(compared)} {weekday_of(day)}s, {found['usual']:.1f}%: {measure}"
    )


def _drop_words(found: Mapping[str, Any] | None, *, day: date) -> str:
    if found is None or found["verdict"] is Verdict.INSUFFICIENT:
        return f"cannot be compared on {_day_words(day)}"
    if found["verdict"] is Verdict.CLEAR:
        return f"was {found['score']:.1f}% on {_day_words(day)}, its usual is {found['usual']:.1f}%"
    return (
        f"dropped to {found['score']:.1f}% on {_day_words(day)}, {found['drop']:.1f} points below its usual "
        f"{found['usual']:.1f}%"
    )


def _evidence(found: Mapping[str, Any], *, day: date, compared: Iterable[date]) -> dict[str, Any]:
    """Return the numbers that messages show, rounded; the sentence has the rest."""
    return {
        "day": day.isoformat(),
        "score_percent": round(found["score"], 1),
        "records_processed": found["processed"],
        "usual_percent": _known(round(found["usual"], 1)),
        "drop_points": _known(round(found["drop"], 1)),
        "threshold_points": _known(round(found["threshold"], 1)),
        "mad_points": _known(round(found["mad"], 2)),
        "days_compared": ", ".join(each.isoformat() for each in compared),
    }


def _example_days(day: date, found: Collection[int], *, weeks: int) -> tuple[date, ...]:
    return tuple(each for number, each in enumerate(weeks_before(day, weeks=weeks), start=1) if number in found)


def _day_words(day: date) -> str:
    return f"{weekday_of(day)} {day.isoformat()}"


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
