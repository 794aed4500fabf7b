"""What one tick makes of an alert that is open: of one that fires, or recovers; to the last field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.sync_health.alerts import Alert, AlertState, CloseReason, EventKind
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import TICK
from tests.sync_health.step_cases import (
    AT_ONCE,
    BEFORE,
    DAY,
    FIRING,
    HOUR,
    NOW,
    OVER,
    RECOVERING,
    SECOND,
    SLOWLY,
    THREE_RETURNS,
    WORDS,
    check,
    saw,
)

B, C, BAND, GONE = Verdict.BREACH, Verdict.CLEAR, Verdict.BAND, Verdict.NO_DATA
E = EventKind


@pytest.mark.parametrize(
    ("before", "observation", "policy", "after", "kinds"),
    [
        # -- of what fires -------------------------------------------------------------------------------------------------
        pytest.param(
            FIRING, saw(B), AT_ONCE, replace(FIRING, **WORDS), [], id="a breach of what fires brings its words"
        ),
        pytest.param(
            FIRING,
            saw(B, severity=Severity.CRITICAL),
            AT_ONCE,
            replace(FIRING, **{**WORDS, "severity": Severity.CRITICAL}),
            [E.ESCALATED],
            id="a worse breach escalates",
        ),
        pytest.param(
            replace(FIRING, peak_severity=Severity.HIGH),
            saw(B, severity=Severity.CRITICAL),
            AT_ONCE,
            replace(FIRING, **{**WORDS, "severity": Severity.CRITICAL}, peak_severity=Severity.CRITICAL),
            [E.ESCALATED],
            id="the worst breach ever is remembered",
        ),
        pytest.param(
            FIRING,
            saw(B, severity=Severity.MEDIUM),
            AT_ONCE,
            replace(FIRING, **{**WORDS, "severity": Severity.MEDIUM}),
            [E.EASED],
            id="a lesser breach eases, and the worst stays",
        ),
        pytest.param(
            replace(FIRING, returns=(NOW - DAY, *THREE_RETURNS[:2]), flapping_since=NOW - 4 * HOUR),
            saw(B),
            AT_ONCE,
            replace(FIRING, **WORDS, returns=THREE_RETURNS[:2], flapping_since=None),
            [E.SETTLED],
            id="what stayed broken for a day flaps no more",
        ),
        pytest.param(
            replace(FIRING, stale_since=BEFORE),
            saw(C),
            AT_ONCE,
            replace(FIRING, **OVER, close_reason=CloseReason.RECOVERED),
            [E.CLOSED],
            id="a clear closes at once what nothing holds open",
        ),
        pytest.param(
            replace(FIRING, stale_since=BEFORE),
            saw(C, reason="all is well"),
            SLOWLY,
            replace(
                FIRING,
                state=AlertState.RECOVERING,
                state_since=NOW,
                last_as_of=NOW,
                stale_since=None,
                reason="all is well",
            ),
            [E.RECOVERING],
            id="a clear that must last makes it recover",
        ),
        pytest.param(
            replace(FIRING, returns=THREE_RETURNS, flapping_since=NOW - 3 * HOUR),
            saw(C),
            AT_ONCE,
            replace(
                FIRING,
                state=AlertState.RECOVERING,
                state_since=NOW,
                last_as_of=NOW,
                returns=THREE_RETURNS,
                flapping_since=NOW - 3 * HOUR,
                reason="4 of 4 runs failed",
            ),
            [E.RECOVERING],
            id="what flaps is held open",
        ),
        pytest.param(
            replace(FIRING, returns=(NOW - DAY, *THREE_RETURNS[:2]), flapping_since=NOW - 4 * HOUR),
            saw(C),
            SLOWLY,
            replace(
                FIRING,
                state=AlertState.RECOVERING,
                state_since=NOW,
                last_as_of=NOW,
                returns=THREE_RETURNS[:2],
                flapping_since=None,
                reason="4 of 4 runs failed",
            ),
            [E.RECOVERING, E.SETTLED],
            id="what flapped a day ago settles while it recovers",
        ),
        pytest.param(
            replace(FIRING, stale_since=BEFORE),
            saw(BAND, reason="neither nor"),
            AT_ONCE,
            replace(FIRING, last_as_of=NOW, stale_since=None, reason="neither nor"),
            [],
            id="between the thresholds it stays as it is, and is known to",
        ),
        pytest.param(
            FIRING,
            saw(GONE, reason="no rows"),
            AT_ONCE,
            replace(FIRING, last_as_of=NOW, stale_since=NOW, reason="no rows"),
            [E.STALE],
            id="what nobody can judge is stale from now on",
        ),
        pytest.param(
            replace(FIRING, stale_since=NOW - 7 * DAY + SECOND),
            saw(Verdict.ERROR, reason="it broke"),
            AT_ONCE,
            replace(FIRING, last_as_of=NOW, stale_since=NOW - 7 * DAY + SECOND, reason="it broke"),
            [],
            id="a second before the week is over it is stale still",
        ),
        pytest.param(
            replace(FIRING, stale_since=NOW - 7 * DAY),
            saw(Verdict.INSUFFICIENT, reason="2 runs are too few"),
            AT_ONCE,
            replace(
                FIRING,
                **{**OVER, "reason": "nobody could judge it for 7 days: 2 runs are too few"},
                close_reason=CloseReason.EXPIRED,
            ),
            [E.CLOSED],
            id="what nobody could judge for a week ends",
        ),
        # -- of what recovers ----------------------------------------------------------------------------------------------
        pytest.param(
            RECOVERING,
            saw(B),
            SLOWLY,
            replace(RECOVERING, **WORDS, state=AlertState.FIRING, state_since=NOW, flaps=2, returns=(NOW,)),
            [E.RELAPSED],
            id="a breach of what recovers is a relapse",
        ),
        pytest.param(
            replace(RECOVERING, returns=(NOW - DAY, *THREE_RETURNS[:2])),
            saw(B, severity=Severity.CRITICAL),
            SLOWLY,
            replace(
                RECOVERING,
                **{**WORDS, "severity": Severity.CRITICAL},
                state=AlertState.FIRING,
                state_since=NOW,
                flaps=2,
                returns=(*THREE_RETURNS[:2], NOW),
                flapping_since=NOW,
            ),
            [E.RELAPSED, E.ESCALATED, E.FLAPPING],
            id="a third relapse, worse than before, is told apart",
        ),
        pytest.param(
            replace(RECOVERING, stale_since=BEFORE),
            saw(C, reason="all is well"),
            SLOWLY,
            replace(RECOVERING, last_as_of=NOW, stale_since=None, reason="all is well"),
            [],
            id="a clear that did not last long enough is noted",
        ),
        pytest.param(
            replace(RECOVERING, state_since=NOW - HOUR),
            saw(C),
            SLOWLY,
            replace(RECOVERING, **OVER, close_reason=CloseReason.RECOVERED),
            [E.CLOSED],
            id="a clear that lasted an hour to the second closes",
        ),
        pytest.param(
            replace(
                RECOVERING, state_since=NOW - 2 * HOUR + SECOND, reopened_at=NOW - 5 * HOUR, returns=THREE_RETURNS[:1]
            ),
            saw(C, reason="all is well"),
            SLOWLY,
            replace(
                RECOVERING,
                state_since=NOW - 2 * HOUR + SECOND,
                reopened_at=NOW - 5 * HOUR,
                returns=THREE_RETURNS[:1],
                last_as_of=NOW,
                reason="all is well",
            ),
            [],
            id="what reopened today is held for two hours",
        ),
        pytest.param(
            replace(RECOVERING, state_since=NOW - HOUR, reopened_at=NOW - DAY, returns=(NOW - DAY,)),
            saw(C),
            SLOWLY,
            replace(RECOVERING, **OVER, close_reason=CloseReason.RECOVERED, reopened_at=NOW - DAY, returns=()),
            [E.CLOSED],
            id="what reopened a day ago is held no longer",
        ),
        pytest.param(
            replace(RECOVERING, stale_since=BEFORE),
            saw(BAND, reason="neither nor"),
            SLOWLY,
            replace(
                RECOVERING,
                last_as_of=NOW,
                state_since=RECOVERING.state_since + TICK,
                stale_since=None,
                reason="neither nor",
            ),
            [],
            id="between the thresholds the clock of recovery stops",
        ),
        pytest.param(
            RECOVERING,
            saw(GONE, reason="no rows"),
            SLOWLY,
            replace(
                RECOVERING, last_as_of=NOW, state_since=RECOVERING.state_since + TICK, stale_since=NOW, reason="no rows"
            ),
            [E.STALE],
            id="no data stops the clock of recovery",
        ),
        *(
            pytest.param(
                replace(before, stale_since=BEFORE, flapping_since=BEFORE),
                saw(verdict),
                SLOWLY,
                replace(before, **{**OVER, "close_reason": why}),
                [E.CLOSED],
                id=f"{verdict} ends what is {before.state} without evidence",
            )
            for before in (FIRING, RECOVERING)
            for verdict, why in (
                (Verdict.REMOVED, CloseReason.TARGET_REMOVED),
                (Verdict.EXPIRED, CloseReason.EXPIRED),
                (Verdict.RETIRED, CloseReason.RULE_CHANGED),
            )
        ),
    ],
)
def test_what_a_tick_makes_of_what_is_open(
    before: Alert | None, observation: Observation, policy: Policy, after: Alert | None, kinds: list[EventKind]
) -> None:
    """The whole alert, and the whole of each event."""
    check(before, observation, policy=policy, after=after, kinds=kinds)
