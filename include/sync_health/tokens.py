"""
Tokens that are about to expire, or expired and nobody refreshed them.

ServiceTitan's access tokens live 15 minutes and are minted anew when they are used, so that most tokens have expired, or
soon will, in perfect health. What an expiry means depends on how long the credential's tokens last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import pandas as pd

from include.sync_health.credential_rules import (
    Credential,
    Decision,
    Words,
    at_least_high,
    judge_each,
    whole_seconds,
)
from include.sync_health.durations import describe
from include.sync_health.failures import iso_utc, utc_words
from include.sync_health.rule_policies import TokenExpiryPolicy, TokenJudgement
from include.sync_health.verdicts import Severity, Verdict

NOTHING_OPEN: Mapping[str, timedelta | None] = MappingProxyType({})

NO_TOKEN = "there is no token: it never connected, or was changed since"  # noqa: S105 - words, not a secret
LONG_LIVED, SHORT_LIVED, LITERAL = "long-lived", "short-lived", "literal"


def judge_token_expiry(
    credentials: pd.DataFrame,
    *,
    policy: TokenExpiryPolicy,
    monitored: Collection[str],
    as_of: datetime,
    open_alerts: Mapping[str, timedelta | None] = NOTHING_OPEN,
) -> pd.DataFrame:
    """
    Judge each credential's token by how long it has left, and by how long such tokens last.

    A token that expires exactly at ``as_of`` has expired; one with exactly ``within`` left is within it.

    - long-lived (a lifetime of ``long_lived_from`` or more): BREACH once expired or with at most ``within`` left, high
      once expired or with at most ``high_within``; CLEAR with more than ``within``.
    - short-lived (less, or unknown): BREACH, high, when it expired more than ``short_lived_expired_for`` ago and no run
      completed after it expired; BAND while it expired less long ago; CLEAR when it has not, or a run completed since.
    - policy ``literal``: as long-lived, whatever the lifetime, and with client id and secret or without.
    - ``high_within`` None: never high.

    NO_DATA: no token; no client id or secret; nothing recorded at ``as_of``. REMOVED, of an open alert only: the
    credential has no row any more, or its status is not monitored.

    Args:
        credentials: `CREDENTIAL_FACT_COLUMNS`, those to judge, in any order.
        policy: the thresholds.
        monitored: the values of ``connection_status`` that are in use.
        as_of: the instant to judge by; aware.
        open_alerts: credentials whose alert is open, with the token lifetime it knows of (its evidence
            ``lifetime_seconds``): a lower bound, so that an alert does not end because its proof was forgotten.

    Returns:
        `OBSERVATION_COLUMNS`: one row per monitored or unrecorded credential and per open alert, ordered by credential
        id as text. Evidence: expires_at, last_success_at (ISO 8601 UTC or None), lifetime_seconds, remaining_seconds
        (negative once expired), judged ("long-lived", "short-lived" or "literal").

    Raises:
        FrameError: ``credentials`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")

    def lifetime(credential: Credential) -> timedelta | None:
        bounds = (credential.token_lifetime, open_alerts.get(credential.subject.credential_id))
        return max((bound for bound in bounds if bound is not None), default=None)

    return judge_each(
        credentials,
        rule="token_expiry",
        severity=policy.severity,
        monitored=monitored,
        open_alerts=open_alerts,
        decide=lambda credential: _decide(credential, lifetime=lifetime(credential), policy=policy, as_of=as_of),
        words=lambda credential: _words(credential, lifetime=lifetime(credential), policy=policy, as_of=as_of),
    )


def _decide(
    credential: Credential, *, lifetime: timedelta | None, policy: TokenExpiryPolicy, as_of: datetime
) -> Decision:
    judged = _judged_as(lifetime, policy=policy)
    if judged != LITERAL and not (credential.has_client_id and credential.has_client_secret):
        missing = [
            name
            for name, is_there in (("id", credential.has_client_id), ("secret", credential.has_client_secret))
            if not is_there
        ]
        return Decision(verdict=Verdict.NO_DATA, reason=f"missing: its client {' and '.join(missing)}")
    if credential.token_expires_at is None:
        return Decision(verdict=Verdict.NO_DATA, reason=NO_TOKEN)
    remaining = credential.token_expires_at - as_of
    if judged == SHORT_LIVED:
        return _decide_short_lived(credential, expires_at=credential.token_expires_at, policy=policy, as_of=as_of)
    if remaining > policy.within:
        return Decision(
            verdict=Verdict.CLEAR,
            reason=f"the token expires in {describe(remaining)}, more than {describe(policy.within)}",
        )
    is_high = policy.high_within is not None and (remaining <= timedelta(0) or remaining <= policy.high_within)
    return Decision(
        verdict=Verdict.BREACH,
        severity=at_least_high(policy.severity) if is_high else policy.severity,
        reason=(
            f"the token expired {describe(-remaining)} ago"
            if remaining <= timedelta(0)
            else f"the token expires in {describe(remaining)}, within {describe(policy.within)}"
        ),
    )


def _decide_short_lived(
    credential: Credential, *, expires_at: datetime, policy: TokenExpiryPolicy, as_of: datetime
) -> Decision:
    if expires_at > as_of:
        return Decision(
            verdict=Verdict.CLEAR, reason=f"the short-lived token expires in {describe(expires_at - as_of)}"
        )
    if credential.last_success_at is not None and credential.last_success_at > expires_at:
        return Decision(
            verdict=Verdict.CLEAR,
            reason=f"a run completed at {utc_words(credential.last_success_at)}, after the token expired",
        )
    unused = f"the short-lived token expired {describe(as_of - expires_at)} ago and no run has completed since"
    limit = describe(policy.short_lived_expired_for)
    if as_of - expires_at > policy.short_lived_expired_for:
        severity: Severity = policy.severity if policy.high_within is None else at_least_high(policy.severity)
        return Decision(verdict=Verdict.BREACH, severity=severity, reason=f"{unused}, for more than {limit}")
    return Decision(verdict=Verdict.BAND, reason=f"{unused}, but not for more than {limit}")


def _judged_as(lifetime: timedelta | None, *, policy: TokenExpiryPolicy) -> str:
    if policy.judge_by is TokenJudgement.LITERAL:
        return LITERAL
    return LONG_LIVED if lifetime is not None and lifetime >= policy.long_lived_from else SHORT_LIVED


def _words(credential: Credential, *, lifetime: timedelta | None, policy: TokenExpiryPolicy, as_of: datetime) -> Words:
    who = f"{credential.subject.label} ({credential.subject.environment})"
    expires_at = credential.token_expires_at
    expires_text = iso_utc(expires_at)
    remaining = None if expires_at is None else expires_at - as_of
    if remaining is None:
        title, message = "ServiceTitan Token Expiring Soon", f"ServiceTitan token for {who} has no known expiry"
    elif remaining > timedelta(0):
        title = "ServiceTitan Token Expiring Soon"
        message = f"ServiceTitan token for {who} expires in {describe(remaining)}"
    else:
        title = "ServiceTitan Token Expired"
        message = f"ServiceTitan token for {who} expired {describe(-remaining)} ago"
    return Words(
        title=title,
        message=message,
        metadata={"expires_at": expires_text},
        evidence={
            "expires_at": expires_text,
            "lifetime_seconds": whole_seconds(lifetime),
            "remaining_seconds": whole_seconds(remaining),
            "last_success_at": iso_utc(credential.last_success_at),
            "judged": _judged_as(lifetime, policy=policy),
        },
    )
