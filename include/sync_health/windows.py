"""
Which instant a run judges by, and whether it may speak.

``as_of``, the window's end, is the only "now" that rules know; the wall clock serves only `run_mode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from include.sync_health.errors import RequestError

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of our clock a window may end: two machines' clocks never agree exactly."""


class RunMode(StrEnum):
    """LIVE moves alerts and sends; HISTORICAL only writes history."""

    LIVE = "live"
    HISTORICAL = "historical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The half-open window (start, as_of] of one evaluation; both aware."""

    start: datetime
    as_of: datetime


def resolve_window(
    *,
    window_end: str | None,
    interval: tuple[datetime | None, datetime | None],
    run_after: datetime,
    usual_length: timedelta,
    by_hand_at: datetime | None = None,
) -> Window:
    """
    Return the window of a run, from the first of these that there is.

    1. the Param ``window_end`` (ISO 8601 with an offset or ``Z``), with the usual length before it;
    2. ``by_hand_at``, unfloored, where the data interval is only what Airflow inferred from it;
    3. the data interval, if it is not empty (scheduled and backfill runs, and one by hand that names its interval);
    4. ``run_after`` as it stands, unfloored, with the usual length before it (a run by hand without a logical date).

    Args:
        window_end: the Param.
        interval: the run's data interval; aware.
        run_after: when the run was due; aware.
        usual_length: of the check's windows.
        by_hand_at: the logical date of a run by hand; None for any other. The UI fills it in with the present moment and
            Airflow infers the last whole interval before it, which the scheduled run has judged already: whoever
            presses the button means now.

    Raises:
        RequestError: ``window_end`` is no instant, or has no offset.
    """
    if window_end:
        as_of = parse_instant(window_end, name="window_end")
        return Window(start=as_of - usual_length, as_of=as_of)
    start, end = interval
    if by_hand_at is not None and end is not None and timedelta(0) <= by_hand_at - end < usual_length:
        return Window(start=by_hand_at - usual_length, as_of=by_hand_at)
    if start is not None and end is not None and start < end:
        return Window(start=start, as_of=end)
    return Window(start=run_after - usual_length, as_of=run_after)


def parse_instant(text: str, *, name: str) -> datetime:
    """Return an aware datetime from ISO 8601 text; `RequestError` names what is wrong with it."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise RequestError(
            f"{name}: {text!r} is no instant; write ISO 8601 with an offset, such as 2026-03-01T12:00:00+00:00"
        ) from None
    if instant.tzinfo is None:
        raise RequestError(f"{name}: {text!r} has no offset; add Z or +00:00 to say which time zone it is in")
    if not 2000 <= instant.year < 9999:
        raise RequestError(f"{name}: {text!r} lies beyond all history; choose an instant from the year 2000 on")
    return instant


def run_mode(*, as_of: datetime, now: datetime, is_backfill: bool, horizon: timedelta) -> RunMode:
    """
    Return whether a run may speak: not a backfill, and ``as_of`` at most ``horizon`` old (inclusive).

    Raises:
        RequestError: ``as_of`` lies in the future by more than `CLOCK_SKEW`: nothing can be judged there yet.
    """
    if as_of - now > CLOCK_SKEW:
        raise RequestError(f"window_end {as_of.isoformat()} lies in the future; it is now {now.isoformat()}")
    if is_backfill or now - as_of > horizon:
        return RunMode.HISTORICAL
    return RunMode.LIVE
