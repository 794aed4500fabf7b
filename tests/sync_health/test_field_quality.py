"""The fields that failed, by day, credential and data type, against a second way of counting them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health import field_quality
from include.sync_health.errors import FrameError
from include.sync_health.field_quality import (
    FIELD_COLUMNS,
    REQUIRED_FIELDS,
    SyncDetails,
    aggregate_fields,
    details_of,
    read_details,
)
from include.sync_health.frames import DATA_TYPES

DAYS = (date(2026, 11, 25), date(2026, 11, 26))


def told(*documents: Any) -> str:
    return json.dumps([*documents, None][:2])


ZIP_EMPTY = told({"validation_errors": [{"field": "zip", "message": "Zip Code is Empty", "index": 1}]})
TWO_IDS = told(
    {"itemErrors": {"0": ["Customer ID is required"], "5": ["Customer ID is required", "Invalid email format"]}}
)
ZIP_NUMBERS = told(None, {"fields": {"zip": {"missing": 30, "invalid": 10}}})
NOTHING_WRONG = told({"validation_errors": []})
API_ERROR = told({"error": "Boom", "code": 500})

TEXTS = (
    None,
    ZIP_EMPTY,
    TWO_IDS,
    ZIP_NUMBERS,
    NOTHING_WRONG,
    API_ERROR,
    "{",
    "[true, null]",
    told(["zip is missing: Jane"]),
)
MESSAGES = (None, "Zip Code is Empty, Street is Empty", "Customer name is required", "Unknown API error")


def runs_of(*rows: tuple[str | None, str | None, float, str]) -> pd.DataFrame:
    """Return runs from details, error message, records processed and data type; the index tells nothing."""
    return pd.DataFrame(
        {
            "data_type": pd.Series([row[3] for row in rows], dtype=object),
            "error_message": pd.Series([row[1] for row in rows], dtype=object),
            "details": pd.Series([row[0] for row in rows], dtype=object),
            "records_processed": np.array([row[2] for row in rows], dtype=np.float64),
        }
    ).set_index(np.arange(len(rows))[::-1] * 7 + 3)


def rows_of(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(zip(*(frame[name].tolist() for name in frame.columns), strict=True))


def keyed(runs: pd.DataFrame, *, days: list[date], credentials: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "day": pd.Series(days, dtype=object),
            "credential_id": credentials,
            "data_type": runs["data_type"].to_numpy(object),
            "records_processed": runs["records_processed"].to_numpy(),
        }
    )


ROWS = st.tuples(
    st.sampled_from(TEXTS),
    st.sampled_from(MESSAGES),
    st.sampled_from([0.0, 1.0, 20.0, 100.0, -1.0, math.nan, math.inf, 2.0**31 - 1, 2.0**31, 2.0**62]),
    st.sampled_from(DATA_TYPES),
)


def oracle_details(
    rows: list[tuple[str | None, str | None, float, str]],
) -> tuple[list[bool], list[int], dict[str, int]]:
    """Return has_detail, missing_required and problems, a row at a time."""
    has_detail, missing_required = [], []
    problems: dict[str, int] = defaultdict(int)
    for details, message, records, data_type in rows:
        detail = read_details(details, error_message=message, data_type=data_type)
        usable = 0 <= records <= 2_147_483_647
        has_detail.append(detail.has_detail and usable)
        for kind in detail.problems:
            problems[kind] += 1
        if detail.has_detail and not usable:
            problems["unknown_records"] += 1
        missing = 0
        if detail.has_detail and usable:
            if any(found.failures > records for found in detail.fields.values()):
                problems["more_than_records"] += 1
            for name in REQUIRED_FIELDS[data_type]:
                if name in detail.fields:
                    missing += min(detail.fields[name].missing, int(records))
        missing_required.append(missing)
    return has_detail, missing_required, dict(problems)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROWS, max_size=12))
def test_rows_read_at_once_are_as_rows_read_one_by_one(rows: list[tuple[str | None, str | None, float, str]]) -> None:
    """Whatever stands beside a row."""
    details = details_of(runs_of(*rows))
    has_detail, missing_required, problems = oracle_details(rows)

    assert details.has_detail.tolist() == has_detail
    assert details.missing_required.tolist() == missing_required
    assert dict(details.problems) == problems
    assert rows_of(details.failures) == [
        (
            position,
            name,
            min(each.failures, int(records)) if has_detail[position] else each.failures,
            min(each.missing, int(records)) if has_detail[position] else each.missing,
            each.sample,
        )
        for position, (text, message, records, data_type) in enumerate(rows)
        for name, each in read_details(text, error_message=message, data_type=data_type).fields.items()
    ]


def oracle_fields(keys: pd.DataFrame, details: SyncDetails) -> list[tuple[Any, ...]]:
    """Return the fields' rows, counted in dictionaries."""
    records: dict[Any, float] = defaultdict(float)
    counted: dict[Any, list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
    reasons: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    key_of, processed_of = [], []
    for place, (day, credential, data_type, processed) in enumerate(rows_of(keys)):
        key_of.append((day, str(credential), data_type))
        processed_of.append(processed)
        if details.has_detail[place]:
            records[key_of[place]] += processed
    for position, field, failures, missing, sample in rows_of(details.failures):
        key = (*key_of[position], field)
        one = counted[key]
        one[0] += 1
        one[1] += failures
        one[2] += missing
        if details.has_detail[position]:
            assert missing <= failures <= processed_of[position]
            one[3] += failures
        if sample is not None:
            reasons[key][sample] += failures
    rows: list[tuple[Any, ...]] = []
    for key in sorted(counted):
        syncs, failed, lacking, share = counted[key]
        total = records[key[:3]]
        texts = sorted(reasons[key].items(), key=lambda item: (-item[1], item[0]))
        rows.append(
            (
                *key,
                key[3] in REQUIRED_FIELDS[key[2]],
                syncs,
                failed,
                lacking,
                100 * share / total if total else None,
                texts[0][0] if texts else None,
            )
        )
    return rows


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(ROWS, st.sampled_from(DAYS), st.sampled_from([9, 10])), max_size=15),
)
def test_the_fields_of_a_day_are_those_of_its_syncs(rows: list[tuple[Any, date, int]]) -> None:
    """Exactly, in the order of the keys as text."""
    runs = runs_of(*(row for row, _, _ in rows))
    keys = keyed(runs, days=[day for _, day, _ in rows], credentials=[credential for _, _, credential in rows])
    details = details_of(runs)
    found = aggregate_fields(keys, details)

    assert tuple(found.columns) == FIELD_COLUMNS
    assert _plain(found) == oracle_fields(keys, details)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.tuples(ROWS, st.sampled_from(DAYS)), max_size=10), seed=st.randoms(use_true_random=False))
def test_the_order_of_the_syncs_does_not_matter(rows: list[tuple[Any, date]], seed: Any) -> None:
    """A source without an order gives the same table."""
    shuffled = list(rows)
    seed.shuffle(shuffled)
    tables = []
    for each in (rows, shuffled):
        runs = runs_of(*(row for row, _ in each))
        keys = keyed(runs, days=[day for _, day in each], credentials=["a"] * len(each))
        tables.append(_plain(aggregate_fields(keys, details_of(runs))))

    assert tables[0] == tables[1]


def _plain(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [
        tuple(None if isinstance(value, float) and math.isnan(value) else value for value in row)
        for row in rows_of(frame)
    ]


@pytest.mark.parametrize(
    ("rows", "field", "expected"),
    [
        pytest.param(
            [(ZIP_NUMBERS, None, 100, "customers"), (NOTHING_WRONG, None, 300, "customers")],
            "zip",
            {"syncs": 1, "failures": 40, "missing": 30, "share": 10.0, "is_required": False},
            id="a share is of the records of all syncs with detail",
        ),
        pytest.param(
            [(ZIP_NUMBERS, None, 100, "customers"), (None, "Zip Code is Empty", 50, "customers")],
            "zip",
            {"syncs": 2, "failures": 41, "missing": 31, "share": 40.0},
            id="a message counts as a failure, not in the share",
        ),
        pytest.param(
            [(None, "Zip Code is Empty", 50, "customers")],
            "zip",
            {"failures": 1, "share": None},
            id="no detail, no share",
        ),
        pytest.param(
            [(ZIP_NUMBERS, None, 25, "customers")],
            "zip",
            {"failures": 25, "missing": 25, "share": 100.0},
            id="no more failures than records, and none more missing",
        ),
        pytest.param(
            [(ZIP_NUMBERS, None, 25, "customers"), (ZIP_NUMBERS, None, 35, "customers")],
            "zip",
            {"failures": 60, "missing": 55, "share": 100.0},
            id="each sync's are cut to its own records",
        ),
        pytest.param(
            [(ZIP_NUMBERS, None, 0, "customers")],
            "zip",
            {"syncs": 1, "failures": 0, "missing": 0, "share": None},
            id="without a record none failed, yet the field was named",
        ),
        pytest.param(
            [(ZIP_NUMBERS, None, math.nan, "customers")],
            "zip",
            {"failures": 40, "missing": 30, "share": None},
            id="an unknown number of records cuts nothing",
        ),
        pytest.param(
            [(TWO_IDS, None, 10, "customers")],
            "id",
            {"failures": 2, "share": 20.0, "is_required": True},
            id="a required field",
        ),
        pytest.param(
            [(TWO_IDS, None, 10, "both")],
            "customerId",
            {"failures": 2, "is_required": False},
            id="of both, none is required",
        ),
        pytest.param(
            [(ZIP_EMPTY, None, 10, "customers"), (ZIP_NUMBERS, None, 100, "customers")],
            "zip",
            {"sample": "missing"},
            id="the sample is the reason of most failures",
        ),
    ],
)
def test_what_a_day_says_of_a_field(rows: list[Any], field: str, expected: dict[str, Any]) -> None:
    """Counts as they are told; a share only where it can be known."""
    runs = runs_of(*rows)
    found = aggregate_fields(keyed(runs, days=[DAYS[0]] * len(rows), credentials=["7"] * len(rows)), details_of(runs))
    row = dict(zip(FIELD_COLUMNS, next(each for each in _plain(found) if each[3] == field), strict=True))

    assert {name: row[name] for name in expected} == expected


def test_more_missing_than_records_is_cut_and_counted() -> None:
    """No more can be missing than there are records times required fields."""
    missing = told({"missing_fields": {"id": 30, "name": 4, "zip": 9}})
    details = details_of(runs_of((missing, None, 10, "customers"), (missing, None, 30, "customers")))

    assert details.missing_required.tolist() == [14, 34]
    assert details.failures["failures"].tolist() == [10, 4, 9, 30, 4, 9]
    assert details.failures["missing"].tolist() == [10, 4, 9, 30, 4, 9]
    assert dict(details.problems) == {"more_than_records": 1}


@pytest.mark.parametrize("records", [math.nan, -1.0, math.inf, 2.0**31, 2.0**62])
def test_without_a_number_of_records_there_is_no_detail(records: float) -> None:
    """Nothing could be divided by it."""
    details = details_of(runs_of((TWO_IDS, None, records, "customers")))

    assert details.has_detail.tolist() == [False]
    assert details.missing_required.tolist() == [0]
    assert dict(details.problems) == {"unknown_records": 1}
    assert len(details.failures) == 2


def test_equal_texts_are_read_once_and_everyday_errors_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of failures costs next to nothing."""
    read: list[tuple[str | None, str | None]] = []
    real = field_quality.read_details

    def counting(details: str | None, *, error_message: str | None, data_type: str) -> field_quality.SyncDetail:
        read.append((details, error_message))
        return real(details, error_message=error_message, data_type=data_type)

    monkeypatch.setattr(field_quality, "read_details", counting)
    everyday = [(None, f"ServiceTitan API server error: 50{n % 4}", 0.0, "customers") for n in range(1_000)]
    details = details_of(runs_of(*everyday, *[(ZIP_EMPTY, "Unknown API error", 5.0, "customers")] * 500))

    assert read == [(ZIP_EMPTY, None)]
    assert int(details.has_detail.sum()) == 500
    assert details.failures["position"].tolist() == list(range(1_000, 1_500))


def test_no_runs_have_no_fields() -> None:
    """Nor do runs that tell nothing; the types stay."""
    for rows in ([], [(None, None, 5.0, "customers")], [(API_ERROR, "Unknown API error", 5.0, "customers")]):
        runs = runs_of(*rows)
        details = details_of(runs)
        found = aggregate_fields(keyed(runs, days=[DAYS[0]] * len(rows), credentials=["7"] * len(rows)), details)
        assert found.empty
        assert tuple(found.columns) == FIELD_COLUMNS
        assert found["failures"].dtype == np.int64
        assert details.has_detail.dtype == np.bool_
        assert details.missing_required.dtype == np.int64
        assert len(details.has_detail) == len(rows)


def test_missing_columns_are_named() -> None:
    """Before anything is read."""
    with pytest.raises(FrameError, match="details"):
        details_of(runs_of().drop(columns="details"))
    with pytest.raises(FrameError, match="day"):
        aggregate_fields(pd.DataFrame(), details_of(runs_of()))
