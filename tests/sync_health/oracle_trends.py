"""The oracle's trends: a day's score against the same weekday before, and syncs that bring nothing; in exact fractions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from statistics import median
from zoneinfo import ZoneInfo

from tests.sync_health.oracle import Row, cancelled

Identity = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Day:
    """A stored day of a credential's data type."""

    day: date
    credential: str = "1"
    data_type: str = "invoices"
    processed: int = 1_000
    successful: int | None = 1_000  # None: the day has no score
    completed: int = 24
    is_final: bool = True
    is_vanished: bool = False


def midnight(day: date, zone: str) -> datetime:
    """When a day begins, to be compared with aware instants."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone))


def quality_drop(
    days: list[Day], *, as_of: datetime, read_at: datetime | None, zone: str = "UTC"
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of each key; ``read_at`` is when the day judged was read, None for never."""
    judged = as_of.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    is_whole = read_at is not None and read_at.timestamp() >= midnight(judged + timedelta(days=1), zone).timestamp()
    verdicts: dict[Identity, tuple[str, str]] = {}
    by_key: dict[Identity, dict[date, Day]] = defaultdict(dict)
    for each in days:
        by_key[(each.credential, each.data_type)][each.day] = each
    for key, mine in by_key.items():
        day = mine.get(judged)
        if not is_whole or day is None or day.successful is None or day.is_vanished:
            verdicts[key] = ("no_data", "medium")
            continue
        scores = []
        for weeks in range(1, 9):
            past = mine.get(judged - timedelta(days=7 * weeks))
            if past and past.is_final and past.successful is not None and past.processed >= 100:
                scores.append(Fraction(100 * past.successful, past.processed))
        if len(scores) < 4 or day.processed < 100:
            verdicts[key] = ("insufficient", "medium")
            continue
        usual = median(scores)
        spread = median([abs(score - usual) for score in scores])
        threshold = max(Fraction(5), 3 * Fraction("1.4826") * spread)
        drop = usual - Fraction(100 * day.successful, day.processed)
        verdict = "breach" if drop > threshold else "clear" if 2 * drop < threshold else "band"
        verdicts[key] = (verdict, "high" if verdict == "breach" and drop >= 25 else "medium")
    return verdicts


def empty_syncs(
    rows: list[Row], days: list[Day], *, as_of: datetime, zone: str = "UTC"
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of each key with a completed sync in 24 hours."""
    by_key: dict[Identity, list[int | None]] = defaultdict(list)
    for row in rows:
        if row.status != "completed" or cancelled(row) or row.completed_at is None:
            continue
        if as_of - timedelta(hours=24) < row.completed_at <= as_of:
            by_key[(str(row.credential), row.data_type)].append(row.records_processed)
    stored = {(each.credential, each.data_type, each.day): each for each in days}
    touched = set()
    for hours in range(24):
        touched.add((as_of - timedelta(hours=24) + timedelta(hours=hours)).astimezone(ZoneInfo(zone)).date())
    touched.add((as_of - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date())
    verdicts: dict[Identity, tuple[str, str]] = {}
    for key, counts in by_key.items():
        known = [count for count in counts if count is not None and count >= 0]
        if any(count > 0 for count in known):
            verdicts[key] = ("clear", "medium")
        elif not known:
            verdicts[key] = ("no_data", "medium")
        elif len(known) < len(counts) or len(counts) < 3:
            verdicts[key] = ("insufficient", "medium")
        else:
            used_to_come = []
            for day in touched:
                past = [stored.get((*key, day - timedelta(days=7 * weeks))) for weeks in range(1, 9)]
                ran = [each for each in past if each and each.is_final and each.completed > 0]
                with_records = [each for each in ran if each.processed > 0]
                used_to_come.append(len(ran) >= 4 and 4 * len(with_records) >= 3 * len(ran))
            verdicts[key] = ("breach" if all(used_to_come) else "insufficient", "medium")
    return verdicts
