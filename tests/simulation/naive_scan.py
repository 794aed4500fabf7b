"""
The rule table of the design, read word by word over plain rows: slow, and nothing of it shared with the rules.

It judges the rows of `Fold` as they stand at an instant, with aware times, so no time zone comes between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from include.simulation.timeline import RowName, Table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CLASSES = {"server error: 503": "server", "Idle timeout": "timeout", "401 invalid_client": "auth"}

Breach = tuple[str, tuple[tuple[str, str], ...]]
"""Rule, and its identity as sorted pairs; ids are numbers as text."""


def breaches(rows: Mapping[RowName, Mapping[str, Any]], *, now: datetime, counts_records: bool = True) -> set[Breach]:
    """Return every breach that the rule table names at ``now``."""
    credentials = {number: row for (table, number), row in rows.items() if table is Table.CREDENTIAL}
    runs: dict[int, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for (table, number), row in rows.items():
        if table is Table.RUN and row["started_at"] <= now:
            runs[row["credential"]].append((number, row))
    found: set[Breach] = set()
    for number, credential in credentials.items():
        who = ("credential", str(number))
        own = runs[number]
        found |= {(rule, tuple(sorted([who, *more]))) for rule, more in _single(credential, own, now)}
        if counts_records:
            found |= {("data_quality", (who, ("data_type", data_type))) for data_type in _bad_quality(own, now)}
    production = {n: runs[n] for n, credential in credentials.items() if credential["environment"] == "production"}
    return found | _outages(production, now) | _silence(production, now)


def _is_cancelled(run: Mapping[str, Any]) -> bool:
    return run["status"] == "cancelled" or run["error_message"] == "Sync cancelled by user"


def _ended(own: list[tuple[int, Mapping[str, Any]]], since: datetime, now: datetime) -> list[Mapping[str, Any]]:
    """Return the finished runs, not cancelled, that ended in (since, now], in order."""
    ended = [
        (run["completed_at"], number, run)
        for number, run in own
        if run["status"] in ("completed", "failed") and not _is_cancelled(run) and run["completed_at"] is not None
        if since < run["completed_at"] <= now
    ]
    return [run for _, _, run in sorted(ended, key=lambda entry: entry[:2])]


def _single(
    credential: Mapping[str, Any], own: list[tuple[int, Mapping[str, Any]]], now: datetime
) -> list[tuple[str, list[tuple[str, str]]]]:
    found: list[tuple[str, list[tuple[str, str]]]] = []
    week = _ended(own, now - 7 * DAY, now)
    if sum(run["status"] == "failed" and run["completed_at"] > now - HOUR for run in week) >= 3:
        found.append(("sync_failures", []))
    for data_type in {run["data_type"] for run in week}:
        last = [run["status"] for run in week if run["data_type"] == data_type][-3:]
        if last == ["failed"] * 3:
            found.append(("consecutive_failures", [("data_type", data_type)]))
    for number, run in own:
        if run["status"] == "running" and now - run["started_at"] > HOUR:
            found.append(("stuck_sync", [("sync", str(number))]))
    if credential["connection_status"] not in ("active", "error"):
        return found
    ends = [run["completed_at"] for run in _ended(own, now - 400 * DAY, now) if run["status"] == "completed"]
    last_success = max(ends, default=None)
    if now - (last_success or credential["created_at"]) > 2 * DAY:
        found.append(("stale_sync", []))
    if credential["connection_status"] == "error" and (
        last_success is None or last_success <= credential["updated_at"]
    ):
        found.append(("connection_error", []))
    expires = credential["token_expires_at"]
    if expires is not None:
        is_long_lived = max(expires - credential["updated_at"], expires - now) >= DAY
        is_unused = last_success is None or last_success <= expires
        if (is_long_lived and expires - now <= 7 * DAY) or (
            not is_long_lived and now - expires > 2 * DAY and is_unused
        ):
            found.append(("token_expiry", []))
    return found


def _bad_quality(own: list[tuple[int, Mapping[str, Any]]], now: datetime) -> set[str]:
    return {
        run["data_type"]
        for run in _ended(own, now - DAY, now)
        if run["status"] == "completed" and run["records_processed"] > 10
        if 0 <= run["records_failed"] <= run["records_processed"]
        if run["records_failed"] / run["records_processed"] * 100 > 20
    }


def _outages(production: Mapping[int, list[tuple[int, Mapping[str, Any]]]], now: datetime) -> set[Breach]:
    ran = {number: ended for number, own in production.items() if (ended := _ended(own, now - HOUR, now))}
    found: set[Breach] = set()
    for words, error_class in CLASSES.items():
        failing = {n for n, ended in ran.items() if any(words in (run["error_message"] or "") for run in ended)}
        if len(failing) >= 3 and len(failing) / len(ran) >= 0.5:
            found.add(("platform_outage", (("environment", "production"), ("error_class", error_class))))
    return found


def _silence(production: Mapping[int, list[tuple[int, Mapping[str, Any]]]], now: datetime) -> set[Breach]:
    starts = [run["started_at"] for own in production.values() for _, run in own]
    if any(now - 2 * HOUR < at <= now for at in starts):
        return set()
    # Once it is open, only a start closes it: the busy hours are those before the silence.
    before = max((at for at in starts), default=now)
    busy = {int((before - at) / HOUR) for at in starts if before - DAY < at <= before}
    return {("no_syncs", (("environment", "production"),))} if len(busy) >= 20 else set()
