"""
Which fields failed: what the syncs' details and messages tell, by day, credential, data type and field.

`include.sync_health.error_details` has the contract of the details, and what each of their shapes counts;
`include.sync_health.validation_messages` the messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.detail_entries import commonest
from include.sync_health.error_details import Told, read_documents, says_nothing
from include.sync_health.field_counts import COUNT_LIMIT, FieldCounts
from include.sync_health.field_names import OTHER
from include.sync_health.frames import id_text, require_columns
from include.sync_health.validation_messages import may_name_a_field, shown_reason

FIELD_COLUMNS = (
    "day",  # datetime.date
    "credential_id",  # str
    "data_type",  # str
    "field",  # str: as ServiceTitan names it; OTHER where it has no name
    "is_required",  # bool: among REQUIRED_FIELDS of the data type
    "syncs",  # int64: in which it failed
    "failures",  # int64: records in which it failed; a sync without detail that names it counts as one; never more than
    #                the records of a sync with detail
    "missing",  # int64: of the failures, those in which it was empty or absent
    "share",  # float64, percent: failures / records processed, both of the syncs with detail; NaN: there is none
    "sample",  # str or None: its most frequent reason, without anybody's data
)
"""One row per day, credential, data type and field that failed."""

REQUIRED_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "invoices": ("id", "customerId", "total"),
        "customers": ("id", "name"),
        "both": (),  # whose field it is cannot be told
        "unknown": (),
    }
)
"""Fields that every record must have, by data type (upstream's story ST-013)."""

FIELDS_LIMIT = 50
"""Fields of one sync that are told apart; the others, with the fewest failures, count as `OTHER`."""

REASONS_LIMIT = 20
"""Different reasons of one sync's field that are compared, the most frequent first."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FieldFailures:
    """How many of a sync's records failed in a field, how many of those lacked it, and the most frequent reason."""

    failures: int
    missing: int
    sample: str | None


@dataclass(frozen=True, slots=True)
class SyncDetail:
    """
    What one sync tells of its fields.

    Args:
        has_detail: its JSON tells how many records lack which fields.
        fields: by field; none without a failure.
        missing_required: required fields of its data type that are missing, once per record and field; 0 without detail.
        problems: what of its JSON could not be used: ``unreadable``, ``too_large`` (never read), ``too_deep``,
            ``bad_count`` (a number of records that cannot be), ``truncated`` (fewer errors than it says there are).
    """

    has_detail: bool = False
    fields: Mapping[str, FieldFailures] = field(default_factory=dict)
    missing_required: int = 0
    problems: tuple[str, ...] = ()


_NOTHING = SyncDetail()


@dataclass(frozen=True, slots=True)
class SyncDetails:
    """
    What some syncs tell of their fields, each by its row number.

    Args:
        has_detail: bool per row.
        missing_required: int64 per row; at most its records times its required fields.
        failures: one row per sync and field, in this order.
            position    int64   row number
            field       str
            failures    int64   at most the records of a sync with detail; of another at least 1
            missing     int64   at most the failures
            sample      str or None
        problems: how often each kind: those of `SyncDetail`, and ``more_than_records`` (a sync whose details tell of more
            failures of a field than it has records; what is counted is cut to them) and ``unknown_records`` (a sync with
            details whose number of records is unknown, negative or beyond `COUNT_LIMIT`: no detail).
    """

    has_detail: NDArray[np.bool_]
    missing_required: Numbers
    failures: pd.DataFrame
    problems: Mapping[str, int]


def read_details(details: str | None, *, error_message: str | None, data_type: str) -> SyncDetail:
    """
    Return what one sync tells of its fields. Never raises, whatever the texts hold.

    Args:
        details: see `DETAIL_COLUMNS`.
        error_message: a field that it names counts once, unless the details tell more of it.
        data_type: one of `DATA_TYPES`: whose "id" and "name" are meant, and which fields are required.
    """
    told = Told() if details is None else read_documents(details, data_type=data_type)
    if error_message:
        told.text(error_message, data_type=data_type)
    if not (told.counts or told.named or told.problems or told.has_detail):
        return _NOTHING
    for name, is_missing in told.named.items():
        told.counts_of(name).state(1, int(is_missing))
    _fold_the_rest(told)
    fields = {
        name: FieldFailures(counts.failures, counts.missing, _sample(told.reasons.get(name, {})))
        for name, counts in sorted(told.counts.items())
        if counts.failures
    }
    required = REQUIRED_FIELDS.get(data_type, ())
    missing = sum(fields[name].missing for name in required if name in fields) if told.has_detail else 0
    return SyncDetail(told.has_detail, MappingProxyType(fields), missing, tuple(sorted(told.problems)))


def _fold_the_rest(told: Told) -> None:
    """Count the fields beyond `FIELDS_LIMIT` as one; required ones are never among them."""
    if len(told.counts) <= FIELDS_LIMIT:
        return
    required = {name for names in REQUIRED_FIELDS.values() for name in names}
    rest = told.counts.pop(OTHER, FieldCounts())
    ranked = sorted(told.counts, key=lambda name: (name not in required, -told.counts[name].failures, name))
    for name in ranked[FIELDS_LIMIT - 1 :]:
        rest.another_field(told.counts.pop(name))
        told.reasons.setdefault(OTHER, Counter()).update(told.reasons.get(name, {}))
    told.counts[OTHER] = rest


def _sample(reasons: Mapping[str, int]) -> str | None:
    """Return the most frequent reason as anyone may see it."""
    shown: Counter[str] = Counter()
    # Those that differ in what is masked become one; more than these are not worth the time.
    for text in sorted(reasons, key=lambda text: (-reasons[text], text))[:REASONS_LIMIT]:
        if masked := shown_reason(text):
            shown[masked] += reasons[text]
    return commonest(shown) or None


def may_tell(details: NDArray[np.object_], messages: NDArray[np.object_]) -> NDArray[np.bool_]:
    """
    Return False, at little cost, for most syncs that tell nothing of their fields; never for one that does.

    Args:
        details, messages: of each sync, str or None; see `details_of`.
    """
    told = pd.notna(details)
    told[told] = [not says_nothing(text) for text in details[told]]
    codes, texts = pd.factorize(messages)
    # A missing text has code -1, and so the last flag of the list.
    flags: NDArray[np.bool_] = told | np.array([*map(may_name_a_field, texts), False], dtype=bool)[codes]
    return flags


def details_of(runs: pd.DataFrame) -> SyncDetails:
    """
    Return what syncs tell of their fields.

    Rows with a text that may tell something (`may_tell`) are looked at, and equal ones once; the others may be left out.

    Args:
        runs: with any index.
            data_type          str
            error_message      str or None
            details            str or None   see `DETAIL_COLUMNS`
            records_processed  float64       NaN: unknown

    Raises:
        FrameError: a column is missing.
    """
    require_columns(runs, ("data_type", "error_message", "details", "records_processed"), name="runs")
    if not len(runs):
        return _nothing_told()
    detail_codes, detail_texts = pd.factorize(runs["details"].to_numpy(object))
    message_codes, messages = pd.factorize(runs["error_message"].to_numpy(object))
    type_codes, data_types = pd.factorize(runs["data_type"].astype(str).to_numpy(object))
    may_name = np.array([may_name_a_field(str(text)) for text in messages] + [False], dtype=bool)
    message_codes = np.where(may_name[message_codes], message_codes, -1).astype(np.int64)
    places = np.flatnonzero((detail_codes >= 0) | (message_codes >= 0)).astype(np.int64)
    keys = ((detail_codes[places] + 1) * (len(messages) + 1) + message_codes[places] + 1) * max(len(data_types), 1)
    _, first, of_place = np.unique(keys + type_codes[places], return_index=True, return_inverse=True)
    read = [
        read_details(
            None if detail_codes[place] < 0 else str(detail_texts[detail_codes[place]]),
            error_message=None if message_codes[place] < 0 else str(messages[message_codes[place]]),
            data_type=str(data_types[type_codes[place]]),
        )
        for place in places[first]
    ]
    return _spread(read, of_place.ravel().astype(np.int64), places, runs)


@cache
def _nothing_told() -> SyncDetails:
    # Most reads have nothing to tell: an empty frame need not be made each time.
    none = np.empty(0, dtype=np.int64)
    return _spread([], none, none, pd.DataFrame({"records_processed": [], "data_type": []}))


def _spread(read: list[SyncDetail], of_place: Numbers, places: Numbers, runs: pd.DataFrame) -> SyncDetails:
    """Return what was read once as what each of the rows tells."""
    records = runs["records_processed"].to_numpy(np.float64)
    is_known = (records >= 0) & (records <= COUNT_LIMIT)
    told = np.zeros(len(runs), dtype=bool)
    told[places] = np.array([each.has_detail for each in read], dtype=bool)[of_place]
    has_detail = told & is_known
    problems: Counter[str] = Counter()
    for number, each in zip(np.bincount(of_place, minlength=len(read)), read, strict=True):
        for kind in each.problems:
            problems[kind] += int(number)
    failures = _failures(read, of_place, places)
    row = failures["position"].to_numpy(np.int64)
    limit = np.where(has_detail[row], np.where(is_known, records, 0.0)[row], np.inf)
    is_over = failures["failures"].to_numpy(np.float64) > limit
    problems["more_than_records"] += len(np.unique(row[is_over]))
    problems["unknown_records"] += int((told & ~is_known).sum())
    for name in ("failures", "missing"):
        failures[name] = np.minimum(failures[name].to_numpy(np.float64), limit).astype(np.int64)
    is_required = _is_required(runs["data_type"].astype(str).to_numpy(object)[row], failures["field"].to_numpy(object))
    counted = np.where(is_required & has_detail[row], failures["missing"].to_numpy(np.float64), 0.0)
    return SyncDetails(
        has_detail=has_detail,
        missing_required=np.bincount(row, weights=counted, minlength=len(runs)).astype(np.int64),
        failures=failures,
        problems={kind: number for kind, number in sorted(problems.items()) if number},
    )


def _failures(read: list[SyncDetail], of_place: Numbers, places: Numbers) -> pd.DataFrame:
    sizes = np.array([len(each.fields) for each in read], dtype=np.int64)
    entries = [(name, found) for each in read for name, found in each.fields.items()]
    size = sizes[of_place]
    begins = (np.cumsum(sizes) - sizes)[of_place]
    within = np.arange(size.sum(), dtype=np.int64) - np.repeat(np.cumsum(size) - size, size)
    take = np.repeat(begins, size) + within
    return pd.DataFrame(
        {
            "position": np.repeat(places, size),
            "field": _objects([name for name, _ in entries])[take],
            "failures": np.array([found.failures for _, found in entries], dtype=np.int64)[take],
            "missing": np.array([found.missing for _, found in entries], dtype=np.int64)[take],
            "sample": pd.Series(_objects([found.sample for _, found in entries])[take], dtype=object),
        }
    ).astype({"field": object})


def _objects(values: list[Any]) -> NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _is_required(data_types: NDArray[np.object_], fields: NDArray[np.object_]) -> NDArray[np.bool_]:
    is_required = np.zeros(len(fields), dtype=bool)
    for data_type, names in REQUIRED_FIELDS.items():
        is_required |= (data_types == data_type) & np.isin(fields, np.array(names, dtype=object))
    return is_required


def aggregate_fields(runs: pd.DataFrame, details: SyncDetails) -> pd.DataFrame:
    """
    Return the fields that failed, by day, credential and data type.

    The share is 100 * failures / records processed, both of the syncs with detail only. The sample is the reason with
    the most failures behind it, of equals the first by text.

    Args:
        runs: the rows that `details_of` had, in its order.
            day                datetime.date
            credential_id      int64 | str
            data_type          str
            records_processed  float64
        details: what it returned, each sync's numbers cut to its records.

    Returns:
        `FIELD_COLUMNS`, ordered by day, credential and data type as text, and field.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(runs, ("day", "credential_id", "data_type", "records_processed"), name="runs")
    if not len(details.failures):
        return _no_fields().copy()
    return _fields_of(runs, details)


@cache
def _no_fields() -> pd.DataFrame:
    keys = pd.DataFrame({name: [] for name in ("day", "credential_id", "data_type", "records_processed")}, dtype=object)
    return _fields_of(keys, _nothing_told())


def _fields_of(runs: pd.DataFrame, details: SyncDetails) -> pd.DataFrame:
    day, days = _ranked(runs["day"].to_numpy(object))
    credential, credentials = _ranked(runs["credential_id"].to_numpy())
    data_type, data_types = _ranked(runs["data_type"].to_numpy(object))
    of_row = (day * len(credentials) + credential) * len(data_types) + data_type
    keys, of_row = np.unique(of_row, return_inverse=True)
    records = np.where(details.has_detail, runs["records_processed"].to_numpy(np.float64), 0.0)
    processed = np.bincount(of_row, weights=records, minlength=len(keys))

    row = details.failures["position"].to_numpy(np.int64)
    failures = details.failures["failures"].to_numpy(np.float64)
    missing = details.failures["missing"].to_numpy(np.float64)
    field, fields = _ranked(details.failures["field"].to_numpy(object))
    found, group = np.unique(of_row[row] * len(fields) + field, return_inverse=True)
    key, name = np.divmod(found, max(len(fields), 1))
    rest, kind = np.divmod(keys[key], max(len(data_types), 1))
    told = np.bincount(group, weights=np.where(details.has_detail[row], failures, 0.0), minlength=len(found))
    known = processed[key] > 0
    required = np.array([[each in REQUIRED_FIELDS.get(kind, ()) for each in fields] for kind in data_types], dtype=bool)
    columns = {
        "day": days[rest // max(len(credentials), 1)],
        "credential_id": credentials[rest % max(len(credentials), 1)],
        "data_type": data_types[kind],
        "field": fields[name],
        "is_required": required.reshape(len(data_types), len(fields))[kind, name],
        "syncs": np.bincount(group, minlength=len(found)).astype(np.int64),
        "failures": np.bincount(group, weights=failures, minlength=len(found)).astype(np.int64),
        "missing": np.bincount(group, weights=missing, minlength=len(found)).astype(np.int64),
        "share": np.where(known, 100 * told / np.where(known, processed[key], 1), np.nan),
        "sample": _samples(details.failures["sample"].to_numpy(object), group, failures, groups=len(found)),
    }
    # Without the dtype, pandas 3 would make strings of objects, and NaN of None.
    return pd.DataFrame(
        {each: pd.Series(columns[each], dtype=columns[each].dtype) for each in FIELD_COLUMNS}, columns=FIELD_COLUMNS
    )


def _ranked(values: NDArray[Any]) -> tuple[Numbers, NDArray[np.object_]]:
    """Return each value's rank among the different ones, and those in their order: days by date, all others as text."""
    codes, uniques = pd.factorize(values)
    different = np.asarray(uniques, dtype=object)
    is_day = len(different) > 0 and isinstance(different[0], date)
    texts = different if is_day else id_text(pd.Series(different, dtype=object)).to_numpy(object)
    order = np.argsort(texts, kind="stable")
    rank = np.empty(len(texts), dtype=np.int64)
    rank[order] = np.arange(len(texts))
    return rank[codes], texts[order]


def _samples(
    reasons: NDArray[np.object_], group: Numbers, failures: NDArray[np.float64], *, groups: int
) -> NDArray[np.object_]:
    """Return each group's reason with the most failures, of equals the first by text; None without any."""
    samples = np.full(groups, None, dtype=object)
    has_reason = pd.notna(reasons)
    reason, texts = _ranked(reasons[has_reason])
    pairs, of_pair = np.unique(group[has_reason] * max(len(texts), 1) + reason, return_inverse=True)
    weight = np.bincount(of_pair, weights=failures[has_reason], minlength=len(pairs))
    owner, text = np.divmod(pairs, max(len(texts), 1))
    order = np.lexsort((text, -weight, owner))
    _, first = np.unique(owner[order], return_index=True)
    best = order[first]
    samples[owner[best]] = texts[text[best]]
    return samples
