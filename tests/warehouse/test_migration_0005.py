"""Raising a monitoring schema that is in use from revision 0004: a removed key's verdict can be written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import HEAD_REVISION, upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.test_migration_0002 import upgrade_to

INSERT = """
    INSERT INTO monitoring.quality_revision (day, credential_id, data_type, revised_at, verdict_before, verdict_after,
        score_before, processed_after, failed_after, syncs_after, version_after)
    VALUES (%(at)s::date, '7', 'both', %(at)s, %(before)s, %(after)s, 50, 0, 0, 0, 2)
"""


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database("revision_0005")


def revisions(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return all there is of each."""
    return conn.execute("SELECT * FROM monitoring.bi_quality_revisions ORDER BY revision_id").fetchall()


def test_revisions_of_0004_are_there_and_a_key_may_be_absent_after(dsn: str) -> None:
    """What 0004 refuses is stored beside them."""
    upgrade_to(dsn, "0004")
    with connect(dsn) as conn:
        conn.execute(INSERT, {"at": NOW, "before": "absent", "after": "poor"})
        conn.commit()
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(INSERT, {"at": NOW + MINUTE, "before": "poor", "after": "absent"})
        conn.rollback()
        before = revisions(conn)

    assert upgrade(dsn) == ("0004", HEAD_REVISION)

    with connect(dsn) as conn:
        conn.execute(INSERT, {"at": NOW + MINUTE, "before": "poor", "after": "absent"})
        found = revisions(conn)
    assert found[:-1] == before
    assert found[-1][5:7] == ("poor", "absent")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("absent", "absent", id="a key that was never there"),
        pytest.param("poor", "gone", id="a word that nobody knows"),
        pytest.param("gone", "poor", id="a word that nobody knew"),
    ],
)
def test_a_revision_is_still_a_change_between_known_words(dsn: str, before: str, after: str) -> None:
    upgrade(dsn)
    with connect(dsn) as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(INSERT, {"at": NOW, "before": before, "after": after})
