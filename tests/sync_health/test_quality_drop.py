"""A day's score against the same weekday before: at the boundaries, against the oracle, and what must always hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.observations import Observation
from include.sync_health.quality_drop import judge_quality_drop
from include.sync_health.rule_policies import QualityDropPolicy
from include.sync_health.stored_days import DayRead, StoredDays, judged_day
from include.sync_health.verdicts import Severity
from tests.sync_health import oracle_trends
from tests.sync_health.frames_of import AS_OF, subject
from tests.sync_health.oracle_trends import Day
from tests.sync_health.stored_frames import midnight_utc, stored_days, weeks_of

D = date(2026, 3, 9)  # the Monday before AS_OF
ENDED = midnight_utc(D + timedelta(days=1))
SECOND = timedelta(seconds=1)
SUBJECTS = {str(number): subject(number) for number in range(1, 4)}
KEY = ("1", "invoices")


def today(successful: int | None, processed: int = 1_000, **known: object) -> Day:
    """The day judged."""
    return Day(day=D, successful=successful, processed=processed, is_final=False, **known)  # type: ignore[arg-type]


def scores(*successful: int) -> list[Day]:
    """Final days of a thousand records, the week before first."""
    return [Day(day=D - timedelta(days=7 * weeks), successful=each) for weeks, each in enumerate(successful, start=1)]


def judged(stored: StoredDays, **options: object) -> pd.DataFrame:
    known: dict[str, object] = {
        "subjects": SUBJECTS,
        "policy": QualityDropPolicy(),
        "as_of": AS_OF,
        "timezone": "UTC",
        **options,
    }
    return judge_quality_drop(stored, **known)  # type: ignore[arg-type]


def verdict(days: Sequence[Day], *, read_at: datetime | None = ENDED, **options: object) -> tuple[str, str]:
    """What is said of credential 1's invoices, whose alert is open."""
    ledger = {} if read_at is None else {D: read_at}
    (found,) = Observation.from_frame(judged(stored_days(days, read_at=ledger), open_keys=[KEY], **options))
    return str(found.verdict), str(found.severity)


AT_967 = scores(*[967] * 8)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param([today(917), *AT_967], "band", id="exactly five points is no breach, whatever a quotient says"),
        pytest.param([today(916), *AT_967], "breach", id="more is"),
        pytest.param([today(942), *AT_967], "band", id="exactly half of what would be a drop is not clear"),
        pytest.param([today(943), *AT_967], "clear", id="less is"),
        pytest.param([today(1_000), *AT_967], "clear", id="a better day than usual"),
        pytest.param([today(900), *scores(*[967] * 4)], "breach", id="four days are enough to compare with"),
        pytest.param([today(900), *scores(*[967] * 3)], "insufficient", id="three are not"),
        pytest.param([today(50, 100), *AT_967], "breach", id="a hundred records are enough"),
        pytest.param([today(49, 99), *AT_967], "insufficient", id="ninety-nine are not"),
        pytest.param([today(900), *weeks_of(D, processed=100, successful=100)], "breach", id="nor in an example"),
        pytest.param([today(900), *weeks_of(D, processed=99, successful=99)], "insufficient", id="of fewer records"),
        pytest.param(
            [today(900), *weeks_of(D, is_final=False)], "insufficient", id="days that may change are no examples"
        ),
        pytest.param([today(900), *weeks_of(D, is_vanished=True)], "breach", id="days whose syncs were purged are"),
        pytest.param([today(900), *weeks_of(D, successful=None)], "insufficient", id="days without a score are none"),
        pytest.param([today(900), *weeks_of(D - timedelta(days=1))], "insufficient", id="nor is another weekday"),
        pytest.param([today(900), *weeks_of(D, count=12)[8:]], "insufficient", id="nor what is older than eight weeks"),
        pytest.param([today(None), *AT_967], "no_data", id="a day without a score"),
        pytest.param([*AT_967], "no_data", id="a day without a row"),
        pytest.param([today(900, is_vanished=True), *AT_967], "no_data", id="a day whose syncs are gone"),
        # The median is 950, and half of the examples are 30 points off it: 3 * 1.4826 * 3 = 13.3 points.
        pytest.param([today(817), *scores(980, 980, 950, 950, 920, 920)], "band", id="examples that vary allow more"),
        pytest.param([today(816), *scores(980, 980, 950, 950, 920, 920)], "breach", id="but not any more than that"),
        pytest.param([today(900), *scores(960, 960, 960, 960, 0)], "breach", id="one bad day is not the usual"),
    ],
)
def test_a_day_is_measured_by_its_weekday(days: list[Day], expected: str) -> None:
    """And the oracle says the same."""
    assert verdict(days)[0] == expected
    told = oracle_trends.quality_drop(days, as_of=AS_OF, read_at=ENDED)
    assert told[KEY][0] == expected


@pytest.mark.parametrize(
    ("read_at", "expected"),
    [
        pytest.param(ENDED, "breach", id="read when it ended"),
        pytest.param(ENDED - SECOND, "no_data", id="read a second before"),
        pytest.param(None, "no_data", id="never computed"),
    ],
)
def test_only_a_day_that_was_read_whole_is_judged(read_at: datetime | None, expected: str) -> None:
    """Half a day is no day."""
    assert verdict([today(800), *AT_967], read_at=read_at)[0] == expected


def test_a_day_computed_in_another_zone_is_another_day() -> None:
    """Until it is restated."""
    days = stored_days([today(800), *AT_967])
    for zone, rows in (("UTC", 1), ("America/New_York", 0), (None, 1)):
        stored = replace(days, computed={D: DayRead(read_at=AS_OF, timezone=zone)})
        assert len(judged(stored)) == rows


@pytest.mark.parametrize(
    ("successful", "high_drop", "severity"),
    [
        pytest.param(717, 25.0, Severity.HIGH, id="twenty-five points are high"),
        pytest.param(718, 25.0, Severity.MEDIUM, id="fewer are not"),
        pytest.param(0, None, Severity.MEDIUM, id="or nothing ever is"),
    ],
)
def test_a_deep_drop_is_high(successful: int, high_drop: float | None, severity: Severity) -> None:
    found = verdict([today(successful), *AT_967], policy=QualityDropPolicy(high_drop=high_drop))
    assert found == ("breach", severity)


@pytest.mark.parametrize(
    ("as_of", "zone", "day"),
    [
        pytest.param(datetime(2026, 3, 10, 0, 0, tzinfo=UTC), "UTC", D, id="at midnight the day before is over"),
        pytest.param(datetime(2026, 3, 9, 23, 59, tzinfo=UTC), "UTC", date(2026, 3, 8), id="a minute before it is not"),
        pytest.param(datetime(2026, 3, 10, 3, 59, tzinfo=UTC), "America/New_York", date(2026, 3, 8), id="behind UTC"),
        pytest.param(datetime(2026, 3, 9, 11, 0, tzinfo=UTC), "Pacific/Auckland", D, id="ahead of UTC"),
        pytest.param(
            datetime(2011, 12, 31, 12, 0, tzinfo=UTC), "Pacific/Apia", date(2011, 12, 31), id="where a day was skipped"
        ),
        pytest.param(
            datetime(2011, 12, 30, 12, 0, tzinfo=UTC),
            "Pacific/Apia",
            date(2011, 12, 29),
            id="the day after the skipped one",
        ),
    ],
)
def test_the_day_judged_is_the_last_whole_one_of_the_reporting_zone(as_of: datetime, zone: str, day: date) -> None:
    assert judged_day(as_of, timezone=zone) == day


def test_the_words_and_the_numbers() -> None:
    """As the story words its alerts; nothing is rounded in the metadata."""
    (found,) = Observation.from_frame(judged(stored_days([today(812), *scores(965, 950, 980, 965, 965)])))

    assert found.title == "ServiceTitan Data Quality Drop"
    assert found.message == (
        "ServiceTitan invoices quality for Acme (production) dropped to 81.2% on Monday 2026-03-09, "
        "15.3 points below its usual 96.5%"
    )
    assert (
        found.reason == "81.2% on Monday 2026-03-09 is 15.3 points below the median of 5 Mondays, 96.5%: more than 5.0"
    )
    assert found.identity == {"credential": "1", "data_type": "invoices"}
    assert found.metadata["drop_points"] == pytest.approx(15.3)
    assert (found.metadata["day"], found.metadata["records_processed"]) == ("2026-03-09", 1_000)
    assert found.evidence["days_compared"].split(", ") == [each.day.isoformat() for each in scores(*range(5))]
    assert found.evidence["mad_points"] == 0.0


def test_only_what_somebody_may_hear_of_is_put_into_words() -> None:
    """What is clear, or cannot be judged, is said of open alerts alone; a deleted credential's alert is removed."""
    days = [
        today(960), *AT_967,
        *(replace(each, credential="2") for each in (today(800), *AT_967)),
        *(replace(each, credential="9") for each in (today(800), *AT_967)),
    ]  # fmt: skip
    found = judged(stored_days(days))
    assert [each["credential"] for each in found["identity"]] == ["2"]

    found = judged(stored_days(days), open_keys=[KEY, ("9", "invoices"), ("3", "both")])
    told = {each.credential_id: str(each.verdict) for each in Observation.from_frame(found)}
    assert told == {"1": "clear", "2": "breach", "3": "no_data", "9": "removed"}


def test_what_is_missing_is_an_error() -> None:
    """A column, and a zone."""
    with pytest.raises(FrameError, match="quality_score"):
        StoredDays(rows=stored_days([]).rows.drop(columns="quality_score"))
    with pytest.raises(ValueError, match="aware"):
        judged(stored_days([]), as_of=AS_OF.replace(tzinfo=None))
    assert judged(stored_days([])).empty


@st.composite
def histories(draw: st.DrawFn) -> list[Day]:
    """Days of two credentials around every threshold, some of them missing, young, small or without a score."""
    days = []
    for credential in ("1", "2"):
        base = draw(st.sampled_from((900, 950, 967, 1_000)))
        for weeks in range(10):
            if weeks and draw(st.integers(0, 5)) == 0:
                continue
            off = draw(st.sampled_from((0, 0, 1, -1, 10, 24, 25, 26, 30, 49, 50, 51, 249, 250, 251, 500)))
            processed = draw(st.sampled_from((1_000, 1_000, 1_000, 100, 99, 3_000)))
            successful = min(max(base - off, 0), 1_000) * processed // 1_000
            days.append(
                Day(
                    day=D - timedelta(days=7 * weeks),
                    credential=credential,
                    processed=processed,
                    successful=draw(st.sampled_from((successful,) * 9 + (None,))),
                    is_final=draw(st.sampled_from((True,) * 9 + (False,))),
                    is_vanished=draw(st.integers(0, 19)) == 0,
                )
            )
    return days


def told_of(days: list[Day], *, credential: str | None = None) -> dict[tuple[str, ...], tuple[str, str]]:
    """All verdicts, whoever may hear of them."""
    keys = {(each.credential, each.data_type) for each in days if credential in (None, each.credential)}
    found = Observation.from_frame(judged(stored_days(days, read_at={D: ENDED}), open_keys=keys))
    return {
        tuple(each.identity.values()): (str(each.verdict), str(each.severity))
        for each in found
        if credential in (None, each.credential_id)
    }


@settings(max_examples=100, deadline=None)
@given(days=histories())
def test_it_agrees_with_the_oracle(days: list[Day]) -> None:
    """In exact fractions."""
    assert told_of(days) == oracle_trends.quality_drop(days, as_of=AS_OF, read_at=ENDED)


@settings(max_examples=60, deadline=None)
@given(days=histories(), more=st.integers(0, 500))
def test_a_worse_day_is_never_judged_better(days: list[Day], more: int) -> None:
    """More lost records never turn a breach into anything else, nor what lies between into clear."""
    order = ["clear", "band", "breach"]
    worse = [
        replace(each, successful=max(each.successful - more, 0)) if each.day == D and each.successful else each
        for each in days
    ]
    before, after = told_of(days), told_of(worse)
    for key, (word, _) in before.items():
        if word in order:
            assert order.index(after[key][0]) >= order.index(word)


@settings(max_examples=40, deadline=None)
@given(days=histories(), shuffled=st.randoms(use_true_random=False))
def test_order_and_strangers_change_nothing(days: list[Day], shuffled: object) -> None:
    """The rows come as they come, and another credential's are none of its business."""
    mixed = list(days)
    shuffled.shuffle(mixed)  # type: ignore[attr-defined]
    assert told_of(mixed) == told_of(days)
    alone = [each for each in days if each.credential == "1"]
    assert told_of(alone) == told_of(days, credential="1")
