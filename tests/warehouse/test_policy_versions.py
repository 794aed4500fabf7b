"""The last policy that was in use is the one to fall back to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.policy_versions import last_good_policy, remember_policy
from tests.warehouse.monitoring_records import MINUTE, NOW


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("policies")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


@pytest.mark.parametrize(
    ("used", "last"),
    [
        pytest.param([], None, id="none was ever used"),
        pytest.param(["a"], "text of a", id="the only one"),
        pytest.param(["a", "b"], "text of b", id="the newer one"),
        pytest.param(["a", "b", "a"], "text of a", id="an old one that is in use again"),
        pytest.param(["b", "a", "a", "b", "b"], "text of b", id="the one used last, not the one seen first"),
    ],
)
def test_the_last_good_policy_is(conn: psycopg.Connection[Any], used: list[str], last: str | None) -> None:
    for place, version in enumerate(used):
        remember_policy(conn, version=version, text=f"text of {version}", now=NOW + place * MINUTE)

    assert last_good_policy(conn) == last


def test_a_version_keeps_its_text_and_its_first_sight(conn: psycopg.Connection[Any]) -> None:
    remember_policy(conn, version="a", text="rules: {}\x00", now=NOW)
    remember_policy(conn, version="a", text="another", now=NOW + MINUTE)
    remember_policy(conn, version="a", text="another", now=NOW - MINUTE)

    rows = conn.execute("SELECT effective, first_seen_at, last_seen_at FROM monitoring.policy_version").fetchall()
    assert rows == [("rules: {}\N{REPLACEMENT CHARACTER}", NOW, NOW + MINUTE)]


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="naive"):
        remember_policy(conn, version="a", text="", now=NOW.replace(tzinfo=None))
