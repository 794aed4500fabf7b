"""What one tick makes of an alert that is not open: of one never heard of, over, or pending; to the last field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.sync_health.alerts import Alert, AlertState, EventKind
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, TICK
from tests.sync_health.step_cases import (
    AT_ONCE,
    BEFORE,
    CLOSED,
    CLOSED_LONG_AGO,
    DAY,
    HOUR,
    NEW,
    NOW,
    PENDING,
    SECOND,
    SLOWLY,
    THREE_RETURNS,
    TOLD,
    UNTOLD,
    WORDS,
    alert,
    check,
    saw,
)

B, C, BAND, GONE = Verdict.BREACH, Verdict.CLEAR, Verdict.BAND, Verdict.NO_DATA
E = EventKind


@pytest.mark.parametrize(
    ("before", "observation", "policy", "after", "kinds"),
    [
        # -- of what was never heard of, or is over ------------------------------------------------------------------------
        pytest.param(None, saw(B), AT_ONCE, alert(**{**UNTOLD, **NEW}), [E.OPENED], id="a breach opens"),
        pytest.param(
            None,
            saw(B),
            SLOWLY,
            alert(
                AlertState.PENDING,
                **{**UNTOLD, **WORDS},
                peak_severity=Severity.HIGH,
                state_since=NOW,
                episode_id=None,
                opened_at=None,
            ),
            [E.PENDING],
            id="a breach that must last is pending first, and no episode yet",
        ),
        pytest.param(None, saw(C), AT_ONCE, None, [], id="a clear of something never heard of leaves no trace"),
        pytest.param(
            CLOSED,
            saw(C),
            AT_ONCE,
            replace(CLOSED, last_as_of=NOW),
            [],
            id="a clear of something over is noted and no more",
        ),
        pytest.param(
            CLOSED_LONG_AGO,
            saw(B),
            AT_ONCE,
            replace(CLOSED_LONG_AGO, **NEW, told={MAIL: TOLD}, returns=(NOW - DAY + SECOND,)),
            [E.OPENED],
            id="what closed long ago opens as new, and whoever never heard of the close believes it open",
        ),
        pytest.param(
            CLOSED,
            saw(B),
            AT_ONCE,
            replace(
                CLOSED,
                **{**NEW, "threads": CLOSED.threads, "reopened_at": NOW},
                told={MAIL: TOLD},
                returns=(NOW - DAY + SECOND, NOW),
            ),
            [E.REOPENED],
            id="what closed six hours ago to the second reopens in its threads",
        ),
        pytest.param(
            replace(CLOSED, returns=THREE_RETURNS[:2]),
            saw(B),
            AT_ONCE,
            replace(
                CLOSED,
                **{**NEW, "threads": CLOSED.threads, "reopened_at": NOW},
                told={MAIL: TOLD},
                returns=(*THREE_RETURNS[:2], NOW),
                flapping_since=NOW,
            ),
            [E.REOPENED, E.FLAPPING],
            id="the third return of a day reopens and flaps",
        ),
        pytest.param(
            CLOSED,
            saw(B),
            SLOWLY,
            replace(
                CLOSED,
                **WORDS,
                state=AlertState.PENDING,
                state_since=NOW,
            ),
            [E.PENDING],
            id="what is over is pending again first where a breach must last",
        ),
        # -- of what is pending --------------------------------------------------------------------------------------------
        pytest.param(
            PENDING,
            saw(B),
            SLOWLY,
            replace(PENDING, **WORDS),
            [],
            id="a breach that did not last long enough is described",
        ),
        pytest.param(
            replace(PENDING, state_since=NOW - HOUR, stale_since=BEFORE),
            saw(B),
            SLOWLY,
            replace(PENDING, **NEW),
            [E.OPENED],
            id="a breach that lasted an hour to the second opens",
        ),
        pytest.param(
            PENDING,
            saw(GONE, reason="no rows"),
            SLOWLY,
            replace(PENDING, last_as_of=NOW, state_since=PENDING.state_since + TICK, stale_since=NOW),
            [],
            id="no data stops the clock of a pending one",
        ),
        pytest.param(
            replace(PENDING, stale_since=NOW - HOUR + SECOND),
            saw(GONE, reason="no rows"),
            SLOWLY,
            replace(
                PENDING,
                last_as_of=NOW,
                state_since=PENDING.state_since + TICK,
                stale_since=NOW - HOUR + SECOND,
            ),
            [],
            id="a second before the grace is over it is pending still",
        ),
        pytest.param(
            replace(PENDING, stale_since=NOW - HOUR),
            saw(GONE, reason="no rows"),
            SLOWLY,
            replace(
                PENDING, state=AlertState.INACTIVE, state_since=NOW, last_as_of=NOW, stale_since=None, reason="no rows"
            ),
            [E.DROPPED],
            id="when the grace is over it is dropped",
        ),
        pytest.param(
            replace(PENDING, stale_since=BEFORE),
            saw(C, reason="all is well"),
            SLOWLY,
            replace(
                PENDING,
                state=AlertState.INACTIVE,
                state_since=NOW,
                last_as_of=NOW,
                stale_since=None,
                reason="all is well",
            ),
            [E.DROPPED],
            id="a clear drops a pending one, and says why",
        ),
    ],
)
def test_what_a_tick_makes_of_what_is_not_open(
    before: Alert | None, observation: Observation, policy: Policy, after: Alert | None, kinds: list[EventKind]
) -> None:
    """The whole alert, and the whole of each event."""
    check(before, observation, policy=policy, after=after, kinds=kinds)
