"""
Values as PostgreSQL can store them: the one place that changes what it cannot.

PostgreSQL's ``text`` and ``jsonb`` hold neither NUL nor lone surrogates, and ``jsonb`` no NaN. Error messages of
foreign systems may hold any of them, and an alert must not be lost for it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What stands, one for one, where a character could not be stored."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED_NUL = "\\u0000"
_ODD_KEY = re.compile('[{,]"(?:true|false|null)":')
"""Keys that are True, False or None, which the encoder would write in JSON's words."""


def storable_text(text: str) -> str:
    """Return ``text`` with each NUL and each lone surrogate replaced by `REPLACEMENT`; all else is untouched."""
    given = str(text)
    # Nearly all texts are ASCII, which holds no surrogate; to look for the rest costs five times as much.
    return given if given.isascii() and "\0" not in given else _UNSTORABLE.sub(REPLACEMENT, given)


def storable(value: Any) -> Any:
    """
    Return ``value`` as JSON can hold it and PostgreSQL can store it.

    Texts and keys pass `storable_text`; mappings become dicts; tuples, lists and sets become lists (a set is
    sorted by text); NaN, the infinities and NaT become None; aware datetimes become ISO 8601 text in UTC; NumPy
    scalars become Python's; anything else becomes its text.

    Raises:
        ValueError: a naive datetime.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        # NaT calls itself a datetime and is the only one that is not equal to itself.
        return utc_text(value) if value == value else None
    if isinstance(value, Mapping):
        return {storable_text(key): storable(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((storable(item) for item in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [storable(item) for item in value]
    if callable(item := getattr(value, "item", None)):
        return storable(item())
    return storable_text(str(value))


def storable_json(value: Any) -> Jsonb:
    """
    Return `storable` of ``value`` as a parameter for a ``jsonb`` column.

    Raises:
        ValueError: as `storable` does.
    """
    return Jsonb(_json_of(value), dumps=str)


def utc_text(moment: datetime) -> str:
    """
    Return an aware moment as ISO 8601 in UTC, exact to the microsecond.

    Raises:
        ValueError: ``moment`` is naive.
    """
    return aware(moment).isoformat()


def aware(moment: datetime) -> datetime:
    """
    Return an aware moment in UTC.

    Raises:
        ValueError: ``moment`` is naive: it would be read in the session's time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} is naive; times that are stored must be aware")
    return moment.astimezone(UTC)


def stored_moment(value: datetime | None) -> datetime | None:
    """Return a ``timestamptz`` that was read, in UTC whatever the session's time zone; None stays None."""
    return value.astimezone(UTC) if value is not None else None


def _json_of(value: Any) -> str:
    """
    Return the JSON of `storable`.

    The encoder walks through a value faster than `storable`, and stops at numbers and keys that are none of JSON's. What it
    lets through and PostgreSQL would not can be seen in its text.
    """
    try:
        text = _dumps(value, default=storable)
    except (TypeError, ValueError):
        return _dumps(storable(value))
    holds_surrogates = not text.isascii() and _UNSTORABLE.search(text) is not None
    if holds_surrogates or _ESCAPED_NUL in text or _ODD_KEY.search(text):
        return _dumps(storable(value))
    return text


def _dumps(value: Any, *, default: Callable[[Any], Any] | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)
