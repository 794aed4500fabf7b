"""Which instant a run judges by, and whether it may speak."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.sync_health.errors import RequestError
from include.sync_health.windows import CLOCK_SKEW, RunMode, Window, resolve_window, run_mode

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ODD = datetime(2026, 3, 10, 12, 7, 31, 5, tzinfo=UTC)
TICK, HOUR, SECOND = timedelta(minutes=15), timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("window_end", "interval", "expected"),
    [
        pytest.param(None, (NOON - TICK, NOON), Window(start=NOON - TICK, as_of=NOON), id="a data interval"),
        pytest.param(None, (NOON, NOON), Window(start=ODD - TICK, as_of=ODD), id="an empty interval is none"),
        pytest.param(None, (None, None), Window(start=ODD - TICK, as_of=ODD), id="a run by hand ends where it stands"),
        pytest.param("", (None, None), Window(start=ODD - TICK, as_of=ODD), id="an empty Param is none"),
        pytest.param(
            "2026-03-10T13:00:00+01:00",
            (NOON - HOUR, NOON - HOUR + TICK),
            Window(start=NOON - TICK, as_of=NOON),
            id="the Param wins over the interval",
        ),
        pytest.param("2026-03-10T12:00:00Z", (None, None), Window(start=NOON - TICK, as_of=NOON), id="Z is an offset"),
    ],
)
def test_the_window(window_end: str | None, interval: tuple, expected: Window) -> None:
    """Param, else data interval, else run_after."""
    assert resolve_window(window_end=window_end, interval=interval, run_after=ODD, usual_length=TICK) == expected


@pytest.mark.parametrize(
    ("by_hand_at", "interval", "as_of"),
    [
        pytest.param(ODD, (NOON - TICK, NOON), ODD, id="the button means now, not the interval that Airflow infers"),
        pytest.param(NOON, (NOON - TICK, NOON), NOON, id="`airflow dags test` at NOON ends at NOON"),
        pytest.param(ODD, (NOON - HOUR, NOON - TICK), NOON - TICK, id="an interval named by hand is taken as it is"),
        pytest.param(ODD, (None, None), ODD, id="without an interval the run's own time counts"),
    ],
)
def test_a_run_by_hand(by_hand_at: datetime, interval: tuple, as_of: datetime) -> None:
    """Its logical date, unless it names an interval of its own."""
    window = resolve_window(window_end=None, interval=interval, run_after=ODD, usual_length=TICK, by_hand_at=by_hand_at)

    assert window.as_of == as_of
    assert window.start < as_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("noon", "is no instant", id="no time at all"),
        pytest.param("2026-03-10T12:00:00", "has no offset", id="a naive time is not guessed at"),
        pytest.param("0001-01-01T00:00:00Z", "lies beyond all history", id="the first year there is"),
    ],
)
def test_a_wrong_param_is_named(text: str, words: str) -> None:
    """With its value and what to write."""
    with pytest.raises(RequestError, match=f"window_end: '{text}' {words}"):
        resolve_window(window_end=text, interval=(None, None), run_after=ODD, usual_length=TICK)


@pytest.mark.parametrize(
    ("age", "is_backfill", "mode"),
    [
        pytest.param(timedelta(0), False, RunMode.LIVE, id="just now"),
        pytest.param(6 * HOUR, False, RunMode.LIVE, id="exactly at the horizon"),
        pytest.param(6 * HOUR + SECOND, False, RunMode.HISTORICAL, id="past the horizon"),
        pytest.param(-CLOCK_SKEW, False, RunMode.LIVE, id="ahead by as much as clocks disagree"),
        pytest.param(timedelta(0), True, RunMode.HISTORICAL, id="a backfill, however recent"),
    ],
)
def test_who_may_speak(age: timedelta, is_backfill: bool, mode: RunMode) -> None:
    """LIVE: no backfill, and at most the horizon old."""
    assert run_mode(as_of=NOON - age, now=NOON, is_backfill=is_backfill, horizon=6 * HOUR) is mode


def test_the_future_cannot_be_judged() -> None:
    """It says what time it is."""
    with pytest.raises(RequestError, match="lies in the future"):
        run_mode(as_of=NOON + CLOCK_SKEW + SECOND, now=NOON, is_backfill=False, horizon=6 * HOUR)
