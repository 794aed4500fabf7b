"""Any value becomes JSON that PostgreSQL stores; the quick way to it and the careful one say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.stored_values import storable, storable_json

NOON = datetime(2026, 3, 10, 12, tzinfo=timezone(timedelta(hours=2)))


class Word(StrEnum):
    """Words as our rows have them."""

    FIRST = "first"


def json_of(value: Any) -> str:
    """What is sent for a ``jsonb`` parameter."""
    sent = storable_json(value)
    assert sent.dumps is not None
    return str(sent.dumps(sent.obj))


ODD_TEXTS = st.sampled_from(["", "\0", "\ud800", "\ud83d\ude00", "a\\u0000", '","true":', "😀", "é", "\u2028"])
TEXTS = st.text(max_size=5) | ODD_TEXTS
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.datetimes(timezones=st.just(UTC))
    | st.sampled_from([Word.FIRST, np.int64(3), np.float64("nan"), np.bool_(True), pd.NaT, pd.Timestamp(NOON)])
)
KEYS = TEXTS | st.integers() | st.booleans() | st.none() | st.just(Word.FIRST)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(TEXTS, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3).map(MappingProxyType)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def shared_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """An empty database, for all examples."""
    yield postgres_server.create_database("stored_values")
    postgres_server.drop_database("stored_values")


@settings(max_examples=500)
@given(VALUES)
def test_the_quick_way_says_what_the_careful_one_does(value: Any) -> None:
    """And what cannot be encoded is not in it."""
    text = json_of(value)

    assert json.loads(text) == json.loads(json.dumps(storable(value), ensure_ascii=False, allow_nan=False))
    text.encode()


@settings(max_examples=50)
@given(values=st.lists(VALUES, min_size=20, max_size=20))
def test_postgresql_takes_it(shared_database: str, values: list[Any]) -> None:
    """Whatever it is made of."""
    with psycopg.connect(shared_database) as conn:
        row = conn.execute("SELECT %s", (storable_json(values),)).fetchone()
    assert row is not None
    assert len(row[0]) == len(values)


@pytest.mark.parametrize("value", [NOON.replace(tzinfo=None), {"at": [NOON.replace(tzinfo=None)]}])
def test_a_naive_time_is_refused_at_once(value: Any) -> None:
    """Before anything is sent: it would be read in the session's time zone."""
    with pytest.raises(ValueError, match="is naive"):
        storable_json(value)
