"""A revision is a verdict that changed, and nothing else is."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.quality_revisions import JUDGED_COLUMNS, REVISION_COLUMNS, day_verdicts, revisions
from include.sync_health.rule_policies import DataQualityPolicy

DAY = date(2026, 3, 1)
POLICY = DataQualityPolicy()  # more than 20 % is poor, less than 10 % is good, more than 10 records


def row(credential: str = "7", *, processed: int = 100, failed: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the numbers of a day."""
    score = 100 * (processed - failed) / processed if processed else np.nan
    return {
        "day": DAY,
        "credential_id": credential,
        "data_type": "both",
        "quality_score": score,
        "records_processed": processed,
        "records_failed": failed,
        "syncs_total": 3,
        "calc_version": 2,
        **changes,
    }


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return days."""
    return pd.DataFrame(list(rows), columns=list(JUDGED_COLUMNS))


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        pytest.param({"processed": 0}, "unknown", id="nothing processed"),
        pytest.param({"processed": 10, "failed": 10}, "unknown", id="ten records are too few"),
        pytest.param({"processed": 11, "failed": 11}, "poor", id="eleven are enough"),
        pytest.param({"processed": 100, "quality_score": np.nan}, "unknown", id="counts that contradict themselves"),
        pytest.param({"processed": 1000, "failed": 201}, "poor", id="just more than a fifth failed"),
        pytest.param({"processed": 1000, "failed": 200}, "fair", id="exactly a fifth is not more"),
        pytest.param({"processed": 1000, "failed": 100}, "fair", id="exactly a tenth is not less"),
        pytest.param({"processed": 1000, "failed": 99}, "good", id="just less than a tenth"),
        pytest.param({"processed": 10**12, "failed": 2 * 10**11 + 1}, "poor", id="one record in a million million"),
    ],
)
def test_a_day_is_called_by_the_thresholds_of_the_rule(numbers: dict[str, Any], word: str) -> None:
    assert day_verdicts(frame(row(**numbers)), policy=POLICY).tolist() == [word]


def test_a_changed_verdict_is_told_with_both_sides() -> None:
    """And what did not change, or is gone, is not."""
    before = frame(row("7", failed=30, calc_version=1), row("8"), row("9"))
    after = frame(row("7", failed=5, syncs_total=4), row("8", failed=1), row("10"))

    found = revisions(before, after, policy=POLICY)

    assert tuple(found.columns) == REVISION_COLUMNS
    first, second = found.to_dict("records")
    assert first == {
        "day": DAY,
        "credential_id": "7",
        "data_type": "both",
        "verdict_before": "poor",
        "verdict_after": "good",
        "score_before": 70.0,
        "score_after": 95.0,
        "processed_before": 100,
        "processed_after": 100,
        "failed_before": 30,
        "failed_after": 5,
        "syncs_before": 3,
        "syncs_after": 4,
        "version_before": 1,
        "version_after": 2,
    }
    assert (second["credential_id"], second["verdict_before"], second["verdict_after"]) == ("10", "absent", "good")
    assert pd.isna(second["processed_before"])


def test_another_version_of_the_same_numbers_is_no_revision() -> None:
    """It was computed again, and says the same."""
    assert revisions(frame(row(calc_version=1)), frame(row(calc_version=2)), policy=POLICY).empty


def test_nothing_is_no_revision() -> None:
    assert revisions(frame(), frame(), policy=POLICY).empty
    assert revisions(frame(row()), frame(), policy=POLICY).empty


def test_a_frame_that_lacks_a_column_is_refused() -> None:
    with pytest.raises(FrameError, match="syncs_total"):
        revisions(frame(row()).drop(columns="syncs_total"), frame(row()), policy=POLICY)


@st.composite
def days(draw: st.DrawFn) -> pd.DataFrame:
    """Return some days of some credentials, their numbers around the thresholds."""
    rows = []
    for credential in draw(st.sets(st.sampled_from("abcd"))):
        processed = draw(st.sampled_from([0, 10, 11, 100, 1000]))
        rows.append(row(credential, processed=processed, failed=draw(st.integers(0, processed))))
    return frame(*rows)


@given(before=days(), after=days())
@settings(max_examples=60, deadline=None)
def test_there_is_a_revision_exactly_where_the_words_differ(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """A key that was not there was absent."""
    old = dict(zip(before["credential_id"], day_verdicts(before, policy=POLICY), strict=True))
    new = dict(zip(after["credential_id"], day_verdicts(after, policy=POLICY), strict=True))
    expected = {(key, old.get(key, "absent"), word) for key, word in new.items() if word != old.get(key, "absent")}
    found = revisions(before, after, policy=POLICY)
    assert set(zip(found["credential_id"], found["verdict_before"], found["verdict_after"], strict=True)) == expected
    assert len(found) == len(expected)
