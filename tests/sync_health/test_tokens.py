"""Tokens that expire: at the boundaries of both lifetimes, and to the letter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.failures import CREDENTIAL_REMOVED
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import TokenExpiryPolicy, TokenJudgement
from include.sync_health.tokens import judge_token_expiry
from include.sync_health.verdicts import Severity
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF, SECOND

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONITORED = ("active", "connected", "error")
LITERAL = TokenExpiryPolicy(judge_by=TokenJudgement.LITERAL)


def token(left: timedelta | None, *, lifetime: timedelta | None = 30 * DAY, **known: Any) -> dict[str, Any]:
    """A credential whose token has so long left (negative once expired)."""
    expires_at = None if left is None else known.pop("as_of", AS_OF) + left
    return {"token_expires_at": expires_at, "token_lifetime": lifetime, **known}


def short(left: timedelta, **known: Any) -> dict[str, Any]:
    return token(left, lifetime=15 * MINUTE, **known)


def judged(*rows: dict[str, Any], policy: TokenExpiryPolicy | None = None, **options: Any) -> pd.DataFrame:
    return judge_token_expiry(
        facts_frame(rows),
        policy=policy or TokenExpiryPolicy(),
        monitored=options.pop("monitored", MONITORED),
        as_of=options.pop("as_of", AS_OF),
        **options,
    )


def said(found: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(found["verdict"], found["severity"], strict=True))


@pytest.mark.parametrize(
    ("row", "verdict", "severity"),
    [
        pytest.param(token(7 * DAY + SECOND), "clear", "medium", id="long-lived: a second more than 7 days is clear"),
        pytest.param(token(7 * DAY), "breach", "medium", id="long-lived: exactly 7 days breaches"),
        pytest.param(token(DAY + SECOND), "breach", "medium", id="long-lived: a second more than 24 hours is medium"),
        pytest.param(token(DAY), "breach", "high", id="long-lived: exactly 24 hours is high"),
        pytest.param(token(SECOND), "breach", "high", id="long-lived: a second left is high"),
        pytest.param(token(timedelta(0)), "breach", "high", id="long-lived: expiring at as_of has expired"),
        pytest.param(token(-90 * DAY), "breach", "high", id="long-lived: expired long ago is high"),
        pytest.param(
            token(-HOUR, last_success_at=AS_OF), "breach", "high", id="long-lived: a run since it expired is no refresh"
        ),
        pytest.param(token(HOUR, lifetime=DAY), "breach", "high", id="a lifetime of exactly 24 hours is long-lived"),
        pytest.param(token(HOUR, lifetime=DAY - SECOND), "clear", "medium", id="a second less is short-lived"),
        pytest.param(token(HOUR, lifetime=None), "clear", "medium", id="an unknown lifetime counts as short"),
        pytest.param(
            token(-3 * DAY, lifetime=None), "breach", "high", id="an unknown lifetime, long expired, breaches"
        ),
        pytest.param(short(SECOND), "clear", "medium", id="short-lived: a second left is clear"),
        pytest.param(short(timedelta(0)), "band", "medium", id="short-lived: expiring at as_of is band"),
        pytest.param(short(-2 * DAY), "band", "medium", id="short-lived: expired for exactly 48 hours is band"),
        pytest.param(short(-2 * DAY - SECOND), "breach", "high", id="short-lived: a second more breaches, high"),
        pytest.param(
            short(-3 * DAY, last_success_at=AS_OF - 3 * DAY),
            "breach",
            "high",
            id="short-lived: a run completed exactly at expiry does not count",
        ),
        pytest.param(
            short(-3 * DAY, last_success_at=AS_OF - 3 * DAY + SECOND),
            "clear",
            "medium",
            id="short-lived: a run completed a second after expiry counts",
        ),
        pytest.param(
            short(-HOUR, last_success_at=AS_OF), "clear", "medium", id="short-lived: used since it expired is clear"
        ),
        pytest.param(token(None), "no_data", "medium", id="without a token nothing can be said"),
        pytest.param(token(-HOUR, has_client_id=False), "no_data", "medium", id="without a client id neither"),
        pytest.param(token(-HOUR, has_client_secret=False), "no_data", "medium", id="nor without a client secret"),
        pytest.param(token(-HOUR, is_recorded=False), "no_data", "medium", id="nor of an instant nobody recorded"),
        pytest.param(token(-HOUR, connection_status="error"), "breach", "high", id="in error it is still monitored"),
    ],
)
def test_by_lifetime(row: dict[str, Any], verdict: str, severity: str) -> None:
    """Long-lived tokens must be renewed in time; short-lived ones only be in use."""
    assert said(judged(row)) == [(verdict, severity)]


@pytest.mark.parametrize(
    ("row", "verdict", "severity"),
    [
        pytest.param(short(7 * DAY + SECOND), "clear", "medium", id="a second more than 7 days is clear"),
        pytest.param(short(7 * DAY), "breach", "medium", id="exactly 7 days breaches"),
        pytest.param(short(DAY), "breach", "high", id="exactly 24 hours is high"),
        pytest.param(short(5 * MINUTE), "breach", "high", id="a healthy short-lived token breaches too"),
        pytest.param(short(-MINUTE, last_success_at=AS_OF), "breach", "high", id="so does one expired and in use"),
        pytest.param(short(HOUR, has_client_secret=False), "breach", "high", id="and one without a client secret"),
        pytest.param(short(HOUR, has_client_id=False), "breach", "high", id="and one without a client id"),
        pytest.param(token(None), "no_data", "medium", id="but not one without a token"),
        pytest.param(short(HOUR, is_recorded=False), "no_data", "medium", id="nor one that nobody recorded"),
    ],
)
def test_to_the_letter(row: dict[str, Any], verdict: str, severity: str) -> None:
    """The story's rule: whatever expires within 7 days."""
    found = judged(row, policy=LITERAL)

    assert said(found) == [(verdict, severity)]
    assert found["evidence"].iloc[0]["judged"] == "literal"


@pytest.mark.parametrize("judge_by", list(TokenJudgement))
@pytest.mark.parametrize("row", [token(HOUR), token(-HOUR), short(-3 * DAY)], ids=["soon", "expired", "long expired"])
def test_never_high_without_a_threshold_for_it(row: dict[str, Any], judge_by: TokenJudgement) -> None:
    """``high_within`` None fixes the severity."""
    policy = TokenExpiryPolicy(judge_by=judge_by, high_within=None)
    quiet = judged(row, policy=policy)
    loud = judged(row, policy=TokenExpiryPolicy(judge_by=judge_by, high_within=None, severity=Severity.CRITICAL))

    assert said(quiet) in ([("breach", "medium")], [("clear", "medium")])
    assert set(loud["severity"]) == {"critical"}


def test_high_never_softens_a_worse_severity() -> None:
    """A policy of critical stays critical."""
    assert said(judged(token(HOUR), policy=TokenExpiryPolicy(severity=Severity.CRITICAL))) == [("breach", "critical")]


@pytest.mark.parametrize(
    ("rows", "verdict", "reason"),
    [
        pytest.param([], "removed", CREDENTIAL_REMOVED, id="its credential has no row"),
        pytest.param(
            [token(-HOUR, connection_status="inactive")],
            "removed",
            "the credential is no longer in use: its status is inactive",
            id="its credential is no longer monitored",
        ),
        pytest.param(
            [token(None)], "no_data", "there is no token: it never connected, or was changed since", id="token gone"
        ),
        pytest.param([token(HOUR, has_client_secret=False)], "no_data", "missing: its client secret", id="secret gone"),
        pytest.param(
            [token(HOUR, has_client_id=False, has_client_secret=False)],
            "no_data",
            "missing: its client id and secret",
            id="both gone",
        ),
        pytest.param(
            [token(HOUR, connection_status="", is_recorded=False)],
            "no_data",
            "connection status and token were not recorded at that time",
            id="nobody recorded it then",
        ),
        pytest.param([token(8 * DAY)], "clear", "the token expires in 8 days, more than 7 days", id="it was renewed"),
    ],
)
def test_how_an_open_alert_goes_on(rows: list[dict[str, Any]], verdict: str, reason: str) -> None:
    """Only a later expiry closes it as recovered."""
    found = judged(*rows, open_alerts={"1": None})

    assert list(found["verdict"]) == [verdict]
    assert list(found["reason"]) == [reason]


def test_an_unmonitored_credential_without_an_alert_has_no_row() -> None:
    """It is nobody's concern."""
    assert judged(token(-HOUR, connection_status="inactive"), token(HOUR, connection_status="pending")).empty


def test_what_an_open_alert_knows_of_the_lifetime_is_not_forgotten() -> None:
    """The renewed proof may be shorter: a lower bound stays a lower bound."""
    row = token(HOUR, lifetime=HOUR)

    assert said(judged(row)) == [("clear", "medium")]
    assert said(judged(row, open_alerts={"1": 30 * DAY})) == [("breach", "high")]
    assert said(judged(row, open_alerts={"1": None})) == [("clear", "medium")]
    assert said(judged(token(HOUR), open_alerts={"1": MINUTE})) == [("breach", "high")]
    assert judged(row, open_alerts={"1": 30 * DAY})["evidence"].iloc[0]["lifetime_seconds"] == 30 * 86_400


@pytest.mark.parametrize(
    ("row", "title", "message"),
    [
        pytest.param(
            token(3 * DAY + 4 * HOUR),
            "ServiceTitan Token Expiring Soon",
            "ServiceTitan token for Acme (production) expires in 3 days 4 hours",
            id="about to expire",
        ),
        pytest.param(
            token(-2 * HOUR, company_name=None, environment="integration"),
            "ServiceTitan Token Expired",
            "ServiceTitan token for credential 1 (integration) expired 2 hours ago",
            id="expired, of a company without a name",
        ),
    ],
)
def test_words(row: dict[str, Any], title: str, message: str) -> None:
    """Title and message are the design's."""
    found = judged(row).iloc[0]

    assert (found["title"], found["message"]) == (title, message)


def test_metadata_and_evidence() -> None:
    """The keys are the design's; evidence holds the numbers."""
    [found] = Observation.from_frame(judged(token(-90 * MINUTE, last_success_at=AS_OF - 5 * HOUR)))

    assert found.rule == "token_expiry"
    assert found.identity == {"credential": "1"}
    assert found.company_id == "1001"
    assert found.metadata == {
        "credential_id": "1",
        "company_name": "Acme",
        "environment": "production",
        "expires_at": "2026-03-10T10:30:00+00:00",
    }
    assert found.evidence == {
        "expires_at": "2026-03-10T10:30:00+00:00",
        "lifetime_seconds": 30 * 86_400,
        "remaining_seconds": -5_400,
        "last_success_at": "2026-03-10T07:00:00+00:00",
        "judged": "long-lived",
    }


def test_a_token_that_never_expires_is_no_crash() -> None:
    """The year 9999 is farther away than nanoseconds can count."""
    forever = {"token_expires_at": AS_OF.replace(year=9999), "token_lifetime": timedelta(days=2_900_000)}

    assert list(judged(forever)["verdict"]) == ["clear"]


def test_nothing_to_judge() -> None:
    """No credentials, no rows; a column that is missing, or a naive time, is refused."""
    assert judged().empty
    with pytest.raises(FrameError):
        judge_token_expiry(
            facts_frame([]).drop(columns="token_lifetime"), policy=LITERAL, monitored=MONITORED, as_of=AS_OF
        )
    with pytest.raises(ValueError, match="timezone"):
        judged(as_of=AS_OF.replace(tzinfo=None))


EDGES = [timedelta(0), HOUR, DAY, 2 * DAY, 7 * DAY]
SPANS = st.one_of(
    st.sampled_from(
        [sign * edge + nudge for edge in EDGES for sign in (1, -1) for nudge in (-SECOND, 0 * SECOND, SECOND)]
    ),
    st.integers(-9 * 86_400, 9 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
)


@st.composite
def credentials(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Credentials around every boundary, with integer or text ids, in any order."""
    ids: list[Any] = draw(
        st.one_of(
            st.lists(st.integers(1, 99), unique=True, max_size=6),
            st.lists(st.uuids().map(str), unique=True, max_size=6),
        )
    )
    return [
        {
            "credential_id": each,
            "connection_status": draw(st.sampled_from([*MONITORED, "inactive", "odd"])),
            "token_expires_at": draw(st.none() | SPANS.map(lambda span: AS_OF + span)),
            "token_lifetime": draw(st.none() | st.sampled_from([15 * MINUTE, DAY - SECOND, DAY, 30 * DAY])),
            "last_success_at": draw(st.none() | SPANS.map(lambda span: AS_OF - abs(span))),
            "has_client_id": draw(st.booleans()),
            "is_recorded": draw(st.booleans()),
        }
        for each in ids
    ]


@settings(deadline=None)
@given(rows=credentials(), judge_by=st.sampled_from(TokenJudgement), data=st.data())
def test_every_candidate_gets_exactly_one_verdict(
    rows: list[dict[str, Any]], judge_by: TokenJudgement, data: st.DataObject
) -> None:
    """Monitored, unrecorded or open: one row, in the order of ids; the order of rows and the date change nothing."""
    policy = TokenExpiryPolicy(judge_by=judge_by)
    ids = [str(row["credential_id"]) for row in rows]
    open_alerts = dict.fromkeys(data.draw(st.lists(st.sampled_from([*ids, "gone"]), unique=True)), 2 * DAY)
    expected = sorted(
        {str(row["credential_id"]) for row in rows if not row["is_recorded"] or row["connection_status"] in MONITORED}
        | set(open_alerts)
    )

    found = judged(*rows, policy=policy, open_alerts=open_alerts)
    shuffled = judged(*data.draw(st.permutations(rows)), policy=policy, open_alerts=open_alerts)
    shift = timedelta(seconds=data.draw(st.integers(-10_000_000, 10_000_000)))
    later = judged(
        *[
            {name: value + shift if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows
        ],
        policy=policy,
        open_alerts=open_alerts,
        as_of=AS_OF + shift,
    )

    assert [identity["credential"] for identity in found["identity"]] == expected
    pd.testing.assert_frame_equal(found, shuffled)
    assert said(later) == said(found)
    assert list(later["message"]) == list(found["message"])
