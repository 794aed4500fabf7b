"""What credentials and the quality of data say as metrics: their state at an instant, at every edge."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from include.sync_health.metric_contract import CREDENTIAL_STATUSES
from include.sync_health.policy import MonitoringLevel
from include.sync_health.record_counts import RECORDS
from include.sync_health.sync_metrics import (
    QUALITY_COLUMNS,
    STATUS_COLUMNS,
    credential_samples,
    quality_samples,
    quality_totals,
)
from tests.sync_health.frames_of import AS_OF, credentials_frame
from tests.sync_health.oracle_metrics import Sync, frame_of, told

WINDOW = timedelta(minutes=15)
STANDARD, MINIMAL = MonitoringLevel.STANDARD, MonitoringLevel.MINIMAL
NAMES = (1, 2)  # credentials in production, of the companies 1001 and 1002


def sync(*, number: int, ended: timedelta = timedelta(minutes=1), **values: Any) -> Sync:
    """Return a completed sync of credential 1 that ended so long before `AS_OF`."""
    end = AS_OF - ended
    values = {"status": "completed", "credential": 1, "data_type": "both"} | values
    return Sync(id=number, started_at=end, completed_at=end, updated_at=end, **values)


def state(*rows: tuple[str, str, str, str], tokens: list[datetime | None] | None = None) -> pd.DataFrame:
    """Return credentials at an instant."""
    frame = pd.DataFrame(rows, columns=list(STATUS_COLUMNS[:4]), dtype=object)
    expires = pd.Series(pd.to_datetime(pd.Series(tokens or [None] * len(rows), dtype=object), utc=True))
    return frame.assign(token_expires_at=expires.astype("datetime64[us, UTC]"))


def two(first: str = "active", second: str = "active", *, tokens: list[datetime | None] | None = None) -> pd.DataFrame:
    """Return two credentials with these statuses."""
    return state(("1", "production", "1001", first), ("2", "production", "1002", second), tokens=tokens)


STATUS, EXPIRY = "servicetitan.credentials.status", "servicetitan.credentials.token_expiry_seconds"


def test_a_credential_has_one_for_its_status() -> None:
    """And nothing more, while nothing is known of before."""
    samples = told(credential_samples(two("active", "error"), as_of=AS_OF, level=STANDARD))

    assert samples == {
        (STATUS, ("production", "active", "1001")): [1],
        (STATUS, ("production", "error", "1002")): [1],
    }


@pytest.mark.parametrize(
    ("told_before", "zeros"),
    [
        pytest.param([("1", "production", "1001", "active")], [], id="nothing changed: nothing is 0"),
        pytest.param(
            [("1", "production", "1001", "error")], [("production", "error", "1001")], id="the old status is 0"
        ),
        pytest.param(
            [("1", "production", "77", "active")], [("production", "active", "77")], id="so is that of another company"
        ),
        pytest.param([("9", "integration", "", "error")], [("integration", "error", "unknown")], id="and of one gone"),
        pytest.param(
            [("9", "production", "1001", "active")], [], id="but not where another credential has these labels now"
        ),
    ],
)
def test_the_old_labels_of_a_credential_are_told_zero(
    told_before: list[tuple[str, str, str, str]], zeros: list[tuple[str, ...]]
) -> None:
    """StatsD keeps a gauge until it is told another value."""
    samples = told(
        credential_samples(two("active", "pending"), as_of=AS_OF, level=STANDARD, before=state(*told_before))
    )

    assert [key[1] for key, values in samples.items() if key[0] == STATUS and values == [0]] == zeros
    assert samples[STATUS, ("production", "active", "1001")] == [1]


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [
        pytest.param(AS_OF + timedelta(minutes=10), 600, id="so long it lasts"),
        pytest.param(AS_OF - timedelta(days=2), -172_800, id="negative once it has expired"),
        pytest.param(AS_OF, 0, id="0 in that very second"),
        pytest.param(None, None, id="absent without a token"),
    ],
)
def test_a_token_says_how_long_it_lasts(expires: datetime | None, seconds: float | None) -> None:
    """In seconds from as_of."""
    samples = told(credential_samples(two(tokens=[expires, None]), as_of=AS_OF, level=STANDARD))

    assert samples.get((EXPIRY, ("production", "active", "1001"))) == (None if seconds is None else [seconds])
    assert (EXPIRY, ("production", "active", "1002")) not in samples


def test_minimal_numbers_credentials_and_tells_the_least_time_left() -> None:
    """A status that nobody has any more is told 0 once."""
    tokens: list[datetime | None] = [AS_OF + timedelta(minutes=10), AS_OF + timedelta(minutes=2)]
    samples = told(
        credential_samples(
            two(tokens=tokens),
            as_of=AS_OF,
            level=MINIMAL,
            before=state(("1", "production", "1001", "error"), ("2", "production", "1002", "active")),
        )
    )

    assert samples == {
        (STATUS, ("production", "active")): [2],
        (STATUS, ("production", "error")): [0],
        (EXPIRY, ("production", "active")): [120],
    }


def test_a_status_that_the_source_does_not_know_is_unknown() -> None:
    """Anything may stand in a column without a CHECK, and a label must not."""
    samples = told(credential_samples(two("<b>,=", "connected"), as_of=AS_OF, level=STANDARD))

    assert {key[1][1] for key in samples} == {"unknown", "connected"}


def test_the_statuses_of_the_contract_are_those_that_the_source_knows() -> None:
    """The contract is imported where pandas is not."""
    from include.sync_health.credential_facts import KNOWN_STATUSES

    assert sorted(CREDENTIAL_STATUSES) == sorted(KNOWN_STATUSES)


def totals(rows: list[Sync]) -> pd.DataFrame:
    """Return the records of the window."""
    return quality_totals(frame_of(rows), credentials_frame(NAMES), since=AS_OF - WINDOW, as_of=AS_OF)


def test_quality_is_of_the_records_of_completed_and_failed_syncs() -> None:
    """Cancelled ones are left out; what is unknown is none; the window is open at its beginning."""
    rows = [
        sync(number=1, records_processed=100, records_successful=90, records_failed=10),
        sync(number=2, status="failed", records_processed=20, records_successful=5, records_failed=15),
        sync(number=3, status="cancelled", records_processed=7, records_successful=7, records_failed=0),
        sync(number=4, records_processed=None, records_successful=None, records_failed=None),
        sync(number=5, ended=WINDOW, records_processed=1000, records_successful=0, records_failed=1000),
        sync(number=6, credential=2, data_type="invoices", records_processed=0, records_successful=0),
    ]
    found = totals(rows)

    assert list(found.itertuples(index=False, name=None)) == [
        ("1", "production", "1001", "both", 120, 95, 25),
        ("2", "production", "1002", "invoices", 0, 0, 0),
    ]
    name = "servicetitan.data_quality."
    first, second = ("production", "both", "1001"), ("production", "invoices", "1002")
    assert told(quality_samples(found, level=STANDARD)) == {
        (f"{name}total_records", first): [120],
        (f"{name}valid_records", first): [95],
        (f"{name}invalid_records", first): [25],
        (f"{name}score", first): [100 * 95 / 120],
        (f"{name}total_records", second): [0],
        (f"{name}valid_records", second): [0],
        (f"{name}invalid_records", second): [0],
    }


def test_minimal_sums_records_and_makes_the_score_of_the_sums() -> None:
    """A mean of scores would be wrong."""
    rows = pd.DataFrame(
        [("1", "production", "1001", "both", 100, 100, 0), ("2", "production", "1002", "both", 300, 0, 300)],
        columns=list(QUALITY_COLUMNS),
    )

    samples = told(quality_samples(rows, level=MINIMAL))

    assert samples["servicetitan.data_quality.score", ("production", "both")] == [25]
    assert samples["servicetitan.data_quality.total_records", ("production", "both")] == [400]


QUALITY = "servicetitan.data_quality."


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(
            RECORDS, {"total_records": 30, "valid_records": 25, "invalid_records": 5, "score": 100 * 25 / 30}, id="all"
        ),
        pytest.param(("records_processed",), {"total_records": 30}, id="what was processed alone: no score of 0"),
        pytest.param((), {}, id="none: no series, and no 0"),
    ],
)
@pytest.mark.parametrize("level", [STANDARD, MINIMAL])
def test_what_cannot_be_read_is_absent(
    known: tuple[str, ...], expected: dict[str, float], level: MonitoringLevel
) -> None:
    """Whatever the frame holds in its place."""
    counts = {"records_processed": 15, "records_successful": 10, "records_failed": 5}
    more = {"records_processed": 15, "records_successful": 15, "records_failed": 0}
    frame = frame_of([sync(number=1, **counts), sync(number=2, **more)])
    frame = frame.assign(**{name: float("nan") for name in RECORDS if name not in known})
    found = quality_totals(frame, credentials_frame(NAMES), since=AS_OF - WINDOW, as_of=AS_OF, known=known)

    samples = told(quality_samples(found, level=level, known=known))

    assert samples == {
        (f"{QUALITY}{name}", ("production", "both", *(["1001"] if level is STANDARD else []))): [value]
        for name, value in expected.items()
    }


def test_a_sum_with_an_unknown_part_is_absent() -> None:
    """Where a level drops the company, the rest of them would be told as all."""
    rows = pd.DataFrame(
        [("1", "production", "1001", "both", 100, 100, 0), ("2", "production", "1002", "both", 300, None, None)],
        columns=list(QUALITY_COLUMNS),
    )

    assert told(quality_samples(rows, level=MINIMAL)) == {(f"{QUALITY}total_records", ("production", "both")): [400]}


@pytest.mark.parametrize(
    ("known", "zeros"),
    [
        pytest.param(RECORDS, {"total", "valid", "invalid"}, id="all that can be read"),
        pytest.param(("records_processed",), {"total"}, id="what cannot be read is no 0 either"),
        pytest.param((), set(), id="nor is anything where nothing can"),
    ],
)
def test_of_what_is_gone_only_known_counts_are_told_0(known: tuple[str, ...], zeros: set[str]) -> None:
    """Beside what is still there, at the level that sums them."""
    gone = pd.DataFrame([("1", "production", "1001", "both", 5, 4, 1)], columns=list(QUALITY_COLUMNS))

    samples = told(quality_samples(totals([]), level=MINIMAL, gone=gone, known=known))

    assert samples == {(f"{QUALITY}{name}_records", ("production", "both")): [0] for name in zeros}


def test_what_has_no_sync_any_more_has_no_records() -> None:
    """Once, so that a gauge of StatsD does not stay where it was; there is no score of nothing."""
    gone = pd.DataFrame([("1", "production", "1001", "both", 5, 4, 1)], columns=list(QUALITY_COLUMNS))

    samples = told(quality_samples(gone.iloc[:0], level=STANDARD, gone=gone))

    assert samples == {
        (f"servicetitan.data_quality.{name}_records", ("production", "both", "1001")): [0]
        for name in ("total", "valid", "invalid")
    }


@pytest.mark.parametrize("level", MonitoringLevel)
def test_nothing_says_nothing(level: MonitoringLevel) -> None:
    """No credential and no sync: no sample, and no 0."""
    assert credential_samples(state(), as_of=AS_OF, level=level) == []
    assert quality_samples(totals([]), level=level) == []
