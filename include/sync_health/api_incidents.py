"""Credentials that ServiceTitan refuses for their rate, and circuit breakers that open: as our own hours tell of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from include.sync_health.api_rule_policies import ApiIncidentsPolicy
from include.sync_health.api_window import NOBODY_TELLS, ApiWindow, counted_until, hours_words, judged_hours
from include.sync_health.failures import observation_frame, window_words
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import ErrorClass, Verdict

RATE_LIMIT, CIRCUIT_BREAKER = "rate_limit", "circuit_breaker"
INCIDENT_KINDS = (RATE_LIMIT, CIRCUIT_BREAKER)
"""What an alert of ``api_incidents`` may speak of."""

UNKNOWN_CREDENTIAL = "unknown"
"""In an identity: incidents of which no source tells the credential."""

IncidentKey = tuple[str, str]
"""(credential id, kind)."""


def judge_api_incidents(
    api: ApiWindow,
    *,
    subjects: Mapping[str, Subject],
    policy: ApiIncidentsPolicy,
    as_of: datetime,
    open_keys: Collection[IncidentKey] = (),
) -> pd.DataFrame:
    """
    Judge, for each credential, how often it was refused for its rate, and how often its circuit breaker opened.

    Counted are the incidents of the window's whole hours; of two sources that tell of them, the larger number, since they
    may tell of the same ones. BREACH: at least ``rate_limits``, or ``circuit_openings``. CLEAR: less than ``clear_share``
    percent of that, and at least one call was made: a breaker that stays open calls nothing. BAND: between. NO_DATA: no
    call, or no source that has been read so far. REMOVED: an open alert's credential is gone.

    Args:
        api: what is stored.
        subjects: who the credentials are.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_keys: whose alert is open: judged also without an incident.

    Returns:
        `OBSERVATION_COLUMNS`: one row per credential and kind with an incident in the window or an open alert, ordered by
        them. What no source can attribute is the credential ``unknown``'s.

    Raises:
        ValueError: ``as_of`` is naive.
    """
    first, until = judged_hours(as_of, window=policy.window)
    believed = [name for name in ("table", "log") if api.statuses(until=until).get(name) == "available"]
    seen: dict[IncidentKey, int] = {}
    calls: dict[str, int] = {}
    environments: dict[str, str] = {}
    for source in believed:
        sums = _by_credential(api.of(source, first=first, until=until))
        for credential, environment, requests, refused, opened in sums:
            calls[credential] = max(calls.get(credential, 0), requests)
            environments[credential] = environment
            for kind, number in ((RATE_LIMIT, refused), (CIRCUIT_BREAKER, opened)):
                if number:
                    seen[credential, kind] = max(seen.get((credential, kind), 0), number)
    rows = []
    for credential, kind in sorted({*seen, *open_keys}):
        subject = subjects.get(credential) or Subject(
            credential_id=credential,
            company_id=None,
            company_name=None,
            environment=environments.get(credential, unknown_subject(credential).environment),
        )
        is_gone = credential not in subjects and credential != UNKNOWN_CREDENTIAL and credential not in calls
        rows.append(
            _incident_row(
                kind,
                seen.get((credential, kind), 0),
                calls=calls.get(credential, 0),
                subject=subject,
                told=bool(believed),
                is_gone=is_gone,
                policy=policy,
                until=until,
                source=" and ".join(believed) or None,
            )
        )
    return observation_frame(rows)


def _incident_row(
    kind: str,
    incidents: int,
    *,
    calls: int,
    subject: Subject,
    told: bool,
    is_gone: bool,
    policy: ApiIncidentsPolicy,
    until: datetime,
    source: str | None,
) -> dict[str, Any]:
    is_circuit = kind == CIRCUIT_BREAKER
    threshold = policy.circuit_openings if is_circuit else policy.rate_limits
    times = "once" if incidents == 1 else f"{incidents} times"
    window = window_words(policy.window)
    who = f"{subject.label} ({subject.environment})"
    if is_gone:
        verdict, reason = Verdict.REMOVED, "the credential was deleted upstream"
    else:
        verdict, reason = _incident_verdict(incidents, threshold, calls=calls, told=told, policy=policy, until=until)
    return {
        "rule": "api_incidents",
        "identity": {"credential": subject.credential_id, "kind": kind},
        "verdict": verdict,
        "severity": policy.circuit_severity if is_circuit else policy.severity,
        "credential_id": subject.credential_id,
        "company_id": subject.company_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
        "data_type": None,
        "title": "ServiceTitan Circuit Breaker Opened" if is_circuit else "ServiceTitan API Rate Limited",
        "message": f"The circuit breaker of the ServiceTitan integration for {who} opened {times} in {window}"
        if is_circuit
        else f"ServiceTitan refused calls for {who} for their rate {times} in {window}",
        "metadata": {
            "credential_id": subject.credential_id,
            "company_name": subject.company_name,
            "environment": subject.environment,
            "kind": kind,
            "incidents": incidents,
        },
        "error_class": None if is_circuit else ErrorClass.RATE_LIMIT,
        "cause": None,
        "evidence": {
            "incidents": incidents,
            "threshold": threshold,
            "calls": calls,
            **counted_until(until, window=policy.window, source=source),
        },
        "reason": reason,
    }


def _incident_verdict(
    incidents: int, threshold: int, *, calls: int, told: bool, policy: ApiIncidentsPolicy, until: datetime
) -> tuple[Verdict, str]:
    window = hours_words(policy.window, until=until)
    if not told:
        return Verdict.NO_DATA, NOBODY_TELLS
    said = f"{incidents} in {window}"
    if incidents >= threshold:
        return Verdict.BREACH, f"{said}, at least {threshold}"
    if 100 * incidents >= policy.clear_share * threshold:
        return Verdict.BAND, f"{said}: too many to be clear, too few to be told"
    if not calls:
        return Verdict.NO_DATA, f"no call in {window}"
    return Verdict.CLEAR, f"{said}, and {calls} calls"


def _by_credential(hours: pd.DataFrame) -> Iterable[tuple[str, str, int, int, int]]:
    """Yield of each credential: id, environment, requests, incidents of the rate limit, openings."""
    sums = hours.groupby("credential_id", observed=True).agg(
        {"environment": "last", "requests": "sum", "rate_limited": "sum", "circuit_opened": "sum"}
    )
    for credential, environment, *numbers in sums.itertuples(name=None):
        requests, refused, opened = map(int, numbers)
        yield str(credential) or UNKNOWN_CREDENTIAL, str(environment), requests, refused, opened
