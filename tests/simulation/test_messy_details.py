"""What the generated Hub Plus writes of its fields, read as the monitor reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.simulation.messy_details import (
    API_DETAILS,
    HOSTILE_DETAILS,
    REJECTIONS,
    failure_details,
    rejection_details,
    run_number,
)
from include.sync_health.field_quality import REQUIRED_FIELDS, SyncDetail, read_details
from include.sync_health.frames import DETAIL_TEXT_LIMIT


def read(error_details: Any, metadata: Any = None, *, data_type: str = "customers") -> SyncDetail:
    documents = [None if each is None else json.dumps(each) for each in (error_details, metadata)]
    # As the reader of the source does: what is too large stays there.
    texts = ["null" if text is None else "true" if len(text) > DETAIL_TEXT_LIMIT else text for text in documents]
    return read_details(f"[{', '.join(texts)}]", error_message=None, data_type=data_type)


@pytest.mark.parametrize("data_type", ["customers", "invoices", "both"])
@pytest.mark.parametrize("rejected", [0, 1, 17])
def test_every_rejected_record_is_told_in_every_shape(data_type: str, rejected: int) -> None:
    """As many as were rejected, in one required field, whichever column and shape they stand in."""
    told = set()
    field = "name" if data_type == "customers" else "customerId"
    for number in range(3 * 5 * 2 * 7 * len(REJECTIONS)):
        documents = rejection_details(number, data_type=data_type, processed=900, rejected=rejected)
        if documents == (None, None):
            continue
        detail = read(*documents, data_type=data_type)
        assert detail.has_detail
        assert {name: (found.failures, found.missing) for name, found in detail.fields.items()} == (
            {field: (rejected, rejected)} if rejected else {}
        )
        assert detail.missing_required == (rejected if field in REQUIRED_FIELDS[data_type] else 0)
        told.add((json.dumps(documents[0] or documents[1]), documents[0] is None))
    assert len(told) == 2 * (len(REJECTIONS) if rejected else 1)


@pytest.mark.parametrize("place", range(len(API_DETAILS)))
def test_an_error_of_the_api_tells_of_no_record(place: int) -> None:
    """So that it gives no completeness."""
    detail = read(API_DETAILS[place])

    assert not detail.has_detail
    assert not detail.problems


@pytest.mark.parametrize("place", range(len(HOSTILE_DETAILS)))
def test_hostile_details_are_survived(place: int) -> None:
    """With nobody's data in what is kept of them."""
    detail = read(HOSTILE_DETAILS[place])
    kept = " ".join([*detail.fields, *(str(found.sample) for found in detail.fields.values())])

    assert not {"Jane", "Doe", "Elm", "jane.doe", "555"} & set(kept.replace(",", " ").split())
    assert len(kept) < 1_000


def test_a_failed_run_gets_one_of_all() -> None:
    """Each of them, and always the same."""
    found = {json.dumps(failure_details(number)) for number in range(1_000)}

    assert found == {json.dumps(each) for each in (*API_DETAILS, *HOSTILE_DETAILS)}
    assert run_number(3, "customers", "2026-11-26") == run_number(3, "customers", "2026-11-26") != run_number(4)
