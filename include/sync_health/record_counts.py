"""
Whether the record counts of syncs are known, and what to say where they are not.

The source's log may lack the columns, or our role their GRANT. What rests on such a count is unavailable then, which is not 0.
A single sync without a number, in a column that can be read, is another matter: it adds nothing to a sum.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

RECORDS = ("records_processed", "records_successful", "records_failed")
"""The counts of a sync's records."""

OUTCOMES = ("records_successful", "records_failed")
"""Those that tell what became of the records; a source has both or neither."""

READ_SINCE = (
    "They can be read now: the hours of the last metrics.late_syncs are measured again, and what is older stays as it is "
    "(docs/metrics.md)."
)
READ_SINCE_BY_DAY = "They can be read now: compute these days again (docs/figures.md)."
NOT_SAID = "The next run of servicetitan_sync_failures says why (docs/metrics.md)."


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsRead:
    """
    Which record counts a run could read.

    Args:
        known: those of `RECORDS`.
        unread: why the others could not be read, and what to do: the end of a sentence, without its dot. None: all were.
    """

    known: tuple[str, ...] = RECORDS
    unread: str | None = None


ALL_READ = CountsRead()


def tells_outcomes(known: Collection[str]) -> bool:
    """Return whether these counts tell how many records succeeded and failed."""
    return set(OUTCOMES) <= set(known)


def unavailable_sentence(
    *, ended: int, counted: int, judged: int, newest: CountsRead | None, of_days: bool
) -> str | None:
    """
    Return what stands in place of numbers that rest on counts nobody could read; None where all could be read.

    Args:
        ended: completed and failed syncs.
        counted: of those, the ones whose processed records are known.
        judged: of those, the ones of which is known how many records succeeded and failed.
        newest: which counts the newest run could read; None: nobody wrote it down.
        of_days: of days of the daily quality, not of hours.
    """
    if counted < ended:
        what = f"How many records were processed is not known of {ended - counted:,} of {ended:,} syncs that ended."
    elif judged < ended:
        what = f"How many records succeeded or failed is not known of {ended - judged:,} of {ended:,} syncs that ended."
    else:
        return None
    if newest is None:
        return f"{what} {NOT_SAID}"
    if newest.unread is not None:
        return f"{what} Because {newest.unread}."
    return f"{what} {READ_SINCE_BY_DAY if of_days else READ_SINCE}"
