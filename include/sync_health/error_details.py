"""
What a sync's JSON tells of its fields: the contract for ``error_details`` and ``metadata``, and its lenient reader.

Upstream writes nothing there today but the errors of its API client; this is what it may write, and any of:

    shape                                                     counts
    --------------------------------------------------------  ----------------------------------------------------------
    {"validation_errors": [{"field": "zip", "message": "…",   one failure of the field in the record that index (row,
     "code": "…", "index": 7}]}                               record, item, or id) names; without one, in a record of its
     also errors, invalid, itemErrors; or the list alone      own; missing or invalid by message, code, or a null value
    ["Customer name is required", …]                          the fields of the known messages, a record each text
    {"0": ["Customer ID is required"], "7": {…}}              as above, in record 0, in record 7; a list within
                                                              itemErrors likewise, as PHP writes a map that is numbered
                                                              without a gap as a list
    {"errors": {"zip": ["…", "…"]}}                           a record each text; of an RFC 7807 problem (with title
                                                              or traceId) one failure in all, and no detail
    {"fields": {"zip": {"missing": 3, "invalid": 1,           the numbers: missing + invalid failures; a bare number
     "total": 100}}}                                          counts as invalid
    {"missing_fields": {"name": 4}, "invalid_fields": {…}}    the numbers; a list of names counts one each, and is no
                                                              detail
    {"totalItems": 100, "validItems": 97, "invalidItems": 3,  its itemErrors; fewer of them than invalidItems are a
     "itemErrors": {…}}                                       lower bound: problem ``truncated``, no detail
    {"total": 100, "invalid": 0}, {"validation_errors": []}   detail, with no failure
    {"response": …}, details, context, metadata, body, data   what is inside, `DEPTH_LIMIT` deep
    {"field": "zip", "message": "…"} in no list               one failure of the field, no detail; not a path, a column or a
                                                              parameter, which are of a request or a query as well
    {"error": "…"}, {"message": "…"}, a bare text             the fields of the known messages, one each, no detail
    {"error": "…", "code": 500}, [], {}, "", null             nothing
    {"invalid": "3"}, {"validation_errors": ""}, [""]         nothing: a number and a blank list no errors
    {"validation_errors": "[…]"}                              as the list that is encoded in it

"Detail" says that the JSON tells how many records lack which fields, so that the rest had them. Where an entry names no
field and no known message, its record counts for `OTHER`; in ``errors``, or a list alone, only beside entries that do or
with an index, as such lists hold errors of an API too.

A record and a field count once, however often and in both documents. Records without an index cannot be told apart
between lists, nor from numbers: of several lists (and of numbers), the larger count holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from include.sync_health.detail_entries import FIELD_KEYS, Entries, is_missing_by, reason_of
from include.sync_health.field_counts import (
    DEPTH_LIMIT,
    KEY_LIMIT,
    BadCount,
    FieldCounts,
    TooDeep,
    by_spelling,
    count_of,
    field_numbers,
    first_count,
    is_index_map,
    parsed,
)
from include.sync_health.field_names import OTHER, field_named
from include.sync_health.frames import DETAIL_TEXT_LIMIT
from include.sync_health.validation_messages import fields_in, may_name_a_field, says_missing

_LISTS = ("validationerrors", "itemerrors", "fielderrors", "invaliditems", "invalidrecords", "invalid", "errors")
_ITEMS, _GENERIC = "itemerrors", "errors"
_NUMBERS = ("fields", "fieldstats", "fieldstatistics")
_NAMED_NUMBERS = {"missingfields": True, "invalidfields": False}
_ENVELOPES = ("response", "details", "context", "metadata", "body", "data", "validation", "result", "errordetails")
_TEXTS = ("message", "error", "detail", "title", "apierror", "errormessage")
_PROBLEM_KEYS = {"title", "traceid"}  # of RFC 7807, and ServiceTitan's addition
_LONE_KEYS = tuple(key for key in FIELD_KEYS if key not in ("path", "column", "parameter"))
"""Under which an object that is in no list has its field's name: the others are of a request or a query as well."""
_TELLING = frozenset({*_LISTS, *_NUMBERS, *_NAMED_NUMBERS, "totalitems", *FIELD_KEYS})
_BESIDE = frozenset({*_TEXTS, *_ENVELOPES})

_LONGEST = 2 * DETAIL_TEXT_LIMIT + 1_024
_KEYS = re.compile(r'"([^"]*)"\s*:')
_NUMBER = re.compile(r"[+-]?[0-9.,]+")
_TEXT_OF_JSON = re.compile(r'"\s*[\[{]')

_NOT_WHOLE = frozenset({"unreadable", "too_large", "too_deep", "truncated"})


@dataclass(slots=True)
class Told:
    """
    What a sync's documents and message tell.

    Args:
        counts: by field.
        named: fields that a text names without a number of records, and whether it says that they are missing.
        reasons: by field, as they stand, how often each.
        problems: what could not be used, once per document or number.
        has_numbers: numbers of fields were found.
        has_lists: a list of errors was found that names fields, or says that there were no errors.
    """

    counts: dict[str, FieldCounts] = field(default_factory=dict)
    named: dict[str, bool] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    has_numbers: bool = False
    has_lists: bool = False

    @property
    def has_detail(self) -> bool:
        """Whether it tells how many records lack which fields; a list that was cut, or beside what was not read, does not."""
        return self.has_numbers or (self.has_lists and _NOT_WHOLE.isdisjoint(self.problems))

    def text(self, text: str, *, data_type: str) -> None:
        """Take in a text that may name fields, without a number of records."""
        for each in fields_in(text, data_type):
            self.name(each.field, each.reason, is_missing=each.is_missing)

    def name(self, name: str, reason: str, *, is_missing: bool) -> None:
        """Take in a field that failed in at least one record."""
        self.named[name] = self.named.get(name, False) or is_missing
        self.reasons.setdefault(name, Counter())[reason] += 1

    def counts_of(self, name: str) -> FieldCounts:
        """Return a field's counts, to be added to."""
        return self.counts.setdefault(name, FieldCounts())


def read_documents(details: str, *, data_type: str) -> Told:
    """Return what `DETAIL_COLUMNS` says of one sync. Never raises: what cannot be read is among the problems."""
    told = Told()
    if len(details) > _LONGEST:
        told.problems.append("too_large")
        return told
    if says_nothing(details):
        return told
    try:
        documents = parsed(details)
    except TooDeep:
        told.problems.append("too_deep")
        return told
    except ValueError:
        documents = None
    if not isinstance(documents, list) or len(documents) != 2:
        told.problems.append("unreadable")
        return told
    for document in documents:
        if document is True:
            told.problems.append("too_large")
            continue
        if _is_silent(document):
            continue
        reader = _Reader(told, data_type)
        reader.document(document, depth=0)
        if reader.is_too_deep:
            told.problems.append("too_deep")
    return told


def says_nothing(text: str) -> bool:
    """
    Return True, at a tenth of the cost of reading them, for most `DETAIL_COLUMNS` that tell nothing, such as an API's error;
    never for those that tell something, or cannot be read.

    It looks for what tells something anywhere in the text: a key or a list, JSON within a text, a message that names a field.
    """
    if len(text) > _LONGEST:
        return False
    plain = text.replace("\\/", "/")  # so PHP writes a slash
    if "\\" in plain or plain.count("[") != 1 or plain.count("{") > DEPTH_LIMIT or _TEXT_OF_JSON.search(plain):
        return False
    if any(map(_may_tell, _KEYS.findall(plain))) or may_name_a_field(plain, limit=None):
        return False
    try:
        # It is not read twice: what is no JSON, or too large, is a problem.
        documents = orjson.loads(text)
    except ValueError:
        return False
    return isinstance(documents, list) and len(documents) == 2 and True not in (documents[0], documents[1])


def _is_silent(value: Any, depth: int = 0) -> bool:
    """
    Return True, at little cost, for most documents in which a `_Reader` finds nothing, such as an API's error; never for one
    in which it finds something.
    """
    if isinstance(value, str):
        return value.lstrip()[:1] not in ("{", "[") and not may_name_a_field(value)
    if isinstance(value, dict) and depth <= DEPTH_LIMIT:
        return not any(_may_tell(key) or not _is_silent(inner, depth + 1) for key, inner in value.items())
    return value is None or isinstance(value, int | float)


def _may_tell(key: str) -> bool:
    return _may_tell_of(key[:KEY_LIMIT])


@lru_cache(maxsize=5_000)
def _may_tell_of(key: str) -> bool:
    return key[:1].isdigit() or not _TELLING.isdisjoint(by_spelling({key: None}))


class _Reader:
    """Walks one document, and adds what it finds to what the sync told."""

    def __init__(self, told: Told, data_type: str) -> None:
        self._told = told
        self._data_type = data_type
        self.is_too_deep = False

    def document(self, value: Any, *, depth: int) -> None:
        if depth > DEPTH_LIMIT:
            # Noted, not raised: what stands beside it is still read, whatever the order of keys.
            self.is_too_deep = True
        elif isinstance(value, str):
            self._text(value, depth=depth)
        elif isinstance(value, list):
            self._list(value, key=_GENERIC, depth=depth)
        elif is_index_map(value):
            self._list(value, key=_ITEMS, depth=depth)
        elif isinstance(value, dict):
            known = by_spelling(value)
            if not _TELLING.isdisjoint(known):
                self._object(known, depth=depth)
            self._beside(known, depth=depth)

    def _text(self, value: str, *, depth: int) -> None:
        inner = self._within(value)
        if inner is None:
            self._told.text(value, data_type=self._data_type)
        else:
            self.document(inner, depth=depth + 1)

    def _within(self, text: str) -> list[Any] | dict[str, Any] | None:
        """Return the list or object that a text is; None for any other text. Some code encodes what is encoded already."""
        if text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            inner = parsed(text)
        except TooDeep:
            self.is_too_deep = True
            return []
        except ValueError:
            return None
        return inner if isinstance(inner, dict | list) else None

    def _object(self, known: Mapping[str, Any], *, depth: int) -> None:
        expected = self._totals(known)
        for key in _LISTS:
            inner = self._listed(known.get(key))
            if key == _GENERIC and isinstance(inner, dict) and not _PROBLEM_KEYS.isdisjoint(known):
                self._request_errors(inner)
            elif inner is not None:
                self._list(inner, key=key, depth=depth + 1, expected=expected)
        for key in _NUMBERS:
            self._numbers(known.get(key), is_missing=False)
        for key, is_missing in _NAMED_NUMBERS.items():
            self._numbers(known.get(key), is_missing=is_missing)
            self._names(known.get(key), is_missing=is_missing)
        if entry := self._lone_entry(known):
            name, reason = entry
            self._told.name(name, reason, is_missing=is_missing_by(reason, name, data_type=self._data_type))

    def _listed(self, value: Any) -> list[Any] | dict[str, Any] | str | None:
        """Return what stands under the key of a list; None for a blank and for a number, which list nothing."""
        if isinstance(value, list | dict):
            return value
        if not isinstance(value, str) or not value.strip() or _NUMBER.fullmatch(value.strip()):
            return None
        inner = self._within(value)
        return value if inner is None else inner

    def _lone_entry(self, known: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the field and the reason of an object that is an entry by itself; None for any other."""
        field = next((known[key] for key in _LONE_KEYS if isinstance(known.get(key), str)), None)
        reason = reason_of({**known, "type": None})  # that is the type of a job as well
        if field is None or reason is None:
            return None
        name = field_named(field, self._data_type)[0]
        return None if name == OTHER else (name, reason)

    def _beside(self, known: Mapping[str, Any], *, depth: int) -> None:
        """Take in an object's texts, unless it is an entry itself, and what its envelopes hold."""
        is_entry = self._lone_entry(known) is not None
        for key in _BESIDE.intersection(known):
            inner = known[key]
            if key in _ENVELOPES:
                self.document(inner, depth=depth + 1)
            elif isinstance(inner, str) and not is_entry:
                self._text(inner, depth=depth)

    def _totals(self, known: Mapping[str, Any]) -> int | None:
        """Return how many items it says were invalid, None where it does not say."""
        try:
            total = first_count(known, "totalitems", "total")
            invalid = first_count(known, "invaliditems", "invalid")
        except BadCount:
            self._told.problems.append("bad_count")
            return None
        if invalid == 0 and total is not None:
            self._told.has_lists = True
        return invalid

    def _list(self, value: Any, *, key: str, depth: int, expected: int | None = None) -> None:
        entries = Entries(self._data_type)
        if is_index_map(value):
            entries.by_index(value, depth=depth)
        elif isinstance(value, dict):
            entries.by_field(value, record=None, depth=depth + 1)
        else:
            for place, inner in enumerate(value if isinstance(value, list) else [value]):
                # PHP writes a map that is numbered without a gap as a list.
                is_numbered = key == _ITEMS or isinstance(inner, list)
                entries.read(inner, record=("index", str(place)) if is_numbered else None, depth=depth + 1)
        self._close(entries, key=key, is_empty=not value, expected=expected)

    def _close(self, entries: Entries, *, key: str, is_empty: bool, expected: int | None) -> None:
        told = self._told
        told.problems += ["bad_count"] * entries.bad_counts
        self.is_too_deep |= entries.is_too_deep
        names_fields = any(name != OTHER for name in entries.counts)
        if expected is not None and entries.listed < expected and not entries.has_numbers:
            told.problems.append("truncated")
        if key == _GENERIC and not names_fields and not entries.has_keys:
            return
        told.has_numbers |= entries.has_numbers
        told.has_lists |= names_fields or is_empty
        for name, found in entries.counts.items():
            told.counts_of(name).same_records(found)
        for name, reasons in entries.reasons.items():
            told.reasons.setdefault(name, Counter()).update(reasons)

    def _request_errors(self, errors: Mapping[str, Any]) -> None:
        # They are of one request, which is no record of the sync.
        for key, texts in errors.items():
            name = field_named(key, self._data_type)[0]
            for text in texts if isinstance(texts, list) else [texts]:
                if isinstance(text, str):
                    self._told.name(name, text, is_missing=says_missing(text))

    def _numbers(self, value: Any, *, is_missing: bool) -> None:
        for key, stated in value.items() if isinstance(value, dict) else ():
            try:
                if isinstance(stated, dict):
                    numbers = field_numbers(stated)
                else:
                    count = count_of(stated)
                    numbers = None if count is None else (count, count if is_missing else 0)
            except BadCount:
                self._told.problems.append("bad_count")
                continue
            if numbers is None:
                continue
            self._told.has_numbers = True
            if numbers[0]:
                name = field_named(key, self._data_type)[0]
                self._told.counts_of(name).state(*numbers)
                reason = "missing" if 2 * numbers[1] >= numbers[0] else "invalid"
                self._told.reasons.setdefault(name, Counter())[reason] += 1

    def _names(self, value: Any, *, is_missing: bool) -> None:
        for text in value if isinstance(value, list) else ():
            if isinstance(text, str):
                name = field_named(text, self._data_type)[0]
                self._told.name(name, "missing" if is_missing else "invalid", is_missing=is_missing)
