"""
What the figures of dashboards share: the range of time, what is asked for, and ratios that may be unknown.

The figures themselves stand in `sync_figures`, `credential_figures`, `api_figures` and `quality_figures`, each over our own
schema alone. docs/figures.md has a table of them with their definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from psycopg import sql

from include.sync_health.company_names import UNKNOWN_ENVIRONMENT
from include.sync_health.errors import RequestError


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return part / whole; None without a whole, or where one of them is unknown: never 0, and never an error."""
    return None if part is None or not whole else part / whole


def percent(part: float | None, whole: float | None) -> float | None:
    """Return 100 * part / whole; None as `ratio` has it."""
    return None if part is None or not whole else 100 * part / whole


def require_hours(start: datetime, end: datetime) -> None:
    """
    Refuse a range of hours that is none.

    Raises:
        RequestError: an instant is naive, or ``end`` is not after ``start``.
    """
    for name, instant in (("start", start), ("end", end)):
        if instant.tzinfo is None:
            raise RequestError(f"{name}: {instant.isoformat()} has no time zone; add one, such as +00:00")
    if end <= start:
        raise RequestError(f"end: {end.isoformat()} is not after start, {start.isoformat()}; give a later one")


def require_days(first: date, last: date) -> None:
    """
    Refuse a range of days that is none.

    Raises:
        RequestError: ``last`` is before ``first``.
    """
    if last < first:
        raise RequestError(f"last: {last.isoformat()} is before first, {first.isoformat()}; give a later one")


def conditions(asked: Mapping[str, Any], *, prefix: str = "") -> tuple[sql.Composable, dict[str, Any]]:
    """
    Return ``AND column = value`` for each thing asked for, and its parameters; nothing for what is None.

    Only what is asked for stands in the statement, so that a plan can use the index of each.

    Args:
        asked: value by column; an environment of `UNKNOWN_ENVIRONMENT` is also one that nobody recorded.
        prefix: the table's alias, where the statement has several.
    """
    parts: list[sql.Composable] = []
    for column in (name for name, value in asked.items() if value is not None):
        name = sql.Identifier(prefix, column) if prefix else sql.Identifier(column)
        parts.append(sql.SQL(" AND {} = {}").format(name, sql.Placeholder(column)))
        if column == "environment" and asked[column] == UNKNOWN_ENVIRONMENT:
            parts[-1] = sql.SQL(" AND ({0} = {1} OR {0} IS NULL)").format(name, sql.Placeholder(column))
    return sql.Composed(parts), {name: value for name, value in asked.items() if value is not None}
