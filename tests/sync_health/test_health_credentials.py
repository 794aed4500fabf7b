"""The health check's credentials: each row is one credential, and the issue it is listed with, if any."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.health import HealthPart
from include.sync_health.health_credentials import (
    ISSUES_SHOWN,
    active_credentials,
    credentials_part,
    tokens_in_doubt,
)
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, TokenExpiryPolicy, TokenJudgement
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CONNECTION, TOKEN = "Connection error", "Token expiring soon"
POLICY = Policy()
LITERAL = Policy(rules=RulePolicies(token_expiry=TokenExpiryPolicy(judge_by=TokenJudgement.LITERAL)))
OFF = Policy(rules=RulePolicies(token_expiry=TokenExpiryPolicy(mode=RuleMode.OFF)))


def token(left: timedelta, *, lifetime: timedelta = 60 * DAY, **known: Any) -> dict[str, Any]:
    """A credential whose token has so long left (negative once expired)."""
    return {"token_expires_at": AS_OF + left, "token_lifetime": lifetime, **known}


def short(left: timedelta, **known: Any) -> dict[str, Any]:
    """A credential whose tokens last 15 minutes, as ServiceTitan's do."""
    return token(left, lifetime=15 * MINUTE, **known)


def part(*rows: dict[str, Any], policy: Policy = POLICY, **options: Any) -> HealthPart:
    """The part of these credentials."""
    return credentials_part(
        facts_frame(rows), policy=policy, as_of=AS_OF, open_tokens=options.pop("open_tokens", {}), **options
    )


@pytest.mark.parametrize(
    ("row", "issues"),
    [
        pytest.param({}, [], id="a credential in use"),
        pytest.param({"connection_status": "inactive"}, [], id="one out of use"),
        pytest.param({"connection_status": "error"}, [CONNECTION], id="in error"),
        pytest.param(token(7 * DAY), [TOKEN], id="a long-lived token with exactly 7 days left"),
        pytest.param(token(7 * DAY + MINUTE), [], id="a long-lived token with more than 7 days left"),
        pytest.param(token(-DAY), [TOKEN], id="a long-lived token that has expired"),
        pytest.param(short(10 * MINUTE), [], id="a short-lived token: always about to expire, in perfect health"),
        pytest.param(short(-47 * HOUR), [], id="a short-lived token that expired, but not for 48 hours"),
        pytest.param(short(-49 * HOUR), [TOKEN], id="a short-lived token that nobody has refreshed for 48 hours"),
        pytest.param(
            short(-49 * HOUR, last_success_at=AS_OF - 48 * HOUR), [], id="one after whose expiry a sync completed"
        ),
        pytest.param(token(DAY, connection_status="inactive"), [], id="the token of a credential out of use"),
        pytest.param(token(DAY, connection_status="error"), [CONNECTION, TOKEN], id="both at once, as the story lists"),
    ],
)
def test_an_issue(row: dict[str, Any], issues: list[str]) -> None:
    """Anything listed is a warning; nothing else is."""
    found = part(row)

    assert [each["issue"] for each in found.details["issues"]] == issues
    assert str(found.status) == ("warning" if issues else "healthy")
    assert bool(found.reasons) is bool(issues)


def test_an_issue_names_its_credential_and_no_more_than_is_fit_to_be_shown() -> None:
    """A company's name is what somebody typed."""
    found = part(
        {"credential_id": 7, "connection_status": "error", "company_name": "Acme client_secret=hunter2hunter2\x1b[31m"},
        {"credential_id": 8, "connection_status": "error", "company_name": None, "environment": "integration"},
        {"credential_id": 9, "connection_status": "error", "company_name": "long " * 100},
    )

    first, second, third = found.details["issues"]
    assert first["credential_id"] == "7"
    assert "hunter2" not in first["company"]
    assert "\x1b" not in first["company"]
    assert second == {
        "credential_id": "8",
        "company": "credential 8",
        "environment": "integration",
        "issue": CONNECTION,
    }
    assert len(third["company"]) <= 120


def test_issues_are_listed_in_order_and_what_is_left_out_is_counted() -> None:
    """Connections before tokens, each as people count."""
    numbers = [*range(ISSUES_SHOWN + 5, 0, -1)]
    found = part(*({"credential_id": each, "connection_status": "error"} for each in numbers), token(DAY) | ID(900))

    shown = [each["credential_id"] for each in found.details["issues"]]
    assert shown == [str(each) for each in range(1, ISSUES_SHOWN + 1)]
    assert found.details["issues_left_out"] == 6
    assert found.details["total_credentials"] == ISSUES_SHOWN + 6
    assert found.reasons == (
        f"{ISSUES_SHOWN + 5} in status error",
        "1 with a token that has expired or will within 7 days",
    )


def ID(number: int) -> dict[str, int]:  # noqa: N802 - a value in the tables
    """The id of a row."""
    return {"credential_id": number}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(
            POLICY,
            {"expiring": 1, "expiring_literal": 3, "not_judged": 0},
            id="by lifetime, with the literal beside it",
        ),
        pytest.param(LITERAL, {"expiring": 3, "expiring_literal": 3, "not_judged": 0}, id="to the letter"),
        pytest.param(OFF, {"expiring": 0, "expiring_literal": 3, "not_judged": 5}, id="the rule is off"),
    ],
)
def test_tokens_are_counted_as_the_rule_judges_and_to_the_letter(policy: Policy, expected: dict[str, int]) -> None:
    """The literal count has every token that expires within 7 days, which short-lived ones always do."""
    found = part(
        ID(1) | token(3 * DAY),
        ID(2) | short(10 * MINUTE),
        ID(3) | short(-HOUR),
        ID(4) | token(30 * DAY),
        ID(5),
        policy=policy,
    )

    assert found.details["tokens"] == {**expected, "within_seconds": 7 * 86_400}
    assert any("switched the rule token_expiry off" in reason for reason in found.reasons) is (policy is OFF)


@pytest.mark.parametrize(
    ("row", "open_tokens", "doubtful"),
    [
        pytest.param(short(-49 * HOUR), {}, ["1"], id="nobody has looked its last success up"),
        pytest.param(short(-49 * HOUR), {"1": None}, [], id="an open alert: a check has"),
        pytest.param(short(-47 * HOUR), {}, [], id="not expired for long"),
        pytest.param(token(-DAY), {}, [], id="a long-lived token needs no success"),
        pytest.param(
            short(-49 * HOUR), {"1": 60 * DAY}, [], id="known to be long-lived by its alert: no success is asked for"
        ),
        pytest.param(short(-49 * HOUR, connection_status="inactive"), {}, [], id="out of use"),
    ],
)
def test_a_last_success_is_looked_up_only_where_something_turns_on_it(
    row: dict[str, Any], open_tokens: dict[str, timedelta | None], doubtful: list[str]
) -> None:
    """Each look costs the credential's whole history."""
    facts = facts_frame([row])

    assert tokens_in_doubt(facts, policy=POLICY, as_of=AS_OF, open_tokens=open_tokens) == doubtful
    assert tokens_in_doubt(facts, policy=OFF, as_of=AS_OF, open_tokens=open_tokens) == []


def test_a_token_whose_last_success_nobody_looked_up_is_counted_and_not_blamed() -> None:
    """There were too many to look up."""
    found = part(ID(1) | short(-49 * HOUR), ID(2) | short(-49 * HOUR), unproven={"2"})

    assert [each["credential_id"] for each in found.details["issues"]] == ["1"]
    assert found.details["tokens"]["not_judged"] == 1


def test_what_is_active_is_what_upstream_calls_so() -> None:
    """By both shapes of its tables; one in error is watched, and not active."""
    statuses = ("active", "connected", "error", "inactive", "pending", "odd")

    assert active_credentials(facts_frame([{"connection_status": each} for each in statuses])) == 2


@given(st.lists(st.sampled_from([{}, {"connection_status": "error"}, token(DAY), short(-49 * HOUR)]), max_size=70))
def test_every_issue_is_shown_or_counted(rows: list[dict[str, Any]]) -> None:
    """Nothing is lost in the cut."""
    facts: pd.DataFrame = facts_frame([row | ID(number) for number, row in enumerate(rows)])
    found = credentials_part(facts, policy=POLICY, as_of=AS_OF, open_tokens={})

    listed = len(found.details["issues"]) + found.details["issues_left_out"]
    assert listed == found.details["connection_errors"] + found.details["tokens"]["expiring"]
    assert listed == sum(row != {} for row in rows)
