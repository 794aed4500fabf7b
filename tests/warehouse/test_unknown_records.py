"""The figures of syncs where the source's record counts could not be read: unknown, never 0, with a sentence that says why."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg
import pytest

from include.sync_health.record_counts import ALL_READ, CountsRead
from include.warehouse.metric_emissions import MEASURE_SYNCS, claim_window
from include.warehouse.sync_figures import syncs_by_day, syncs_of_days, syncs_of_hours
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.figure_rows import DAY, HOUR, OUTCOME_NUMBERS, START, store_hours, sync_hour
from tests.warehouse.stored_history import store_days

END = START + 48 * HOUR
FIRST = date(2025, 12, 22)


def known(value: float) -> float | None:
    """NaN is None."""
    return None if value != value else value


HIDDEN = {"records_processed": None, **dict.fromkeys(OUTCOME_NUMBERS)}
NO_OUTCOMES = dict.fromkeys(OUTCOME_NUMBERS)
GRANT = CountsRead(known=(), unread="we may not read records_processed; GRANT SELECT (records_processed) ON public.log")


@pytest.mark.parametrize(
    ("unknown", "counts", "coverage", "sentence"),
    [
        pytest.param(
            HIDDEN,
            GRANT,
            (50, 50),
            "How many records were processed is not known of 4 of 8 syncs that ended. Because we may not read "
            "records_processed; GRANT SELECT (records_processed) ON public.log.",
            id="hidden counts, and the grant to give",
        ),
        pytest.param(
            NO_OUTCOMES,
            CountsRead(known=("records_processed",), unread="public.log has no columns records_failed"),
            (100, 50),
            "How many records succeeded or failed is not known of 4 of 8 syncs that ended. Because public.log has no columns "
            "records_failed.",
            id="a log without outcomes",
        ),
        pytest.param(
            HIDDEN,
            ALL_READ,
            (50, 50),
            "How many records were processed is not known of 4 of 8 syncs that ended. They can be read now: the hours of the "
            "last metrics.late_syncs are measured again, and what is older stays as it is (docs/metrics.md).",
            id="counts that were hidden, and can be read since",
        ),
        pytest.param(
            HIDDEN,
            None,
            (50, 50),
            "How many records were processed is not known of 4 of 8 syncs that ended. The next run of "
            "servicetitan_sync_failures says why (docs/metrics.md).",
            id="nobody wrote down why",
        ),
    ],
)
def test_what_is_unknown_is_said_with_what_to_do(
    emptied: psycopg.Connection[Any],
    unknown: dict[str, None],
    counts: CountsRead | None,
    coverage: tuple[float, float],
    sentence: str,
) -> None:
    """Of two hours one could not be read: no sum over both, and the rates of the other."""
    numbers = {"syncs_completed": 3, "syncs_failed": 1, "syncs_clean": 2, "syncs_partial": 1, "records_processed": 40}
    store_hours(emptied, [sync_hour(START, **numbers), sync_hour(START + HOUR, **{**numbers, **unknown})])
    claim_window(emptied, task=MEASURE_SYNCS, window_to=START, now=START, counts=GRANT)
    claim_window(emptied, task=MEASURE_SYNCS, window_to=START + HOUR, now=START, counts=counts)
    claim_window(emptied, task="another", window_to=END, now=START, counts=GRANT)

    found = syncs_of_hours(emptied, start=START, end=END)

    assert (found.clean, found.partial, found.records_successful, found.records_failed) == (None,) * 4
    assert found.records_processed == (None if "records_processed" in unknown else 80)
    assert (found.success_rate, found.strict_success_rate, found.records_per_sync) == (75, 50, 10)
    assert (found.records_coverage, found.outcome_coverage) == coverage
    assert found.unavailable == sentence


def test_hours_without_an_end_lack_nothing(emptied: psycopg.Connection[Any]) -> None:
    """Of no sync the records are 0, whoever may read them."""
    store_hours(emptied, [sync_hour(START, syncs_started=5, syncs_cancelled=2)])

    found = syncs_of_hours(emptied, start=START, end=END)

    assert (found.records_processed, found.clean, found.unavailable) == (0, 0, None)
    assert (found.records_coverage, found.outcome_coverage, found.records_per_sync) == (None, None, None)


def test_days_of_a_log_that_tells_no_outcomes_have_none(emptied: psycopg.Connection[Any]) -> None:
    """It counts what was processed alone; its days are stored with 0 for the rest."""
    unclear = {"syncs_clean": 1, "syncs_partial": 0, "successful": 0, "records_failed": 0, "scored": False}
    ended = {"syncs_completed": 3, "syncs_failed": 2}
    none_failed = {"syncs_failed": 0, "failed_server": 0, "failed_unknown": 0}
    store_days(
        emptied,
        days_frame(
            day_row(FIRST, **unclear, **ended, processed=40),
            day_row(FIRST + DAY, **unclear, **none_failed, timed=0, processed=0),
            day_row(FIRST + 2 * DAY, **ended, syncs_clean=2, syncs_partial=1, processed=40, successful=39),
        ),
    )

    frame = syncs_by_day(emptied, first=FIRST, last=FIRST + 2 * DAY)
    totals = syncs_of_days(emptied, first=FIRST, last=FIRST + 2 * DAY)

    names = ["records_processed", "records_successful", "records_failed", "clean", "partial", "strict_success_rate"]
    assert [list(map(known, row)) for row in frame[names].to_numpy().tolist()] == [
        [40, None, None, None, None, None],
        [0, 0, 0, 1, 0, 100],
        [40, 39, 1, 2, 1, 40],
    ]
    assert frame["outcome_coverage"].tolist() == [0, 100, 100]
    assert (totals.records_processed, totals.records_successful, totals.records_failed) == (80, None, None)
    assert (totals.clean, totals.partial, totals.strict_success_rate) == (None, None, 50)
    assert totals.outcome_coverage == pytest.approx(100 * 6 / 11)
    assert totals.unavailable is not None
    assert totals.unavailable.startswith(
        "How many records succeeded or failed is not known of 5 of 11 syncs that ended."
    )


ODD = {"syncs_clean": 0, "syncs_partial": 0, "successful": 0, "records_failed": 0, "scored": False, "timed": 0}


@pytest.mark.parametrize(
    "ledger",
    [
        pytest.param(True, id="the log told outcomes"),
        pytest.param(None, id="nobody wrote it down: another credential has some"),
    ],
)
def test_one_odd_sync_makes_no_day_unknown(emptied: psycopg.Connection[Any], ledger: bool | None) -> None:
    """It adds nothing to the sums, as everywhere; also where its credential is asked for alone."""
    odd = {**ODD, "syncs_completed": 1, "syncs_failed": 0, "failed_server": 0, "failed_unknown": 0, "processed": 10}
    other = {"syncs_completed": 3, "syncs_failed": 2, "processed": 40, "successful": 39}
    store_days(emptied, days_frame(day_row(FIRST, credential="7", **odd), day_row(FIRST, credential="8", **other)))
    emptied.execute("UPDATE monitoring.quality_day SET tells_outcomes = %s", (ledger,))

    for asked, failed in (({}, 1), ({"credential_id": "7"}, 0)):
        totals = syncs_of_days(emptied, first=FIRST, last=FIRST, **asked)
        frame = syncs_by_day(emptied, first=FIRST, last=FIRST, **asked)
        assert (totals.records_failed, totals.outcome_coverage, totals.unavailable) == (failed, 100, None)
        assert frame["records_failed"].tolist() == [failed]


def test_of_a_day_that_tells_no_outcomes_nothing_is_told_of_them(emptied: psycopg.Connection[Any]) -> None:
    """Also where no record was processed, or no sync completed; and what to do is said of days."""
    store_days(emptied, days_frame(day_row(FIRST, **ODD, syncs_completed=0, syncs_failed=2, processed=0)))
    emptied.execute("UPDATE monitoring.quality_day SET tells_outcomes = false")
    claim_window(emptied, task=MEASURE_SYNCS, window_to=START, now=START, counts=ALL_READ)

    totals = syncs_of_days(emptied, first=FIRST, last=FIRST)

    assert (totals.records_processed, totals.records_failed, totals.strict_success_rate) == (0, None, None)
    assert totals.unavailable == (
        "How many records succeeded or failed is not known of 2 of 2 syncs that ended. They can be read now: compute these "
        "days again (docs/figures.md)."
    )
