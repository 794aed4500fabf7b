"""
Columns as the bytes of PostgreSQL's ``COPY ... FROM STDIN (FORMAT BINARY)``, without a loop over rows.

Columns of text go first and everything of a fixed width after them: a text is turned into its field once per distinct
value, the rest of a row is one element of a numpy array, of a layout of its own for each set of columns that are NULL.
The format: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Set
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.errors import StorageError
from include.warehouse.stored_values import storable_text

HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
END = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)

TEXT = "text"
WIDTHS = {"int4": ">i4", "int8": ">i8", "float8": ">f8", "bool": "u1", "date": ">i4", "timestamptz": ">i8"}
"""numpy type by the name of each type of a fixed width, as PostgreSQL sends it."""

POSTGRES_EPOCH = np.datetime64("2000-01-01", "us")
"""From which PostgreSQL counts its dates and timestamps."""

MOST_FIXED = 63
"""A bit each tells whether it is NULL, in a 64-bit number."""

Values = NDArray[Any]
Flags = NDArray[np.bool_]


class BinaryRows:
    """
    Encodes frames of the same columns; remembers the texts that it has seen.

    ``columns`` is the order of the columns in the bytes, for the COPY statement.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        """
        Take the type of each column: ``text`` or one of `WIDTHS`.

        Raises:
            ValueError: another type, or more than 63 columns of a fixed width.
        """
        if unknown := sorted({kind for kind in types.values() if kind != TEXT and kind not in WIDTHS}):
            raise ValueError(f"types: {', '.join(unknown)} cannot be encoded; known are {TEXT}, {', '.join(WIDTHS)}")
        self._texts = tuple(name for name, kind in types.items() if kind == TEXT)
        self._fixed = {name: kind for name, kind in types.items() if kind != TEXT}
        self._fields = _TextFields()
        if len(self._fixed) > MOST_FIXED:
            raise ValueError(f"types: {len(self._fixed)} columns of a fixed width, at most {MOST_FIXED} can be encoded")
        self.columns = (*self._texts, *self._fixed)

    def encode(self, frame: pd.DataFrame) -> bytes:
        """
        Return all rows of a frame, in their order, as one whole stream.

        NaN, NaT and None become NULL, whatever the type. Texts pass `storable_text`. A ``timestamptz`` without a zone is
        in UTC.

        Args:
            frame: has the columns; others are ignored. Whole numbers may come as floats or objects.

        Raises:
            StorageError: a value is none of its column's type: out of its range, not whole, infinite, not a text.
        """
        if frame.empty:
            return HEAD + END
        pieces = [[struct.pack(">h", len(self.columns))] * len(frame)]
        for name in self._texts:
            values = frame[name].astype(object)
            found = values.where(values.notna(), None).tolist()
            try:
                pieces.append(list(map(self._fields.__getitem__, found)))
            except TypeError:
                raise StorageError(f"column {name}: a value is not a text") from None
        if self._fixed:
            pieces.append(_tails({name: _fixed(frame[name], kind) for name, kind in self._fixed.items()}, self._fixed))
        return b"".join(chain((HEAD,), chain.from_iterable(zip(*pieces, strict=True)), (END,)))


class _TextFields(dict[str | None, bytes]):
    """The field of each text: its length in bytes, and it; made when it is first asked for."""

    def __missing__(self, text: str | None) -> bytes:
        if text is None:
            field = NULL
        elif isinstance(text, str):
            stored = storable_text(text).encode()
            field = struct.pack(">i", len(stored)) + stored
        else:
            raise TypeError
        self[text] = field
        return field


def _tails(columns: Mapping[str, tuple[Values, Flags]], types: Mapping[str, str]) -> list[bytes]:
    """Return the fixed-width fields of each row, from the values of each column and where they are NULL."""
    sometimes = [name for name, (_, is_null) in columns.items() if is_null.any()]
    count = len(next(iter(columns.values()))[0])
    if not sometimes:
        return _packed(columns, types, frozenset(), slice(None), count)
    bits = np.zeros(count, dtype=np.int64)
    for place, name in enumerate(sometimes):
        bits |= columns[name][1].astype(np.int64) << place
    tails = np.empty(count, dtype=object)
    for pattern in np.unique(bits).tolist():
        rows = np.flatnonzero(bits == pattern)
        missing = frozenset(name for place, name in enumerate(sometimes) if pattern >> place & 1)
        tails[rows] = _packed(columns, types, missing, rows, len(rows))
    found: list[bytes] = tails.tolist()
    return found


def _packed(
    columns: Mapping[str, tuple[Values, Flags]], types: Mapping[str, str], missing: Set[str], rows: Any, count: int
) -> list[bytes]:
    """Return the fields of some rows that lack the same columns."""
    layout: list[tuple[str, str]] = []
    for name in columns:
        layout.append((f"{name} width", ">i4"))
        if name not in missing:
            layout.append((name, WIDTHS[types[name]]))
    packed = np.empty(count, dtype=layout)
    for name, (values, _) in columns.items():
        packed[f"{name} width"] = -1 if name in missing else packed.dtype[name].itemsize
        if name not in missing:
            packed[name] = values[rows]
    tails: list[bytes] = packed.view(f"V{packed.dtype.itemsize}").tolist()
    return tails


def _fixed(column: pd.Series, kind: str) -> tuple[Values, Flags]:
    """Return the values of a column as numpy's, whatever stands where they are missing, and where they are."""
    is_null = column.isna().to_numpy(bool)
    try:
        if kind in ("date", "timestamptz"):
            return _moments(column, kind, is_null)
        if kind == "bool":
            return _flags(column, is_null)
        if kind == "float8":
            numbers = column.to_numpy(np.float64, na_value=np.nan)
            if np.isinf(numbers).any():
                raise StorageError(f"column {column.name}: a number is infinite")
            return numbers, is_null
        return _whole(column, kind, is_null)
    except (TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"column {column.name}: a value is not a {kind}: {error}") from error


def _moments(column: pd.Series, kind: str, is_null: Flags) -> tuple[Values, Flags]:
    if kind == "date":
        codes, distinct = pd.factorize(column.astype(object))  # few: numpy takes a microsecond for each
        days = np.array([*distinct, None], dtype="datetime64[D]")[codes]
        return (days - POSTGRES_EPOCH.astype("datetime64[D]")).astype(np.int64), is_null
    times = column.to_numpy(dtype="datetime64[us]")  # of a column with a zone, in UTC
    return (times - POSTGRES_EPOCH).astype(np.int64), is_null


def _flags(column: pd.Series, is_null: Flags) -> tuple[Values, Flags]:
    filled = column.astype(object).where(~is_null, False)
    if column.dtype.kind != "b" and not all(isinstance(each, bool | np.bool_) for each in filled):
        raise StorageError(f"column {column.name}: a value is neither true nor false")
    return filled.to_numpy(bool), is_null


def _whole(column: pd.Series, kind: str, is_null: Flags) -> tuple[Values, Flags]:
    given = column.to_numpy() if column.dtype.kind in "iu" and not is_null.any() else column.astype(object).to_numpy()
    if is_null.any():
        given = np.where(is_null, 0, given)
    if given.dtype.kind == "O":
        # Python's whole numbers have no limit and its floats may have a fraction: both would be bent silently.
        whole = [int(each) for each in given]
        if any(number != each for number, each in zip(whole, given, strict=True)):
            raise StorageError(f"column {column.name}: a number is not whole")
        lowest, highest = min(whole), max(whole)
    else:
        lowest, highest = int(given.min()), int(given.max())
    limits = np.iinfo(WIDTHS[kind].replace(">", ""))
    if lowest < limits.min or highest > limits.max:
        raise StorageError(f"column {column.name}: {lowest} to {highest} does not fit into {kind}")
    return np.asarray(given, dtype=np.int64), is_null
