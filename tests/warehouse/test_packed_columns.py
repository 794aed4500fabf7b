"""Columns packed into bytes become numpy arrays, and what does not fit its rows is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from include.simulation.postgres import EmbeddedPostgres
from include.sync_health.errors import SourceError
from include.warehouse.binary_arrays import counts_of, raw_row, raw_row_in_one_call
from include.warehouse.packed_columns import (
    Kind,
    number_of_groups,
    packed,
    packed_groups,
    unpacked,
    unpacked_groups,
    unpacked_times,
)

UUID = "3922f9f2-79a0-8a67-085f-4fc4335ba27d"

Fetch = Callable[..., bytes | None]


@pytest.fixture
def fetched(make_database: Callable[..., str]) -> Fetch:
    """Return a function that packs an expression over ``generate_series(1, 3) AS n`` and fetches it."""
    dsn = make_database("packed")

    def fetch(expression: str, kind: Kind, condition: str = "") -> bytes | None:
        column = packed(sql.SQL(f"({expression})"), kind)
        statement = sql.SQL("SELECT {} FROM generate_series(1, 3) AS n " + condition).format(column)
        with psycopg.connect(dsn) as conn:
            return raw_row(conn.cursor(binary=True).execute(statement))[0]

    return fetch


@pytest.mark.parametrize(
    ("expression", "kind", "values"),
    [
        pytest.param("n::int2", "int2", [1, 2, 3], id="int2"),
        pytest.param("n::int4 - 2", "int4", [-1, 0, 1], id="int4, negative ones too"),
        pytest.param("n::int8 * 3000000000", "int8", [3 * 10**9, 6 * 10**9, 9 * 10**9], id="int8"),
        pytest.param(f"'{UUID}'::uuid", "uuid", [UUID] * 3, id="UUIDs as text"),
    ],
)
def test_values_come_in_order_and_in_the_machines_byte_order(
    fetched: Fetch, expression: str, kind: str, values: list[object]
) -> None:
    """Nothing stands between them."""
    found = unpacked(fetched(expression, kind), cast("Kind", kind), name="x", rows=3)

    assert found.tolist() == values
    assert found.dtype.isnative


@pytest.mark.parametrize("kind", ["int2", "int4", "int8", "uuid"])
def test_no_rows_are_an_empty_column(fetched: Fetch, kind: str) -> None:
    """PostgreSQL aggregates nothing to NULL."""
    value = f"'{UUID}'::uuid" if kind == "uuid" else f"n::{kind}"

    assert len(unpacked(fetched(value, kind, "WHERE n > 3"), cast("Kind", kind), name="x", rows=0)) == 0


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_times_are_utc_microseconds_and_endless_ones_are_not_times(fetched: Fetch, kind: str) -> None:
    """Both kinds have one binary form; the sentinels become NaT."""
    times = unpacked_times(
        fetched(f"(array['1969-12-31 23:59:59.999999', 'infinity', '-infinity']::{kind}[])[n]", kind), name="t", rows=3
    )

    assert str(times[0]) == "1969-12-31T23:59:59.999999"
    assert np.isnat(times).tolist() == [False, True, True]


INT4 = st.integers(-(2**31), 2**31 - 1)


@pytest.fixture(scope="module")
def session(postgres_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A session that only computes."""
    with psycopg.connect(postgres_server.create_database("groups"), autocommit=True) as conn:
        yield conn
    postgres_server.drop_database("groups")


@given(
    st.lists(st.sampled_from(["int4", "int8", "int2"]), min_size=1, max_size=5),
    st.data(),
)
def test_columns_come_back_whatever_shares_a_buffer(
    session: psycopg.Connection[Any], kinds: list[Kind], data: st.DataObject
) -> None:
    """The lower half of two may be negative, and each the smallest of its type."""
    of_kind = {"int2": st.integers(-(2**15), 2**15 - 1), "int4": INT4, "int8": st.integers(-(2**63), 2**63 - 1)}
    rows = data.draw(st.lists(st.tuples(*(of_kind[kind] for kind in kinds)), max_size=4))
    names = [f"c{place}" for place in range(len(kinds))]
    table = sql.SQL("(SELECT {} FROM unnest({}) WITH ORDINALITY AS t ({}, n) ORDER BY n)").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Literal([row[place] for row in rows]), sql.SQL(f"{kind}[]"))
            for place, kind in enumerate(kinds)
        ),
        sql.SQL(", ").join(map(sql.Identifier, names)),
    )
    groups = packed_groups([sql.Identifier(name) for name in names], kinds)
    statement = sql.SQL("SELECT {} FROM {} AS t").format(sql.SQL(", ").join(groups), table)
    buffers = raw_row(session.cursor(binary=True).execute(statement))

    found = unpacked_groups(buffers, kinds, names=names, rows=len(rows))

    assert len(groups) == number_of_groups(kinds)
    assert [column.tolist() for column in found] == [[row[place] for row in rows] for place in range(len(kinds))]


def test_two_of_four_bytes_share_a_buffer_and_nothing_else_does() -> None:
    """Else the test above would hold of what never shares any."""
    assert number_of_groups(["int4", "int4", "int4", "int8", "int4", "int4"]) == 4


@pytest.mark.parametrize(("kind", "smallest"), [("int4", -(2**31)), ("int8", -(2**63))])
def test_the_smallest_count_stands_for_none(fetched: Fetch, kind: str, smallest: int) -> None:
    """A count below zero is told as it is."""
    found = counts_of(
        unpacked(fetched(f"(array[7, -1, {smallest}]::{kind}[])[n]", kind), cast("Kind", kind), name="x", rows=3)
    )

    assert found[:2].tolist() == [7.0, -1.0]
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("expression", "kind", "rows"),
    [
        pytest.param("nullif(n, 2)", "int4", 3, id="a NULL among them, which is skipped"),
        pytest.param("n::int2", "int4", 3, id="half as wide as they should be"),
        pytest.param("n", "int4", 2, id="more than there are rows"),
    ],
)
def test_a_column_that_does_not_fit_its_rows_is_refused(fetched: Fetch, expression: str, kind: str, rows: int) -> None:
    """Or values would go to the wrong rows."""
    sent = "int2" if "int2" in expression else kind

    with pytest.raises(SourceError, match="column credential_id: ") as caught:
        unpacked(fetched(expression, sent), cast("Kind", kind), name="credential_id", rows=rows)

    assert caught.value.cause == "invalid"


def test_one_call_gives_what_a_cursor_gives(make_database: Callable[..., str]) -> None:
    """Parameters are quoted, whatever they hold, and errors are psycopg's own."""
    statement = b"SELECT string_agg(convert_to(%(text)s::text, 'UTF8'), NULL) FROM generate_series(1, %(n)s) AS n"
    parameters = {"text": "O'Brien; \\ % ü", "n": 2}
    with psycopg.connect(make_database("one_call"), autocommit=True) as conn:
        by_cursor = raw_row(conn.cursor(binary=True).execute(statement, parameters))

        assert raw_row_in_one_call(conn, statement, parameters) == by_cursor == [("O'Brien; \\ % ü" * 2).encode()]
        with pytest.raises(psycopg.errors.DivisionByZero):
            raw_row_in_one_call(conn, b"SELECT 1 / %(n)s", {"n": 0})
        with pytest.raises(SourceError, match="one row"):
            raw_row_in_one_call(conn, b"SELECT n FROM generate_series(1, %(n)s) AS n", {"n": 2})
