"""Raising a monitoring schema that is in use from revision 0007: zeros of counts that were never read become unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from include.warehouse.metric_emissions import newest_counts, newest_emission
from include.warehouse.migration import HEAD_REVISION, upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import HOUR, NOW
from tests.warehouse.test_migration_0002 import upgrade_to

HOUR_OF_0007 = """
    INSERT INTO monitoring.sync_hour VALUES (%(hour)s, 'production', 'both', 5, %(completed)s, %(clean)s, %(partial)s,
        %(failed)s, 1, 0, 0, %(processed)s, %(successful)s, %(lost)s, '{}', %(hour)s)
"""

Hour = tuple[int | None, ...]
"""Completed, failed, clean and partial syncs; records processed, successful and failed."""

Gauge = tuple[int, int | None, int | None]
"""Records in all, valid and invalid ones."""

FULL: Hour = (3, 1, 2, 1, 40, 39, 1)
STARTS_ALONE: Hour = (0, 0, 0, 0, 0, 0, 0)
WITHOUT_RECORDS: Hour = (3, 1, 3, 0, 0, 0, 0)
WITHOUT_OUTCOMES: Hour = (3, 1, 1, 0, 40, 0, 0)


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A database at revision 0007."""
    dsn = make_database("revision_0008")
    upgrade_to(dsn, "0007")
    return dsn


def store(conn: psycopg.Connection[Any], hours: list[Hour]) -> None:
    """Store hours, one after the other, as the release before did."""
    names = ("completed", "failed", "clean", "partial", "processed", "successful", "lost")
    for number, hour in enumerate(hours):
        conn.execute(HOUR_OF_0007, {"hour": NOW + number * HOUR, **dict(zip(names, hour, strict=True))})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([FULL, STARTS_ALONE], [FULL, STARTS_ALONE], id="hours that could be read stay as they are"),
        pytest.param(
            [FULL, WITHOUT_RECORDS],
            [FULL, WITHOUT_RECORDS],
            id="so does one without records, where others have some: it may be true",
        ),
        pytest.param(
            [WITHOUT_RECORDS, STARTS_ALONE],
            [(3, 1, None, None, None, None, None), STARTS_ALONE],
            id="where no hour has a record, the counts were never read",
        ),
        pytest.param(
            [WITHOUT_OUTCOMES, STARTS_ALONE],
            [(3, 1, None, None, 40, None, None), STARTS_ALONE],
            id="where no hour has a record that succeeded or failed, the log tells no outcomes",
        ),
        pytest.param(
            [FULL, WITHOUT_OUTCOMES],
            [FULL, WITHOUT_OUTCOMES],
            id="where others have some, its syncs may have come to nothing",
        ),
        pytest.param([], [], id="nothing was measured yet"),
    ],
)
def test_zeros_that_cannot_be_true_become_unknown(dsn: str, before: list[Hour], after: list[Hour]) -> None:
    with connect(dsn) as conn:
        store(conn, before)
        conn.commit()

    assert upgrade(dsn) == ("0007", HEAD_REVISION)

    with connect(dsn) as conn:
        found = conn.execute(
            "SELECT syncs_completed, syncs_failed, syncs_clean, syncs_partial, records_processed, records_successful,"
            " records_failed FROM monitoring.sync_hour ORDER BY hour"
        ).fetchall()
        others = conn.execute("SELECT DISTINCT syncs_started, syncs_cancelled FROM monitoring.sync_hour").fetchall()
    assert found == after
    assert others == ([(5, 1)] if before else [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([(40, 0, 0), (0, 0, 0)], [(40, None, None), (0, 0, 0)], id="a log that tells no outcomes"),
        pytest.param([(40, 0, 0), (40, 0, 40)], [(40, 0, 0), (40, 0, 40)], id="a log that tells them"),
    ],
)
def test_gauges_and_claims_go_on(dsn: str, before: list[Gauge], after: list[Gauge]) -> None:
    """A score of 0 of a log that tells no outcomes is gone; what the last run could read nobody wrote down."""
    with connect(dsn) as conn:
        for credential, counts in enumerate(before):
            conn.execute(
                "INSERT INTO monitoring.quality_gauge VALUES ('production', '1', %s, 'both', %s, %s, %s, %s)",
                (str(credential), NOW, *counts),
            )
        conn.execute(
            "INSERT INTO monitoring.metric_emission VALUES ('measure_syncs', %(at)s, %(at)s, %(at)s)", {"at": NOW}
        )
        conn.commit()

    upgrade(dsn)

    with connect(dsn) as conn:
        assert (
            conn.execute("SELECT total, valid, invalid FROM monitoring.quality_gauge ORDER BY credential_id").fetchall()
            == after
        )
        newest = newest_emission(conn, task="measure_syncs")
        assert newest is not None
        assert (newest.window_to, newest.remembered_from, newest.counts) == (NOW, NOW, None)
        assert newest_counts(conn) is None


def test_0007_refuses_what_is_unknown(dsn: str) -> None:
    """And 0008 takes it."""
    hour: Hour = (3, 1, None, None, None, None, None)
    with connect(dsn) as conn, pytest.raises(psycopg.errors.NotNullViolation):
        store(conn, [hour])
    upgrade(dsn)
    with connect(dsn) as conn:
        store(conn, [hour])
        with pytest.raises(psycopg.errors.CheckViolation):
            store(conn, [STARTS_ALONE, (3, 1, -1, 0, 0, 0, 0)][1:])
