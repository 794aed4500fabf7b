"""The health check's part ``credentials``: connections in error, and tokens that are about to expire."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import pandas as pd

from include.sync_health.credential_facts import ERROR_STATUS
from include.sync_health.durations import describe
from include.sync_health.frames import id_text
from include.sync_health.health import HealthPart, HealthStatus
from include.sync_health.policy import ACTIVE_STATUSES, Policy
from include.sync_health.redaction import clean
from include.sync_health.rule_policies import RuleMode
from include.sync_health.subjects import Subject, subjects_of
from include.sync_health.tokens import SHORT_LIVED, judge_token_expiry
from include.sync_health.verdicts import Verdict

CONNECTION_ERROR, TOKEN_EXPIRING = "Connection error", "Token expiring soon"
"""The issues, in the story's words."""

ISSUES_SHOWN = 50
"""How many issues a report lists; the rest is counted."""

NAME_CHARS = 120
"""Of a company's name."""

RULE_OFF = "the policy has switched the rule token_expiry off: no token is judged"


def credentials_part(
    facts: pd.DataFrame,
    *,
    policy: Policy,
    as_of: datetime,
    open_tokens: Mapping[str, timedelta | None],
    unproven: Collection[str] = (),
) -> HealthPart:
    """
    Return how the credentials are: WARNING with any issue, else HEALTHY.

    An issue is a credential in status ``error``, whatever else, and a token of which the rule ``token_expiry`` says BREACH
    (nothing is judged while that rule is off). Connections come first, then tokens, each by id.

    Args:
        facts: `CREDENTIAL_FACT_COLUMNS`, all of them.
        policy: of the rule, and which statuses are monitored.
        as_of: the instant to judge by; aware.
        open_tokens: credentials whose alert of the rule is open, with the token lifetime that it knows.
        unproven: credentials whose last success nobody looked up: their short-lived tokens are counted as not judged.

    Returns:
        The part; details: total_credentials, issues (at most `ISSUES_SHOWN` of ``{"credential_id", "company",
        "environment", "issue"}``), issues_left_out, connection_errors, and tokens (``{"expiring", "expiring_literal",
        "within_seconds", "not_judged"}``; ``expiring_literal`` counts every token that has expired or will within that
        time, however short-lived it is).

    Raises:
        FrameError: ``facts`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    subjects = subjects_of(facts)
    in_error = list(id_text(facts.loc[facts["connection_status"] == ERROR_STATUS, "credential_id"]))
    is_off = policy.rules.token_expiry.mode is RuleMode.OFF
    expiring = [] if is_off else _expiring(facts, policy=policy, as_of=as_of, open_tokens=open_tokens)
    judged = [each for each in expiring if each not in unproven]
    issues = [
        *((each, CONNECTION_ERROR) for each in sorted(in_error, key=_by_id)),
        *((each, TOKEN_EXPIRING) for each in sorted(judged, key=_by_id)),
    ]
    within = policy.rules.token_expiry.within
    is_expiring = facts["token_expires_at"] - pd.Timestamp(as_of) <= within
    counts = [
        *([f"{len(in_error)} in status error"] if in_error else []),
        *([f"{len(judged)} with a token that has expired or will within {describe(within)}"] if judged else []),
        *([RULE_OFF] if is_off else []),
    ]
    return HealthPart(
        status=HealthStatus.WARNING if issues else HealthStatus.HEALTHY,
        reasons=tuple(counts),
        details={
            "total_credentials": len(facts),
            "issues": [_issue(subjects[each], issue) for each, issue in issues[:ISSUES_SHOWN]],
            "issues_left_out": max(0, len(issues) - ISSUES_SHOWN),
            "connection_errors": len(in_error),
            "tokens": {
                "expiring": len(judged),
                "expiring_literal": int(is_expiring.sum()),
                "within_seconds": round(within.total_seconds()),
                "not_judged": len(facts) if is_off else len(expiring) - len(judged),
            },
        },
    )


def tokens_in_doubt(
    facts: pd.DataFrame, *, policy: Policy, as_of: datetime, open_tokens: Mapping[str, timedelta | None]
) -> list[str]:
    """
    Return the credentials whose short-lived token would breach unless a run has completed since it expired, by id.

    Those with an open alert are left out: a check has looked their last success up.

    Args:
        facts: `CREDENTIAL_FACT_COLUMNS`, made from the runs at hand alone.
        policy, as_of, open_tokens: as `credentials_part` has them.
    """
    if policy.rules.token_expiry.mode is RuleMode.OFF:
        return []
    found = _expiring(facts, policy=policy, as_of=as_of, open_tokens=open_tokens, judged=SHORT_LIVED)
    return sorted((each for each in found if each not in open_tokens), key=_by_id)


def active_credentials(facts: pd.DataFrame) -> int:
    """Return how many credentials are in use, as upstream has it."""
    return int(facts["connection_status"].isin(ACTIVE_STATUSES).sum())


def _expiring(
    facts: pd.DataFrame,
    *,
    policy: Policy,
    as_of: datetime,
    open_tokens: Mapping[str, timedelta | None],
    judged: str | None = None,
) -> list[str]:
    """Return the credentials whose token breaches; ``judged``: only those judged as this word has it."""
    found = judge_token_expiry(
        facts,
        policy=policy.rules.token_expiry,
        monitored=policy.monitored_statuses,
        as_of=as_of,
        open_alerts=open_tokens,
    )
    breaching = found[found["verdict"] == Verdict.BREACH]
    return [
        str(credential)
        for credential, evidence in zip(breaching["credential_id"], breaching["evidence"], strict=True)
        if judged is None or evidence["judged"] == judged
    ]


def _issue(subject: Subject, issue: str) -> dict[str, str]:
    return {
        "credential_id": subject.credential_id,
        "company": clean(subject.label, limit=NAME_CHARS),
        "environment": subject.environment,
        "issue": issue,
    }


def _by_id(credential_id: str) -> tuple[int, str]:
    """Return what sorts ids as people count: 2 before 10, and UUIDs as text."""
    return (len(credential_id), credential_id) if credential_id.isdigit() else (0, credential_id)
