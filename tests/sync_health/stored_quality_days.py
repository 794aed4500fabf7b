"""Rows of daily quality as they are stored, made up."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.field_quality import REQUIRED_FIELDS
from include.sync_health.proportions import percent_with_interval

UNKNOWN_TO_THE_FIRST = (
    "syncs_empty",
    "syncs_timed",
    *(name for name in DAILY_COLUMNS if name.startswith("failed_")),
    "syncs_with_detail",
    "records_with_detail",
    "missing_required",
    "completeness",
)


def day_row(
    day: date,
    *,
    n: int = 0,
    credential: str = "7",
    data_type: str = "invoices",
    processed: int = 20,
    successful: int = 15,
    scored: bool = True,
    timed: int = 2,
    average: float = 1.5,
    p95: float = 2.0,
    with_detail: int = 0,
    old: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Return a row, ``n`` days after ``day``; ``old``: of the first definition."""
    part, whole = np.array([successful]), np.array([processed if scored else 0])
    score, low, high = (float(each[0]) for each in percent_with_interval(part, whole))
    required = len(REQUIRED_FIELDS.get(data_type, ()))
    records, missing = 10 * with_detail, min(with_detail, 10 * with_detail * required)
    row = {
        **dict.fromkeys(DAILY_COLUMNS, 0),
        "day": day + timedelta(days=n),
        "credential_id": credential,
        "data_type": data_type,
        "company_id": "3",
        "company_name": "Acme",
        "environment": "production",
        "syncs_total": timed + 3,
        "syncs_completed": timed + 1,
        "syncs_clean": timed,
        "syncs_partial": 1,
        "syncs_failed": 2,
        "failed_server": 1,
        "failed_unknown": 1,
        "records_processed": processed,
        "records_successful": successful,
        "records_failed": max(processed - successful, 0),
        "quality_score": score,
        "score_low": low,
        "score_high": high,
        "duration_avg_seconds": average if timed else np.nan,
        "duration_p95_seconds": p95 if timed else np.nan,
        "syncs_timed": timed,
        "syncs_with_detail": with_detail,
        "records_with_detail": records,
        "missing_required": missing,
        "completeness": 100 * (1 - missing / (records * required)) if records * required else np.nan,
        "is_final": True,
        "calc_version": 1 if old else 2,
        **changes,
    }
    return row | (dict.fromkeys(UNKNOWN_TO_THE_FIRST, np.nan) if old else {})


def days_frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows as the frame that they are read as."""
    frame = pd.DataFrame(rows, columns=list(DAILY_COLUMNS))
    return frame.astype({"is_final": bool, **dict.fromkeys(UNKNOWN_TO_THE_FIRST, np.float64)})


def random_days(seed: int, *, first: date = date(2025, 12, 20), days: int = 24, keys: int = 3) -> pd.DataFrame:
    """Return days over the year's end: gaps, days without a score, without durations, of both definitions."""
    chance = random.Random(seed)  # noqa: S311 -- made-up data
    rows = [
        day_row(
            first,
            n=number,
            credential=str(key),
            data_type=data_type,
            processed=(processed := chance.choice([0, 1, 7, 1_000, 3_000_000_000])),
            successful=chance.choice([processed, 0, chance.randint(0, processed)]),
            scored=chance.random() > 0.2,
            timed=chance.choice([0, 1, 5]),
            average=chance.uniform(0.1, 500),
            p95=chance.uniform(0.1, 900),
            with_detail=chance.choice([0, 0, 2]),
            old=chance.random() < 0.2,
            is_final=chance.random() < 0.7,
        )
        for number in range(days)
        for key in range(keys)
        for data_type in ("both", "customers", "invoices")
        if chance.random() < 0.35
    ]
    return days_frame(*rows or [day_row(first)])
