"""
Which source tells a measure of the ServiceTitan API, and how to switch one on where none does.

A measure that no source tells is unavailable, which is not 0. Sources may know of the same calls, so that one of them is
believed and their numbers are never added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from include.sync_health.api_calls import application_source


class ApiMeasure(StrEnum):
    """What can be known of API calls, and may not be."""

    CALLS = "calls"
    """How many there were, and how many failed."""
    RESPONSE_TIMES = "response_times"
    RATE_LIMITS = "rate_limits"
    """Incidents in which ServiceTitan refused for the rate."""
    CIRCUIT_OPENINGS = "circuit_openings"
    """Times that the application's circuit breaker opened."""


_TABLE = "create the table servicetitan_api_calls in the application's database"
_LOGS = "name the application's log files in api_calls.logs of the policy"
_PROBE = "add an Airflow connection servicetitan_<credential id> for our own probe"
_WHERE = "see docs/api-calls.md"

SWITCH_ON: Mapping[ApiMeasure, str] = MappingProxyType(
    {
        ApiMeasure.CALLS: f"No source of API calls is there: {_TABLE}, {_LOGS}, or {_PROBE}; {_WHERE}.",
        ApiMeasure.RESPONSE_TIMES: f"No source tells response times: {_TABLE}, or {_PROBE}; {_WHERE}.",
        ApiMeasure.RATE_LIMITS: f"No source tells of rate limits: {_TABLE}, or {_LOGS}; {_WHERE}.",
        ApiMeasure.CIRCUIT_OPENINGS: f"Only the application's log tells of circuit breakers: {_LOGS}; {_WHERE}.",
    }
)
"""The sentence that stands in place of an unavailable measure."""


def told_status(source: str, status: str, *, was_read: bool) -> str:
    """
    Return a source's status as figures take it: one that fails and never was read has told nothing, and is not there.

    Its place is another one's that has: a table without its GRANT must not hide what the log tells. Of our probe nothing
    is read, and what it was answered is counted.
    """
    return "unavailable" if status == "failing" and not was_read and source != "probe" else status


def source_of(measure: ApiMeasure, *, statuses: Mapping[str, str], timed: Mapping[str, bool]) -> str | None:
    """
    Return the source that is believed for a measure; None: it is unavailable.

    The application's own calls first (`application_source`). Our probe stands in for calls and response times where
    nothing else tells them: what it finds is true of the API, and small. It says nothing of the application's rate limits.
    Of circuit breakers the log alone tells. A source that fails now has told what it told: what is stored of it counts.

    Args:
        statuses: of the sources that are known, by `told_status`: ``available``, ``unavailable`` or ``failing``.
        timed: whether a source has response times.
    """
    there = {
        source: "available" if status in ("available", "failing") else status for source, status in statuses.items()
    }
    if measure is ApiMeasure.CIRCUIT_OPENINGS:
        return "log" if there.get("log") == "available" else None
    asked = timed if measure is ApiMeasure.RESPONSE_TIMES else None
    found = application_source(there, timed=asked)
    if found is not None or measure is ApiMeasure.RATE_LIMITS:
        return found
    has_probe = there.get("probe") == "available" and (asked is None or asked.get("probe", False))
    return "probe" if has_probe else None
