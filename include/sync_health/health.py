"""
The health check ``servicetitan_integration``: its statuses, its report, and what a stored one answers later.

What each part finds stands in a module of its own: `health_report` puts them together. Nothing heavy is imported here: a
web server answers by this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from include.sync_health.durations import describe
from include.sync_health.windows import CLOCK_SKEW

NAME = "servicetitan_integration"
"""The check's name, as the story has it."""

PARTS = ("credentials", "api_connectivity", "recent_syncs", "system_resources")
"""The parts of the report, in its order."""

STALE_INTERVALS = 2
"""A stored report is out of date when it is older than so many intervals of the run that stores it."""

OK, UNAVAILABLE = 200, 503
"""The HTTP statuses that load balancers and uptime monitors read."""


class HealthStatus(StrEnum):
    """
    How a part, or the whole, is; from best to worst.

    UNKNOWN, where we cannot see, ranks between WARNING and DEGRADED: nothing that works hides it, a warning neither, and it
    hides nothing that is known to be broken.
    """

    HEALTHY = "healthy"
    WARNING = "warning"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"

    @property
    def rank(self) -> int:
        """Its place from best, 0, to worst."""
        return _ORDER.index(self)

    @property
    def http_status(self) -> int:
        """`OK` for HEALTHY and WARNING, else `UNAVAILABLE`."""
        return OK if self in (HealthStatus.HEALTHY, HealthStatus.WARNING) else UNAVAILABLE


_ORDER = tuple(HealthStatus)


def worst_of(statuses: Iterable[HealthStatus]) -> HealthStatus:
    """Return the worst; UNKNOWN of none at all."""
    return max(statuses, key=lambda status: status.rank, default=HealthStatus.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPart:
    """
    One part of the report.

    Args:
        status: how it is, and what it counts as.
        reasons: why it is not healthy, what could not be seen, or what is not judged; one clause each, fit to be shown.
        details: what else the part tells, as JSON has it; fit to be shown.
        label: what the report says in place of the status, where that says more; None: the status.
    """

    status: HealthStatus
    reasons: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return ``{"status", ...details, "reasons"}``."""
        return {"status": self.label or str(self.status), **self.details, "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """
    What could not be looked at.

    Args:
        reason: why, in one clause that is fit to be shown.
    """

    reason: str

    @property
    def as_part(self) -> HealthPart:
        """The part that says so, and no more."""
        return HealthPart(status=HealthStatus.UNKNOWN, reasons=(self.reason,))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """
    The report, in the story's shape.

    Args:
        last_check: when it was made; aware.
        parts: by name, as `PARTS` has them.
        total_credentials: of the source; None where they could not be read.
        active_credentials: of them; None where they could not be read.
    """

    last_check: datetime
    parts: Mapping[str, HealthPart]
    total_credentials: int | None
    active_credentials: int | None

    @property
    def status(self) -> HealthStatus:
        """The worst of the parts'."""
        return worst_of(part.status for part in self.parts.values())

    def as_json(self) -> dict[str, Any]:
        """Return ``{"name", "status", "details": {part: {...}}, "metadata": {...}}``; times are ISO 8601."""
        return {
            "name": NAME,
            "status": str(self.status),
            "details": {name: part.as_json() for name, part in self.parts.items()},
            "metadata": {
                "last_check": self.last_check.isoformat(),
                "total_credentials": self.total_credentials,
                "active_credentials": self.active_credentials,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHealth:
    """
    A report that was stored.

    Args:
        as_of: the end of the window whose run made it; aware.
        status: of the whole.
        report: what `HealthReport.as_json` gave.
        every: how often such a report is made.
        computed_at: the wall clock when it was made; aware.
    """

    as_of: datetime
    status: HealthStatus
    report: Mapping[str, Any]
    every: timedelta
    computed_at: datetime


def health_answer(stored: StoredHealth | None, *, now: datetime) -> tuple[int, dict[str, Any]]:
    """
    Return the HTTP status and the body of an answer about the health, by the newest report that is stored.

    The body is the report with ``as_of`` (ISO 8601) and ``age_seconds`` (from ``as_of`` to ``now``, not below 0). One that is
    out of date says nothing of the present: then ``status`` is ``unknown``, ``stored_status`` is what it was, and
    ``reason`` says how old it is. Exactly `STALE_INTERVALS` intervals old is not out of date yet.

    Args:
        stored: the newest; None when there is none.
        now: the wall clock; aware.

    Returns:
        200 for healthy and warning; 503 for degraded, unhealthy, unknown, out of date and none.

    Raises:
        ValueError: ``now`` is naive.
    """
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    if stored is None:
        return UNAVAILABLE, {
            "name": NAME,
            "status": str(HealthStatus.UNKNOWN),
            "details": {},
            "metadata": {},
            "as_of": None,
            "age_seconds": None,
            "reason": "no health check is stored yet; the DAG servicetitan_sync_failures stores one every 15 minutes",
        }
    age = now - stored.as_of
    body = {
        **stored.report,
        "status": str(stored.status),
        "as_of": stored.as_of.isoformat(),
        "age_seconds": max(0, round(age.total_seconds())),
    }
    reason = _doubt(age, every=stored.every)
    if reason is None:
        return stored.status.http_status, body
    doubted = {"status": str(HealthStatus.UNKNOWN), "stored_status": str(stored.status), "reason": reason}
    return UNAVAILABLE, body | doubted


def _doubt(age: timedelta, *, every: timedelta) -> str | None:
    """Return why a stored report says nothing of the present, or None."""
    if age > STALE_INTERVALS * every:
        return (
            f"the last health check is {describe(age)} old, and one is due every {describe(every)}: "
            "does the DAG servicetitan_sync_failures run?"
        )
    if age < -CLOCK_SKEW:
        return f"the last health check lies {describe(-age)} in the future: was the clock set back?"
    return None
