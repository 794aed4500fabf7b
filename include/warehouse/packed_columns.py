"""
Columns of many rows, each as one run of bytes: read by numpy without a loop over rows.

``string_agg(int4send(x), NULL)`` puts each value's binary form (PostgreSQL's type_send functions: big-endian, of fixed
width) behind the one before it. One row comes back, with a buffer per column and nothing between the values. Against
``array_agg``, whose array is gathered first and sent value by value with a length each, the server takes two thirds of the
time and sends half of the bytes; against COPY, which sends a message per row, the client has nothing to do for a row.

Two columns of int4 beside each other share one buffer (`packed_groups`), which takes the server less time than two.

NULL is skipped, so every value must be none: a column that is shorter than the others is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from include.sync_health.errors import SourceError
from include.warehouse.binary_arrays import times_of

Kind = Literal["int2", "int4", "int8", "timestamp", "timestamptz", "uuid"]
"""PostgreSQL's name of the type of a column's values."""

# A UUID travels as its text: 36 characters, as the frames have it.
_SEND: dict[Kind, str] = {
    "int2": "pg_catalog.int2send({})",
    "int4": "pg_catalog.int4send({})",
    "int8": "pg_catalog.int8send({})",
    "timestamp": "pg_catalog.timestamp_send({})",
    "timestamptz": "pg_catalog.timestamptz_send({})",
    "uuid": "pg_catalog.convert_to({}::text, 'UTF8')",
}

_ELEMENTS: dict[Kind, str] = {
    "int2": ">i2",
    "int4": ">i4",
    "int8": ">i8",
    "timestamp": ">i8",
    "timestamptz": ">i8",
    "uuid": "S36",
}


def packed(value: sql.Composable, kind: Kind) -> sql.Composed:
    """Return SQL for a column of values that are never NULL and of the type ``kind``, as one ``bytea``."""
    return sql.SQL("string_agg({}, NULL)").format(sql.SQL(_SEND[kind]).format(value))


def packed_groups(values: Sequence[sql.Composable], kinds: Sequence[Kind]) -> list[sql.Composed]:
    """Return SQL for columns of values, as `packed` does, in fewer buffers: see `unpacked_groups`."""
    return [
        packed(_side_by_side(*values[begin:end]), "int8") if end - begin == 2 else packed(values[begin], kinds[begin])
        for begin, end in _groups(kinds)
    ]


def number_of_groups(kinds: Sequence[Kind]) -> int:
    """Return how many buffers `packed_groups` makes of columns of these kinds."""
    return sum(1 for _ in _groups(kinds))


def unpacked_groups(
    buffers: Sequence[bytes | None], kinds: Sequence[Kind], *, names: Sequence[str], rows: int | None = None
) -> list[NDArray[Any]]:
    """
    Return the values of each column of `packed_groups`.

    Raises:
        SourceError: as `unpacked` does.
    """
    columns: list[NDArray[Any]] = []
    for buffer, (begin, end) in zip(buffers, _groups(kinds), strict=True):
        if end - begin == 1:
            columns.append(unpacked(buffer, kinds[begin], name=names[begin], rows=rows))
        else:
            both = unpacked(
                buffer, "int4", name=" and ".join(names[begin:end]), rows=None if rows is None else 2 * rows
            )
            columns += [both[0::2], both[1::2]]
    return columns


def _groups(kinds: Sequence[Kind]) -> Iterator[tuple[int, int]]:
    """Yield from where to where each buffer's columns go: two int4 together, all others alone."""
    begin = 0
    while begin < len(kinds):
        end = begin + 2 if tuple(kinds[begin : begin + 2]) == ("int4", "int4") else begin + 1
        yield begin, end
        begin = end


def _side_by_side(high: sql.Composable, low: sql.Composable) -> sql.Composed:
    # As bytes, an int8 is its upper half and then its lower one.
    return sql.SQL("((({})::int8 << 32) | (({})::int8 & 4294967295))").format(high, low)


def unpacked(buffer: bytes | None, kind: Kind, *, name: str, rows: int | None = None) -> NDArray[Any]:
    """
    Return the values of a `packed` column in the machine's byte order, UUIDs as objects; None (no rows) is an empty one.

    Args:
        rows: how many there have to be; None: as many as there are.

    Raises:
        SourceError: ``invalid``: there are fewer, or more, which means that a value was NULL or of another type.
    """
    element = np.dtype(_ELEMENTS[kind])
    size = 0 if buffer is None else len(buffer)
    found = size // element.itemsize
    if size % element.itemsize or (rows is not None and found != rows):
        wanted = "whole values" if rows is None else f"{rows} values"
        raise SourceError(
            f"column {name}: {size} bytes are not {wanted} of type {kind}; some of its rows are NULL", cause="invalid"
        )
    values: NDArray[Any] = np.frombuffer(buffer or b"", dtype=element)
    if kind == "uuid":
        return values.astype("U36").astype(object)
    return values.astype(element.newbyteorder("="))


def unpacked_times(buffer: bytes | None, *, name: str, rows: int | None = None) -> NDArray[np.datetime64]:
    """
    Return a `packed` column of timestamps as ``datetime64[us]`` in UTC, NaT for ``infinity`` and ``-infinity``.

    Raises:
        SourceError: as `unpacked` does.
    """
    return times_of(unpacked(buffer, "timestamptz", name=name, rows=rows))
