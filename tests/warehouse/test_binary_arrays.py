"""Arrays in PostgreSQL's binary form become numpy arrays, and anything else is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from include.sync_health.errors import SourceError
from include.warehouse.binary_arrays import decode_array, decode_texts, decode_times, raw_row

UUID = "3922f9f2-79a0-8a67-085f-4fc4335ba27d"


@pytest.fixture
def fetched(make_database: Callable[..., str]) -> Callable[[str], bytes | None]:
    """Return a function that evaluates one expression over ``generate_series(1, 3) AS n``."""
    dsn = make_database("arrays")

    def fetch(expression: str) -> bytes | None:
        with psycopg.connect(dsn) as conn:
            cursor = conn.cursor(binary=True).execute(f"SELECT {expression} FROM generate_series(1, 3) AS n".encode())
            return raw_row(cursor)[0]

    return fetch


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        pytest.param("array_agg(n::int2)", [1, 2, 3], id="int2"),
        pytest.param("array_agg(n::int4 - 2)", [-1, 0, 1], id="int4, negative ones too"),
        pytest.param("array_agg(n::int8 * 3000000000)", [3 * 10**9, 6 * 10**9, 9 * 10**9], id="int8"),
        pytest.param("array_agg(n::float8 / 4)", [0.25, 0.5, 0.75], id="float8"),
        pytest.param(f"array_agg('{UUID}'::uuid::text)", [UUID] * 3, id="UUIDs as text"),
        pytest.param("array_agg(n) FILTER (WHERE n > 3)", [], id="no rows"),
    ],
)
def test_fixed_width_elements_are_decoded(
    fetched: Callable[[str], bytes | None], expression: str, values: list[object]
) -> None:
    """Values come in order and in the machine's own byte order."""
    decoded = decode_array(fetched(expression), name="x")
    assert decoded.tolist() == values
    assert decoded.dtype.isnative


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_times_are_utc_microseconds_and_endless_ones_are_not_times(
    fetched: Callable[[str], bytes | None], kind: str
) -> None:
    """Both kinds store the same microseconds; the sentinels become NaT."""
    expression = f"array_agg((array['1969-12-31 23:59:59.999999', 'infinity', '-infinity']::{kind}[])[n])"
    times = decode_times(fetched(expression), name="t")
    assert str(times[0]) == "1969-12-31T23:59:59.999999"
    assert np.isnat(times).tolist() == [False, True, True]


def test_texts_keep_null_and_every_character(fetched: Callable[[str], bytes | None]) -> None:
    """JSON carries what a delimiter would break on."""
    expression = "json_agg((array[NULL, E'a\\n\"b\"\\t{{x}}', 'é€😀'])[n])"
    assert decode_texts(fetched(expression)) == [None, 'a\n"b"\t{{x}}', "é€😀"]
    assert decode_texts(None) == []


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("array_agg(nullif(n, 2))", id="a NULL among the elements"),
        pytest.param("array_agg('ab'::text)", id="a text that is no UUID"),
        pytest.param("array_agg(n::float4)", id="a type we do not ask for"),
        pytest.param("array_agg(array[n, n])", id="two dimensions"),
        pytest.param("max(n)", id="no array at all"),
    ],
)
def test_anything_else_is_refused(fetched: Callable[[str], bytes | None], expression: str) -> None:
    """A wrong answer must never be read as numbers."""
    with pytest.raises(SourceError, match="column credential") as refused:
        decode_array(fetched(expression), name="credential")
    assert refused.value.cause == "invalid"


def test_a_uuid_s_text_has_the_width_that_the_decoder_expects() -> None:
    """36 characters, whatever the UUID."""
    assert {len(str(uuid.UUID(int=n))) for n in (0, 1, 2**128 - 1)} == {36}


def test_several_rows_are_no_answer(make_database: Callable[..., str]) -> None:
    """Statements of aggregates return one row."""
    with (
        psycopg.connect(make_database("rows")) as conn,
        pytest.raises(SourceError, match="one row"),
    ):
        raw_row(conn.cursor(binary=True).execute("SELECT generate_series(1, 2)"))
