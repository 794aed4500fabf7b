"""How many records failed in a field, as far as a sync's JSON tells, and the numbers and keys that such JSON has."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

DEPTH_LIMIT = 8
"""How deep one envelope, list or map may stand in another; what is deeper is counted as a problem, not read."""

COUNT_LIMIT = 2**31 - 1
"""The largest number of records that is believed: the source's counts are PostgreSQL's integer."""

Record = tuple[str, str]
"""A record's identity within a sync: the kind of its key (an index, an id), and the key."""

_INDEX_KEYS = (
    "index",
    "itemindex",
    "recordindex",
    "rowindex",
    "row",
    "rownumber",
    "record",
    "item",
    "position",
    "line",
)
_ID_KEYS = ("recordid", "itemid", "id", "uuid")
KEY_LIMIT = 64
"""Characters of a key, or of a record's name, that count."""


_MISSING_KEYS = ("missing", "missingcount", "null", "nulls", "nullcount", "empty", "emptycount")
_INVALID_KEYS = ("invalid", "invalidcount", "malformed")
_FAILED_KEYS = ("failed", "failures", "errors", "errorcount")

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_PLACE = re.compile(r"[0-9]{1,9}\Z")
_NUMBER = re.compile(r"[0-9]{1,10}\Z")


class TooDeep(Exception):
    """A document nests deeper than is read."""


class BadCount(Exception):
    """A number of records that cannot be: negative, broken, or beyond `COUNT_LIMIT`."""


@dataclass(slots=True)
class FieldCounts:
    """
    One field's failures.

    Args:
        records: those whose key is known, and whether each lacks the field.
        loose, loose_missing: entries without a key, each a record of its own.
        stated, stated_missing: as numbers.
    """

    records: dict[Record, bool] = field(default_factory=dict)
    loose: int = 0
    loose_missing: int = 0
    stated: int = 0
    stated_missing: int = 0

    @property
    def failures(self) -> int:
        """Records in which the field failed: those listed, or more if a number says so."""
        return min(max(len(self.records) + self.loose, self.stated), COUNT_LIMIT)

    @property
    def missing(self) -> int:
        """Of the failures, those in which it is missing."""
        listed = sum(self.records.values()) + self.loose_missing
        return min(max(listed, self.stated_missing), self.failures)

    def fail(self, record: Record | None, *, is_missing: bool) -> None:
        """Count a failure; of one record once, and as missing if anything says so."""
        if record is None:
            self.loose += 1
            self.loose_missing += is_missing
        else:
            self.records[record] = self.records.get(record, False) or is_missing

    def state(self, failures: int, missing: int) -> None:
        """Take in numbers: the larger hold."""
        self.stated, self.stated_missing = max(self.stated, failures), max(self.stated_missing, missing)

    def same_records(self, other: FieldCounts) -> None:
        """Take in another list's counts of this field: what has no key may be the same records, so the larger holds."""
        for record, is_missing in other.records.items():
            self.fail(record, is_missing=is_missing)
        self.loose, self.loose_missing = max(self.loose, other.loose), max(self.loose_missing, other.loose_missing)
        self.state(other.stated, other.stated_missing)

    def another_field(self, other: FieldCounts) -> None:
        """Take in another field's counts, so that these are of both: a record that failed in either."""
        for record, is_missing in other.records.items():
            self.fail(record, is_missing=is_missing)
        self.loose, self.loose_missing = self.loose + other.loose, self.loose_missing + other.loose_missing
        self.state(other.stated, other.stated_missing)


def parsed(text: str) -> Any:
    """
    Return a JSON text's value: NaN and infinities as None; numbers may be infinite, or of any length.

    Of equal keys the last holds, as for PostgreSQL's jsonb.

    Raises:
        ValueError: it is no JSON.
        TooDeep: it nests deeper than the parser goes.
    """
    try:
        try:
            return _DECODER.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:
            # A number of 5,000 digits is legal JSON, and more than int() takes.
            return _SLOW_DECODER.decode(text)
    except RecursionError:
        raise TooDeep from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 20 else math.inf


_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
_SLOW_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_whole)


def by_spelling(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by key in lower case without separators; of two spellings of one key, the first by name."""
    found = {_spelling(key): inner for key, inner in value.items()}
    if len(found) < len(value):
        found = {_spelling(key): value[key] for key in sorted(value, reverse=True)}
    return found


def _spelling(key: str) -> str:
    return _spelled(key[:KEY_LIMIT])


@lru_cache(maxsize=5_000)
def _spelled(key: str) -> str:
    return _SEPARATORS.sub("", key.lower())


def is_index_map(value: Any) -> bool:
    """Return whether it is an object, not empty, whose keys are all whole numbers: of items, by index."""
    return isinstance(value, dict) and bool(value) and all(map(_PLACE.match, value))


def count_of(value: Any) -> int | None:
    """
    Return a number of records, from 7, 7.0 or "7"; None for what is no number.

    Raises:
        BadCount: it is a number, but not one of records.
    """
    if isinstance(value, str) and _NUMBER.match(value):
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if not 0 <= value <= COUNT_LIMIT or value != int(value):
        raise BadCount
    return int(value)


def first_count(known: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first of these keys' values that is a number of records; see `count_of`."""
    return next((count for key in keys if (count := count_of(known.get(key))) is not None), None)


def field_numbers(value: Mapping[str, Any]) -> tuple[int, int] | None:
    """
    Return failures and missing from an object of a field's numbers, None where it has none.

    Either missing and invalid, which add up, or failed; else total less valid.

    Raises:
        BadCount: one of them cannot be.
    """
    known = by_spelling(value)
    missing, invalid, failed = (first_count(known, *keys) for keys in (_MISSING_KEYS, _INVALID_KEYS, _FAILED_KEYS))
    if missing is None and invalid is None and failed is None:
        total, valid = first_count(known, "total"), first_count(known, "valid")
        if total is None or valid is None:
            return None
        if valid > total:
            raise BadCount
        failed = total - valid
    return max((missing or 0) + (invalid or 0), failed or 0), missing or 0


def record_of(known: Mapping[str, Any]) -> Record | None:
    """Return the record that an entry, by `by_spelling`, is about; None where it does not say."""
    for kind, keys in (("index", _INDEX_KEYS), ("id", _ID_KEYS)):
        for key in keys:
            value = known.get(key)
            if isinstance(value, str) and 0 < len(value.strip()) <= KEY_LIMIT:
                text = value.strip()
                return kind, str(int(text)) if _NUMBER.match(text) else text
            if isinstance(value, float) and math.isfinite(value):
                value = int(value) if value.is_integer() else str(value)[:KEY_LIMIT]
                return kind, str(value)
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**KEY_LIMIT:
                return kind, str(value)
    return None
