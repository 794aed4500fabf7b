"""The oracle's rules over a whole environment: an outage of the platform, and its silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tests.sync_health.oracle import Row, outcomes
from tests.sync_health.oracle_credentials import Credential

Identity = tuple[str, ...]
CLASSES = ("auth", "permission", "rate_limit", "timeout", "server", "decode", "validation")
"""Every class of error that many credentials can share; an unknown one and a cancellation are none."""


def platform_outage(
    rows: list[Row], credentials: Iterable[Credential], *, as_of: datetime, class_of: Callable[[str | None], str]
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of (production, class) for every class: how many of those that ran failed with it."""
    production = {each.id for each in credentials if each.environment == "production"}
    hour = [
        row
        for _, _, _, row in outcomes(rows, after=as_of - timedelta(hours=1), until=as_of)
        if row.credential in production
    ]
    ran = len({row.credential for row in hour})
    verdicts = {}
    for error_class in CLASSES:
        failing = len(
            {row.credential for row in hour if row.status == "failed" and class_of(row.error_message) == error_class}
        )
        if ran == 0:
            verdict = "no_data"
        elif ran < 3:
            verdict = "insufficient"
        elif failing * 2 >= ran and failing >= 3:
            verdict = "breach"
        elif failing * 4 < ran:
            verdict = "clear"
        else:
            verdict = "band"
        verdicts[("production", error_class)] = (verdict, "critical")
    return verdicts


def no_syncs(
    rows: Iterable[Row], credentials: Iterable[Credential], *, as_of: datetime
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of production: no start for 2 hours although 20 of the 24 hours before had one."""
    production = {each.id for each in credentials if each.environment == "production"}
    starts = [row.started_at for row in rows if row.credential in production and row.started_at <= as_of]
    silent_from = as_of - timedelta(hours=2)
    busy = 0
    for number in range(24):
        hour_ends = silent_from - timedelta(hours=number)
        if any(hour_ends - timedelta(hours=1) < start <= hour_ends for start in starts):
            busy += 1
    if any(start > silent_from for start in starts):
        verdict = "clear"
    else:
        verdict = "breach" if busy >= 20 else "insufficient"
    return {("production",): (verdict, "high")}
