"""What is copied in comes back equal, and what PostgreSQL cannot hold is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.errors import StorageError
from include.warehouse.binary_rows import BinaryRows
from include.warehouse.stored_values import storable_text

TYPES = {
    "small": "int4",
    "name": "text",
    "large": "int8",
    "score": "float8",
    "flag": "bool",
    "other": "text",
    "day": "date",
    "at": "timestamptz",
}

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-(2**31), 2**31 - 1),
    "name": st.text(),
    "large": st.integers(-(2**63), 2**63 - 1),
    "score": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "other": st.sampled_from(["", "é\N{PILE OF POO}", "a\x00b", "\ud800"]),
    "day": st.dates(),
    "at": st.integers(-(10**15), 10**15).map(lambda micros: EPOCH + timedelta(microseconds=micros)),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | each for name, each in VALUES.items()}), max_size=12)


@pytest.fixture
def copied(make_database: Callable[..., str]) -> Callable[[pd.DataFrame], list[tuple[Any, ...]]]:
    """Return a function that copies a frame into a table of `TYPES` and returns what is in it, in order."""
    dsn = make_database("binary_rows")

    def copy_in(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
        rows = BinaryRows(TYPES)
        with psycopg.connect(dsn) as conn:
            conn.execute("SET TIME ZONE 'Asia/Kathmandu'")
            columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
            conn.execute(f"CREATE TEMP TABLE target (place int GENERATED ALWAYS AS IDENTITY, {columns})".encode())
            with conn.cursor().copy(
                f"COPY target ({', '.join(rows.columns)}) FROM STDIN (FORMAT BINARY)".encode()
            ) as copy:
                copy.write(rows.encode(frame))
            return conn.execute(f"SELECT {', '.join(TYPES)} FROM target ORDER BY place".encode()).fetchall()

    return copy_in


@given(rows=ROWS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_copied_in_comes_back_equal(
    copied: Callable[[pd.DataFrame], list[tuple[Any, ...]]], rows: list[dict[str, Any]]
) -> None:
    """Every type at its limits, NULL in any place, texts as PostgreSQL can hold them."""
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in TYPES})
    frame["at"] = pd.to_datetime(frame["at"], utc=True).astype("datetime64[us, UTC]")

    expected = [
        tuple(storable_text(value) if isinstance(value, str) else value for value in row.values())
        for row in ({name: row[name] for name in TYPES} for row in rows)
    ]
    assert copied(frame) == expected


def test_columns_of_numpy_types_are_taken_as_they_are(copied: Callable[[pd.DataFrame], list[tuple[Any, ...]]]) -> None:
    """NaN is NULL, and whole numbers may have become floats beside one."""
    frame = pd.DataFrame(
        {
            "small": np.array([1, -2], dtype=np.int64),
            "name": ["a", None],
            "large": np.array([2**53, np.nan]),
            "score": np.array([0.5, np.nan]),
            "flag": np.array([True, False]),
            "other": pd.Series(["x", "x"], dtype="category"),
            "day": [date(2026, 3, 1), date(1999, 12, 31)],
            "at": np.array(["2026-03-01T00:00:00.000001", "NaT"], dtype="datetime64[us]"),
        }
    )
    assert copied(frame) == [
        (1, "a", 2**53, 0.5, True, "x", date(2026, 3, 1), datetime(2026, 3, 1, microsecond=1, tzinfo=UTC)),
        (-2, None, None, None, False, "x", date(1999, 12, 31), None),
    ]


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        pytest.param("int4", 2**31, "does not fit into int4", id="above an int4"),
        pytest.param("int4", -(2**31) - 1, "does not fit into int4", id="below an int4"),
        pytest.param("int8", 2**63, "does not fit into int8", id="above an int8"),
        pytest.param("int8", 1.5, "not whole", id="half a number"),
        pytest.param("int4", "many", "not a int4", id="a word for a number"),
        pytest.param("float8", float("inf"), "infinite", id="infinity"),
        pytest.param("float8", float("-inf"), "infinite", id="minus infinity"),
        pytest.param("bool", 2, "neither true nor false", id="a number for a flag"),
        pytest.param("text", 7, "not a text", id="a number for a text"),
        pytest.param("date", "soon", "not a date", id="a word for a day"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_by_its_column(kind: str, value: object, why: str) -> None:
    """Rather than bent into its type, or left to the server to stumble over."""
    with pytest.raises(StorageError, match=f"column x: .*{why}"):
        BinaryRows({"x": kind}).encode(pd.DataFrame({"x": [value]}, dtype=object))


def test_a_type_that_nobody_can_encode_is_refused() -> None:
    """At once, not with the first row."""
    with pytest.raises(ValueError, match="jsonb cannot be encoded"):
        BinaryRows({"x": "jsonb"})
