"""A platform whose syncs no longer start: at the boundaries, and what must always hold."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.rule_policies import NoSyncsPolicy
from include.sync_health.silence import judge_no_syncs
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, subject, sync_rows
from tests.sync_health.oracle import Row

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUBJECTS = {"1": subject(1), "2": subject(2), "3": subject(3), "8": subject(8, environment="integration")}


def start(ago: timedelta, *, credential: int = 1) -> Row:
    """A run that started so long before AS_OF."""
    at = AS_OF - ago
    return Row(
        id=1,
        credential=credential,
        data_type="both",
        status="running",
        started_at=at,
        completed_at=None,
        updated_at=at,
    )


def busy(hours: int, *, credential: int = 1) -> list[Row]:
    """A start in each of the last so many hours before the two hours of silence, the first of them exactly at their edge."""
    return [start(2 * HOUR + number * HOUR, credential=credential) for number in range(hours)]


def judged(rows: list[Row], **options: object) -> pd.DataFrame:
    known: dict[str, object] = {"subjects": SUBJECTS, "policy": NoSyncsPolicy(), "as_of": AS_OF, **options}
    return judge_no_syncs(runs_frame(rows), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        pytest.param([], "insufficient", id="no run at all tells nothing"),
        pytest.param(busy(20), "breach", id="silent for exactly two hours after twenty busy ones"),
        pytest.param(busy(19), "insufficient", id="nineteen busy hours are too few"),
        pytest.param(busy(24), "breach", id="a day without a pause"),
        pytest.param([*busy(24), start(2 * HOUR - SECOND)], "clear", id="a start just under two hours ago"),
        pytest.param([*busy(24), start(timedelta(0))], "clear", id="a start exactly at as_of"),
        pytest.param([*busy(24), start(-SECOND)], "breach", id="a start in the future is not believed"),
        pytest.param([start(timedelta(0))], "clear", id="a start is a start, however quiet the day before"),
        pytest.param([*busy(19), *busy(19), start(2 * HOUR + 30 * SECOND)], "insufficient", id="two starts in one hour are one busy hour"),
        pytest.param([*busy(19), start(26 * HOUR)], "insufficient", id="a start exactly a day before the silence is outside"),
        pytest.param([*busy(19), start(26 * HOUR - SECOND)], "breach", id="one just within that day is its last busy hour"),
        pytest.param([*busy(24), start(HOUR, credential=8)], "breach", id="the sandbox does not break production's silence"),
        pytest.param([*busy(24), start(HOUR, credential=99)], "breach", id="nor does a credential that was deleted"),
        pytest.param(busy(24, credential=8), "insufficient", id="nor does it make production a busy one"),
    ],
)  # fmt: skip
def test_when_silence_is_told(rows: list[Row], verdict: str) -> None:
    """No start in (as_of - 2 h, as_of], although 20 of the 24 hours before had one."""
    assert list(judged(rows)["verdict"]) == [verdict]


@pytest.mark.parametrize(
    ("rows", "subjects", "verdict"),
    [
        pytest.param([start(20 * HOUR)], SUBJECTS, "breach", id="a day into the silence no hour is busy, and it stays told"),
        pytest.param([], SUBJECTS, "breach", id="also when no run is left to read"),
        pytest.param([start(HOUR)], SUBJECTS, "clear", id="the first start ends it"),
        pytest.param([start(HOUR, credential=8)], SUBJECTS, "breach", id="but not one of the sandbox"),
        pytest.param([], {"8": SUBJECTS["8"]}, "removed", id="without a credential nobody can start"),
    ],
)  # fmt: skip
def test_how_an_open_alert_ends(rows: list[Row], subjects: dict, verdict: str) -> None:
    """Only by a start."""
    assert list(judged(rows, subjects=subjects, open_environments={"production"})["verdict"]) == [verdict]


def test_words() -> None:
    """How long, and where."""
    found = judged([*busy(24)], as_of=AS_OF + HOUR / 4).iloc[0]

    assert found["title"] == "No ServiceTitan Syncs"
    assert found["message"] == "No ServiceTitan sync has started for 2 hours 15 minutes (production)"
    assert found["metadata"] == {"environment": "production", "last_started_at": "2026-03-10T10:00:00+00:00"}
    assert found["evidence"] == {
        "last_started_at": "2026-03-10T10:00:00+00:00",
        "silent_seconds": 8100,
        "busy_hours": 24,
    }
    assert (found["severity"], found["environment"], found["identity"]) == (
        "high",
        "production",
        {"environment": "production"},
    )


def test_words_when_nothing_is_left_to_read() -> None:
    """No more is said than what was looked at shows."""
    found = judged([], open_environments={"production"}).iloc[0]

    assert found["message"] == "No ServiceTitan sync has started for at least 1 day 2 hours (production)"
    assert found["metadata"]["last_started_at"] is None


def test_each_environment_has_its_own_silence() -> None:
    """Both are judged where the policy watches both."""
    policy = NoSyncsPolicy(environments=("production", "integration"))
    found = judged([*busy(24), start(HOUR, credential=8)], policy=policy)

    assert dict(zip(found["environment"], found["verdict"], strict=True)) == {
        "integration": "clear",
        "production": "breach",
    }


@given(rows=sync_rows())
def test_the_order_of_rows_does_not_matter(rows: list[Row]) -> None:
    """A frame is a set."""
    pd.testing.assert_frame_equal(judged(rows), judged(list(reversed(rows))))


@given(rows=sync_rows(), ago=st.integers(0, 7199))
def test_a_start_within_the_window_always_clears(rows: list[Row], ago: int) -> None:
    """Whatever else there is, open or not."""
    found = judged([*rows, start(timedelta(seconds=ago))], open_environments={"production"})

    assert list(found["verdict"]) == ["clear"]


@given(rows=sync_rows())
def test_a_told_silence_stays_told_or_is_clear(rows: list[Row]) -> None:
    """Nothing but a start may end it while there are credentials."""
    before, after = judged(rows), judged(rows, open_environments={"production"})

    assert after.iloc[0]["verdict"] == ("clear" if before.iloc[0]["verdict"] == "clear" else "breach")


def test_what_is_refused() -> None:
    """A missing column is named; a naive instant is not guessed at."""
    with pytest.raises(FrameError, match="started_at"):
        judge_no_syncs(runs_frame([]).drop(columns="started_at"), subjects={}, policy=NoSyncsPolicy(), as_of=AS_OF)
    with pytest.raises(ValueError, match="timezone-aware"):
        judged([], as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
