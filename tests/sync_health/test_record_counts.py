"""What is said in place of numbers that rest on counts nobody could read."""

from __future__ import annotations

import pytest

from include.sync_health.record_counts import (
    ALL_READ,
    OUTCOMES,
    RECORDS,
    CountsRead,
    tells_outcomes,
    unavailable_sentence,
)

GRANT = "we may not read records_failed of public.log; GRANT SELECT (records_failed) ON public.log to the user"


@pytest.mark.parametrize(
    ("ended", "counted", "judged", "unread", "sentence"),
    [
        pytest.param(9, 9, 9, None, None, id="all is known: nothing"),
        pytest.param(0, 0, 0, GRANT, None, id="no sync ended: nothing is missing"),
        pytest.param(
            1_200,
            200,
            200,
            GRANT,
            f"How many records were processed is not known of 1,000 of 1,200 syncs that ended. Because {GRANT}.",
            id="counts that may not be read, and the grant",
        ),
        pytest.param(
            3,
            3,
            1,
            "public.log has no columns",
            "How many records succeeded or failed is not known of 2 of 3 syncs that ended. Because public.log has no columns.",
            id="a log that tells no outcomes",
        ),
        pytest.param(
            3,
            2,
            2,
            None,
            "How many records were processed is not known of 1 of 3 syncs that ended. They can be read now: the hours of the "
            "last metrics.late_syncs are measured again, and what is older stays as it is (docs/metrics.md).",
            id="hours of before the grant",
        ),
    ],
)
def test_the_sentence_says_of_how_many_and_what_to_do(
    ended: int, counted: int, judged: int, unread: str | None, sentence: str | None
) -> None:
    newest = CountsRead(unread=unread)
    assert unavailable_sentence(ended=ended, counted=counted, judged=judged, newest=newest, of_days=False) == sentence


def test_outcomes_are_told_by_both_of_their_counts() -> None:
    """A source has both or neither."""
    assert tells_outcomes(ALL_READ.known)
    assert not tells_outcomes(RECORDS[:1])
    assert not any(tells_outcomes([each]) for each in OUTCOMES)
