"""What the daily aggregates say of the records' fields, and of what could not be used."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.sync_health.daily_syncs import BELIEVED, DAY, Sync, aggregated, day_of, frame_of, noon, sync

LACKS_TWO_NAMES = '[{"fields": {"name": {"missing": 2}, "email": {"invalid": 3}}},null]'
LACKS_ALL = '[{"fields": {"id": {"missing": 2147483647}, "name": {"missing": 2147483647}}},null]'


@pytest.mark.parametrize(
    ("syncs", "told"),
    [
        pytest.param([sync(10, 10, 0)], (0, 0, 0, None), id="without detail nothing is invented"),
        pytest.param([sync(10, 8, 2, details=LACKS_TWO_NAMES)], (1, 10, 2, 90.0), id="two of twenty required fields"),
        pytest.param(
            [sync(10, 8, 2, details=LACKS_TWO_NAMES), sync(90, 90, 0)],
            (1, 10, 2, 90.0),
            id="a sync without detail does not dilute it",
        ),
        pytest.param(
            [sync(10, 8, 2, details=LACKS_TWO_NAMES), sync(30, 28, 2, details=LACKS_TWO_NAMES)],
            (2, 40, 4, 95.0),
            id="sums, not the mean of the syncs",
        ),
        pytest.param(
            [sync(10, 8, 2, details=LACKS_TWO_NAMES, status="failed", is_cancelled=True)],
            (0, 0, 0, None),
            id="a cancelled sync tells nothing",
        ),
        pytest.param([sync(2**62, 2**62, 0, details=LACKS_TWO_NAMES)], (0, 0, 0, None), id="nor do a huge number's"),
        pytest.param(
            [sync(BELIEVED, 0, BELIEVED, details=LACKS_ALL)] * 3,
            (3, 3 * BELIEVED, 6 * BELIEVED, 0.0),
            id="the most that is believed",
        ),
        pytest.param(
            [sync(5, 0, 5, details=LACKS_ALL)], (1, 5, 10, 0.0), id="no more can be missing than there are records"
        ),
        pytest.param([sync(10, 8, 2, details="[true,null]")], (0, 0, 0, None), id="nor do details that were too large"),
    ],
)
def test_completeness(syncs: list[Sync], told: tuple[int, int, int, float | None]) -> None:
    """Of the required fields of customers, id and name, over the syncs that tell."""
    (row,) = aggregated(*(replace(each, data_type="customers") for each in syncs))

    names = ("syncs_with_detail", "records_with_detail", "missing_required", "completeness")
    assert tuple(row[name] for name in names) == told


def test_a_data_type_without_required_fields_of_its_own_has_no_completeness() -> None:
    """Nobody knows which records of a sync of both are customers."""
    (row,) = aggregated(sync(10, 8, 2, details=LACKS_TWO_NAMES, data_type="both"))

    assert (row["syncs_with_detail"], row["completeness"]) == (1, None)


def test_the_fields_go_with_the_days() -> None:
    """One row per field that failed, under the key of its day."""
    syncs = [sync(10, 8, 2, details=LACKS_TWO_NAMES, data_type="customers"), sync(10, 10, 0, data_type="invoices")]
    found = day_of(frame_of(syncs)).fields

    columns = ["day", "credential_id", "data_type", "field", "is_required", "syncs", "failures", "missing", "share"]
    assert found[columns].values.tolist() == [
        [DAY, "1", "customers", "email", False, 1, 3, 0, 30.0],
        [DAY, "1", "customers", "name", True, 1, 2, 2, 20.0],
    ]


def test_syncs_with_a_huge_count_are_told() -> None:
    """Each once, where its counts would have counted; its details have no number of records."""
    huge = sync(2**62, 2**62, -(2**62))
    syncs = [
        huge,
        replace(huge, status="failed"),
        replace(huge, details=LACKS_TWO_NAMES, data_type="customers"),
        replace(huge, status="running"),
        replace(huge, status="failed", is_cancelled=True),
        replace(huge, completed_at=noon(DAY + timedelta(days=1))),
        sync(10, 8, 2),
    ]

    assert dict(day_of(frame_of(syncs)).problems) == {"huge_count": 3, "unknown_records": 1}
    assert dict(day_of(frame_of(syncs[-1:])).problems) == {}
