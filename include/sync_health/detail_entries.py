"""The entries of one list or map of errors in a sync's JSON: which record failed in which field, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from include.sync_health.field_counts import (
    DEPTH_LIMIT,
    BadCount,
    FieldCounts,
    Record,
    by_spelling,
    field_numbers,
    is_index_map,
    record_of,
)
from include.sync_health.field_names import OTHER, field_named, known_field
from include.sync_health.validation_messages import fields_in, says_missing

FIELD_KEYS = ("field", "fieldname", "property", "propertypath", "path", "attribute", "column", "parameter")
"""Under which an entry has its field's name, in lower case without separators."""

_REASON_KEYS = ("message", "error", "reason", "msg", "detail", "description", "title")
_CODE_KEYS = ("code", "rule", "constraint", "type")
_INNER_KEYS = ("errors", "validationerrors", "messages", "itemerrors")

_THE_ONE: Record = ("only", "")
"""Stands for the one record whose errors are read, while nothing says which it is."""

Failure = tuple[str, bool, str]
"""Of one record: field, whether it is missing, and the reason as it stands."""


class Entries:
    """
    What one list or map tells. The contract is `include.sync_health.error_details`'s.

    Attributes:
        counts, reasons: by field; reasons as they stand, and how often.
        listed: how many records it tells of.
        has_keys: whether any entry says which record it is about.
        has_numbers: whether a field's numbers stood in it.
        bad_counts: numbers that cannot be.
        is_too_deep: whether something stands deeper in it than `DEPTH_LIMIT`, and was not read.
    """

    def __init__(self, data_type: str) -> None:
        self.counts: dict[str, FieldCounts] = {}
        self.reasons: dict[str, Counter[str]] = {}
        self.has_numbers = False
        self.bad_counts = 0
        self.is_too_deep = False
        self._data_type = data_type
        self._records: set[Record] = set()
        self._loose = 0

    @property
    def listed(self) -> int:
        return len(self._records) + self._loose

    @property
    def has_keys(self) -> bool:
        return bool(self._records)

    def read(self, value: Any, *, record: Record | None, depth: int) -> None:
        """Take in one entry: a text, an object, or a list of them."""
        if depth > DEPTH_LIMIT:
            self.is_too_deep = True
        elif isinstance(value, str):
            if value.strip():
                self._add(self._failures_in(value), record=record)
        elif isinstance(value, list):
            for inner in value:
                self.read(inner, record=record, depth=depth + 1)
        elif isinstance(value, dict):
            self._object(value, record=record, depth=depth)

    def by_index(self, value: Mapping[str, Any], *, depth: int) -> None:
        """Take in a map from an item's index to its errors."""
        for place, inner in value.items():
            self.read(inner, record=("index", str(int(place))), depth=depth + 1)

    def by_field(self, value: Mapping[str, Any], *, record: Record | None, depth: int) -> None:
        """Take in a map from field to errors or numbers; a key that is no name is the key of a record."""
        for key, inner in value.items():
            field, index = field_named(key, self._data_type)
            owner = record or (None if index is None else ("index", str(index)))
            if field == OTHER and record is None:
                self.read(inner, record=owner or ("key", key), depth=depth + 1)
            elif is_index_map(inner):
                for place, each in inner.items():
                    self._field_error(field, each, record=("index", str(int(place))))
            elif isinstance(inner, dict) and (numbers := self._numbers(inner)) is not None:
                self.has_numbers = True
                self.counts.setdefault(field, FieldCounts()).state(*numbers)
            else:
                for each in inner if isinstance(inner, list) else [inner]:
                    self._field_error(field, each, record=owner)

    def _numbers(self, value: Mapping[str, Any]) -> tuple[int, int] | None:
        try:
            return field_numbers(value)
        except BadCount:
            self.bad_counts += 1
            return None

    def _field_error(self, field: str, value: Any, *, record: Record | None) -> None:
        reason = value if isinstance(value, str) else None
        if isinstance(value, dict):
            known = by_spelling(value)
            record, reason = record_of(known) or record, reason_of(known)
        if reason is not None and reason.strip():
            is_missing = is_missing_by(reason, field, data_type=self._data_type)
            self._add([(field, is_missing, reason)], record=record)

    def _object(self, value: Mapping[str, Any], *, record: Record | None, depth: int) -> None:
        known = by_spelling(value)
        record = record_of(known) or record
        field = next((known[key] for key in FIELD_KEYS if isinstance(known.get(key), str) and known[key].strip()), None)
        inner = next((known[key] for key in _INNER_KEYS if isinstance(known.get(key), dict | list)), None)
        reason = reason_of(known)
        if field is not None:
            name, index = field_named(field, self._data_type)
            owner = record or (None if index is None else ("index", str(index)))
            # Nothing but the value says what is wrong with it.
            is_empty = reason is None and "value" in known and known["value"] in (None, "")
            is_missing = is_empty if reason is None else is_missing_by(reason, name, data_type=self._data_type)
            self._add([(name, is_missing, reason or "")], record=owner)
        elif inner is not None:
            self._inner(inner, record=record, depth=depth)
        elif reason is not None:
            self._add(self._failures_in(reason), record=record)
        else:
            told = {key: each for key, each in value.items() if self._is_field(key) and isinstance(each, str | list)}
            if told:
                self._inner(told, record=record, depth=depth)

    def _inner(self, value: Any, *, record: Record | None, depth: int) -> None:
        """Take in one record's errors, whether or not anything says which record it is."""
        if record is not None:
            self._errors(value, record=record, depth=depth)
            return
        one = Entries(self._data_type)
        one._errors(value, record=_THE_ONE, depth=depth)
        self.is_too_deep |= one.is_too_deep
        self.bad_counts += one.bad_counts
        if one.listed:
            reasons = {field: commonest(one.reasons.get(field, {})) for field in one.counts}
            self._add([(field, found.missing > 0, reasons[field]) for field, found in one.counts.items()], record=None)

    def _errors(self, value: Any, *, record: Record, depth: int) -> None:
        if isinstance(value, dict):
            self.by_field(value, record=record, depth=depth + 1)
        else:
            self.read(value, record=record, depth=depth + 1)

    def _is_field(self, key: str) -> bool:
        return known_field(key, self._data_type) not in (None, "id", "status")

    def _failures_in(self, text: str) -> list[Failure]:
        named = fields_in(text, self._data_type)
        return [(each.field, each.is_missing, each.reason) for each in named] or [(OTHER, False, text)]

    def _add(self, failures: Iterable[Failure], *, record: Record | None) -> None:
        if record is None:
            self._loose += 1
        else:
            self._records.add(record)
        for field, is_missing, reason in failures:
            self.counts.setdefault(field, FieldCounts()).fail(record, is_missing=is_missing)
            if reason:
                self.reasons.setdefault(field, Counter())[reason] += 1


def commonest(reasons: Mapping[str, int]) -> str:
    """Return the most frequent reason, of equals the first by text; "" without any."""
    return min(reasons, key=lambda text: (-reasons[text], text), default="")


def is_missing_by(reason: str, field: str, *, data_type: str) -> bool:
    """Return whether a reason of a field's failure means that the field is missing."""
    for each in fields_in(reason, data_type):
        if each.field == field:
            return each.is_missing
    return says_missing(reason)


def reason_of(known: Mapping[str, Any]) -> str | None:
    """Return the message of an entry, by `by_spelling`, else its code; None where it has neither."""
    texts = (known.get(key) for key in (*_REASON_KEYS, *_CODE_KEYS))
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)
