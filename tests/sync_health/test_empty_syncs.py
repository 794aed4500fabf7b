"""Syncs that bring nothing: at the boundaries, against the oracle, and what must always hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.empty_syncs import judge_empty_syncs
from include.sync_health.errors import FrameError
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import EmptySyncsPolicy
from include.sync_health.stored_days import days_touched
from tests.sync_health import oracle_trends
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, runs_with_counts, subject
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_trends import Day
from tests.sync_health.stored_frames import stored_days, weeks_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = AS_OF.date()
YESTERDAY = TODAY - DAY
SUBJECTS = {str(number): subject(number) for number in range(1, 4)}
KEY = ("1", "invoices")
USUAL = [*weeks_of(TODAY), *weeks_of(YESTERDAY)]
"""Records came on every such day."""


def run(processed: int | None, *, ago: timedelta = HOUR, number: int = 1, **known: object) -> Row:
    """A completed run of credential 1 with so many records, that ended so long before AS_OF."""
    end = AS_OF - ago
    values: dict[str, object] = {
        "id": number,
        "credential": 1,
        "data_type": "invoices",
        "status": "completed",
        "started_at": end - HOUR / 4,
        "completed_at": end,
        "updated_at": end,
        "records_processed": processed,
        **known,
    }
    return Row(**values)  # type: ignore[arg-type]


def empty(count: int) -> list[Row]:
    """So many empty runs, an hour apart."""
    return [run(0, ago=number * HOUR, number=100 - number) for number in range(1, count + 1)]


def judged(rows: Sequence[Row], days: Sequence[Day] = USUAL, **options: object) -> list[Observation]:
    known: dict[str, object] = {
        "stored": stored_days(days),
        "subjects": SUBJECTS,
        "policy": EmptySyncsPolicy(),
        "as_of": AS_OF,
        "timezone": "UTC",
        "open_keys": {},
        **options,
    }
    return Observation.from_frame(judge_empty_syncs(runs_with_counts(rows), **known))  # type: ignore[arg-type]


def few_had(count: int, *, of: int) -> list[Day]:
    """Yesterdays of which so many had records."""
    return [
        replace(each, processed=0 if number > count else 10)
        for number, each in enumerate(weeks_of(YESTERDAY, count=of), start=1)
    ]


@pytest.mark.parametrize(
    ("rows", "days", "expected"),
    [
        pytest.param(empty(3), USUAL, "breach", id="three empty syncs"),
        pytest.param(empty(2), USUAL, "insufficient", id="two prove nothing"),
        pytest.param([*empty(3), run(1, ago=5 * HOUR)], USUAL, "clear", id="one that brought a record"),
        pytest.param([*empty(3), run(1, ago=DAY)], USUAL, "breach", id="a day ago is outside the window"),
        pytest.param([*empty(3), run(1, ago=DAY - SECOND)], USUAL, "clear", id="just under a day is inside"),
        pytest.param([*empty(3), run(1, ago=timedelta(0))], USUAL, "clear", id="so is one that ends at as_of"),
        pytest.param([*empty(3), run(1, ago=-SECOND)], USUAL, "breach", id="what ends later is not known yet"),
        pytest.param([*empty(3), run(None, ago=5 * HOUR)], USUAL, "insufficient", id="an unknown count is not zero"),
        pytest.param([*empty(3), run(-1, ago=5 * HOUR)], USUAL, "insufficient", id="nor is a negative one"),
        pytest.param([run(None)], USUAL, "no_data", id="unknown counts alone"),
        pytest.param([], USUAL, "no_data", id="no sync at all"),
        pytest.param([*empty(3), run(5, status="failed")], USUAL, "breach", id="a failed sync proves nothing"),
        pytest.param([*empty(2), run(0, status="cancelled")], USUAL, "insufficient", id="nor a cancelled one"),
        pytest.param(empty(3), [], "insufficient", id="nobody knows what is usual"),
        pytest.param(empty(3), weeks_of(TODAY), "insufficient", id="of each day that the window touches it must be known"),
        pytest.param(empty(3), weeks_of(YESTERDAY), "insufficient", id="of today too"),
        pytest.param(empty(3), [*weeks_of(TODAY, count=4), *weeks_of(YESTERDAY, count=4)], "breach", id="four days are enough"),
        pytest.param(empty(3), [*weeks_of(TODAY, count=3), *weeks_of(YESTERDAY)], "insufficient", id="three are not"),
        pytest.param(empty(3), [*weeks_of(TODAY, completed=0), *weeks_of(YESTERDAY)], "insufficient", id="days without a completed sync"),
        pytest.param(empty(3), [*weeks_of(TODAY, is_final=False), *weeks_of(YESTERDAY)], "insufficient", id="days that may change"),
        pytest.param(empty(3), [*weeks_of(TODAY), *few_had(6, of=8)], "breach", id="three quarters of the days had records"),
        pytest.param(empty(3), [*weeks_of(TODAY), *few_had(5, of=8)], "insufficient", id="fewer had"),
        pytest.param(empty(3), [*weeks_of(TODAY), *few_had(4, of=5)], "breach", id="four of five"),
    ],
)  # fmt: skip
def test_syncs_that_bring_nothing_where_something_used_to_come(rows: list[Row], days: list[Day], expected: str) -> None:
    """And the oracle says the same."""
    (found,) = judged(rows, days, open_keys={KEY: None})
    assert (str(found.verdict), str(found.severity)) == (expected, "medium")
    assert oracle_trends.empty_syncs(rows, days, as_of=AS_OF).get(KEY, ("no_data",))[0] == expected


@pytest.mark.parametrize(
    ("as_of", "zone", "days"),
    [
        pytest.param(
            datetime(2026, 3, 10, 0, 0, tzinfo=UTC), "UTC", [date(2026, 3, 9)], id="at midnight, the day before"
        ),
        pytest.param(
            datetime(2026, 3, 10, 0, 0, 1, tzinfo=UTC), "UTC", [date(2026, 3, 9), date(2026, 3, 10)], id="then two"
        ),
        pytest.param(
            datetime(2026, 3, 10, 4, 0, tzinfo=UTC), "America/New_York", [date(2026, 3, 9)], id="at a zone's midnight"
        ),
        pytest.param(
            datetime(2026, 3, 9, 4, 0, tzinfo=UTC),
            "America/New_York",
            [date(2026, 3, 7), date(2026, 3, 8)],
            id="a day of 23 hours is shorter than the window",
        ),
    ],
)
def test_the_days_that_a_window_touches(as_of: datetime, zone: str, days: list[date]) -> None:
    assert list(days_touched(DAY, as_of=as_of, timezone=zone)) == days


def test_the_words_and_the_numbers() -> None:
    """Since the last records where they are known, else since the first empty sync."""
    (found,) = judged([*empty(4), run(7, ago=30 * HOUR)])
    assert found.title == "ServiceTitan Syncs Bring Nothing"
    assert found.message == (
        "ServiceTitan invoices syncs for Acme (production) have brought no records for 1 day 6 hours (4 in a row)"
    )
    assert found.metadata["last_records_at"] == (AS_OF - 30 * HOUR).isoformat()
    assert found.metadata["empty_syncs"] == 4
    assert found.reason == (
        "all 4 syncs that completed in the last 24 hours brought none, although records came on 8 of 8 Mondays, "
        "8 of 8 Tuesdays"
    )

    (found,) = judged(empty(4))
    assert "no records for 4 hours (4 in a row)" in found.message
    assert found.metadata["last_records_at"] is None

    (found,) = judged(empty(4), open_keys={KEY: AS_OF - 50 * HOUR})
    assert "no records for 2 days 2 hours (4 in a row)" in found.message


def test_recovery_names_the_newest_sync_with_records() -> None:
    rows = [*empty(3), run(7, ago=30 * HOUR), run(8, ago=9 * HOUR, number=2), run(1, ago=9 * HOUR, number=3)]
    (found,) = judged(rows, open_keys={KEY: None})
    assert found.reason == "the sync that completed at 2026-03-10 03:00 UTC brought 1 record"


def test_only_what_somebody_may_hear_of_is_put_into_words() -> None:
    """A deleted credential's alert is removed, without one nothing is said of it."""
    rows = [*empty(3), *(replace(row, credential=9, id=row.id + 100) for row in empty(3)), run(5, credential=2)]
    days = [*USUAL, *(replace(each, credential="9") for each in USUAL)]
    assert [each.credential_id for each in judged(rows, days)] == ["1"]
    told = {each.credential_id: str(each.verdict) for each in judged(rows, days, open_keys={("9", "invoices"): None})}
    assert told == {"1": "breach", "9": "removed"}


def test_what_is_missing_is_an_error() -> None:
    """The counts, and a zone."""
    known = {
        "stored": stored_days([]),
        "subjects": {},
        "policy": EmptySyncsPolicy(),
        "timezone": "UTC",
        "open_keys": {},
    }
    with pytest.raises(FrameError, match="records_processed"):
        judge_empty_syncs(runs_frame([]), as_of=AS_OF, **known)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="aware"):
        judge_empty_syncs(runs_with_counts([]), as_of=AS_OF.replace(tzinfo=None), **known)  # type: ignore[arg-type]
    found = judge_empty_syncs(runs_with_counts([]), as_of=AS_OF, **known)  # type: ignore[arg-type]
    assert found.empty


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Row], list[Day]]:
    """Runs of two credentials around the edges of the window, nearly all empty, and days that mostly had records."""
    ago = st.sampled_from((timedelta(0), HOUR, 2 * HOUR, 13 * HOUR, DAY - SECOND, DAY, DAY + SECOND, -SECOND))
    rows = [
        run(
            draw(st.sampled_from((0,) * 12 + (None, -1, 1))),
            ago=draw(ago),
            number=number,
            credential=draw(st.integers(1, 2)),
            status=draw(st.sampled_from(("completed",) * 9 + ("failed", "cancelled"))),
        )
        for number in range(1, draw(st.integers(0, 12)) + 1)
    ]
    days = [
        replace(
            each,
            credential=credential,
            processed=draw(st.sampled_from((0, 10, 10, 10))),
            completed=draw(st.sampled_from((24, 24, 24, 0))),
            is_final=draw(st.integers(0, 9)) > 0,
        )
        for credential in ("1", "2")
        for day in (TODAY, YESTERDAY)
        for each in weeks_of(day, count=draw(st.sampled_from((3, 4, 5, 9))))
    ]
    return rows, days


def told_of(rows: list[Row], days: list[Day]) -> dict[tuple[str, ...], tuple[str, str]]:
    """All verdicts, whoever may hear of them."""
    keys = {(str(row.credential), row.data_type): None for row in rows}
    return {
        tuple(each.identity.values()): (str(each.verdict), str(each.severity))
        for each in judged(rows, days, open_keys=keys)
        if each.verdict != "no_data"
    }


@settings(max_examples=100, deadline=None)
@given(world=worlds())
def test_it_agrees_with_the_oracle(world: tuple[list[Row], list[Day]]) -> None:
    """Of each key with a sync whose count is known."""
    rows, days = world
    told = oracle_trends.empty_syncs(rows, days, as_of=AS_OF)
    assert told_of(rows, days) == {key: each for key, each in told.items() if each[0] != "no_data"}


@settings(max_examples=40, deadline=None)
@given(world=worlds(), at=st.integers(0, 11))
def test_fewer_records_never_end_a_breach(world: tuple[list[Row], list[Day]], at: int) -> None:
    """Nor does one more empty sync."""
    rows, days = world
    more = [*rows, run(0, number=99)]
    worse = [replace(row, records_processed=0) if place == at else row for place, row in enumerate(rows)]
    for key, (word, _) in told_of(rows, days).items():
        if word == "breach":
            assert told_of(more, days)[key][0] == "breach"
            assert told_of(worse, days)[key][0] == "breach"


@settings(max_examples=40, deadline=None)
@given(world=worlds(), shuffled=st.randoms(use_true_random=False))
def test_order_and_strangers_change_nothing(world: tuple[list[Row], list[Day]], shuffled: object) -> None:
    """The rows come as they come, and another credential's are none of its business."""
    rows, days = world
    mixed_rows, mixed_days = list(rows), list(days)
    shuffled.shuffle(mixed_rows)  # type: ignore[attr-defined]
    shuffled.shuffle(mixed_days)  # type: ignore[attr-defined]
    told = told_of(rows, days)
    assert told_of(mixed_rows, mixed_days) == told
    alone = told_of([row for row in rows if row.credential == 1], [each for each in days if each.credential == "1"])
    assert alone == {key: each for key, each in told.items() if key[0] == "1"}
