"""
The details of a delivery (`alerts.Delivery.details`) as messages read them: whatever is missing or odd is None or empty.

Read are, all of them optional:

    DIGEST, SILENCE_ENDED, UNSUPPRESSED
        kept_back_by  list   of "silenced", "muted", "budget" and "inhibited"
        topics        list   silences' ids, mutes' names, or the budget's days
        silences      list   of maps with ``author`` and ``reason``
        since         str    when it was first kept back; ISO 8601, aware
    DIGEST, SILENCE_ENDED
        kept_back     int    episodes
        rules         map    episodes that were kept back, by rule
        spent         map    messages that spent the budget, by rule
    CATCH_UP
        missed        int    episodes
        from, until   str    the gap; ISO 8601, aware
    ESCALATED
        was           str    the severity that was told before; or a map from fingerprint to it
    REOPENED
        closed_before str    when the episode before closed; ISO 8601, aware; or a map from fingerprint to it
    HEARTBEAT
        checks        map    when each check last completed; ISO 8601, aware
        open          int    alerts that are open
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from include.sync_health.message_parts import LINE, SHORT, person
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

Details = Mapping[str, Any]


def words(details: Details, key: str) -> list[str]:
    """Return a list of texts, cleaned, without empty ones."""
    value = details.get(key)
    found = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return [cleaned for each in found if isinstance(each, str) and (cleaned := clean(each, limit=SHORT))]


def silences(details: Details) -> list[tuple[str, str]]:
    """Return who asked for each silence, and why; cleaned, "" for what is not told."""
    value = details.get("silences")
    return [
        (person(_given(each, "author")), clean(_given(each, "reason"), limit=LINE))
        for each in (value if isinstance(value, list | tuple) else [])
        if isinstance(each, Mapping)
    ]


def count(details: Details, key: str) -> int | None:
    """Return a number of things."""
    value = details.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def instant(details: Details, key: str) -> datetime | None:
    """Return an aware instant."""
    return _instant(details.get(key))


def counts(details: Details, key: str) -> Mapping[str, int]:
    """Return how many there are by name, the most first; names are cleaned."""
    value = details.get(key)
    if not isinstance(value, Mapping):
        return {}
    found = [(str(name), count(value, name)) for name in value]
    ranked = sorted(((name, number) for name, number in found if number), key=lambda item: (-item[1], item[0]))
    return {clean(name, limit=SHORT) or "?": number for name, number in ranked}


def instants(details: Details, key: str) -> Mapping[str, datetime]:
    """Return instants by name, in the order of the names, which are cleaned."""
    value = details.get(key)
    if not isinstance(value, Mapping):
        return {}
    found = {clean(str(name), limit=SHORT) or "?": _instant(value[name]) for name in sorted(value, key=str)}
    return {name: each for name, each in found.items() if each is not None}


def severity_before(details: Details, fingerprint: str) -> Severity | None:
    """Return the severity that was told before an escalation."""
    value = _of_alert(details.get("was"), fingerprint)
    return Severity(value) if isinstance(value, str) and value in set(Severity) else None


def closed_before(details: Details, fingerprint: str) -> datetime | None:
    """Return when the episode before closed."""
    return _instant(_of_alert(details.get("closed_before"), fingerprint))


def _given(values: Details, key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _of_alert(value: Any, fingerprint: str) -> Any:
    return value.get(fingerprint) if isinstance(value, Mapping) else value


def _instant(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else None
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else None
