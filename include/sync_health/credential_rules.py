"""
What the rules over a credential's own facts have in common: whom they judge, and the row they answer with.

Each rule says only what it decides and in which words; see `include.sync_health.tokens`,
`include.sync_health.connection_errors` and `include.sync_health.freshness`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.credential_facts import KNOWN_STATUSES
from include.sync_health.failures import CREDENTIAL_REMOVED, observation_frame
from include.sync_health.frames import CREDENTIAL_FACT_COLUMNS, id_text, require_columns
from include.sync_health.subjects import Subject, subjects_of, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

NOT_RECORDED = "connection status and token were not recorded at that time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One row of `CREDENTIAL_FACT_COLUMNS` in plain values: times aware, None for NaT."""

    subject: Subject
    connection_status: str = ""
    is_recorded: bool = True
    has_client_id: bool = True
    has_client_secret: bool = True
    token_expires_at: datetime | None = None
    token_lifetime: timedelta | None = None
    created_at: datetime | None = None
    error_since: datetime | None = None
    last_success_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a rule decides of a credential, and why, in one sentence."""

    verdict: Verdict
    reason: str
    severity: Severity | None = None  # None: the policy's


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a rule says of a credential, whatever it decides."""

    title: str
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)  # beside credential_id, company_name and environment
    evidence: dict[str, Any] = field(default_factory=dict)


def judge_each(
    credentials: pd.DataFrame,
    *,
    rule: str,
    severity: Severity,
    monitored: Collection[str],
    open_alerts: Collection[str],
    decide: Callable[[Credential], Decision],
    words: Callable[[Credential], Words],
) -> pd.DataFrame:
    """
    Let a rule decide of every credential that is in use, and close what is open of the others.

    A credential of which nothing was recorded at the instant judged is NO_DATA. One whose status is not ``monitored`` is
    REMOVED while its alert is open, as is an open alert whose credential has no row; neither has a row otherwise. With a
    status that nobody knows it is NO_DATA while its alert is open: that says nothing of whether it is in use.

    Args:
        credentials: `CREDENTIAL_FACT_COLUMNS`, those to judge, in any order.
        rule: its name.
        severity: where the decision names none.
        monitored: the values of ``connection_status`` that are in use.
        open_alerts: ids (as text) of the credentials whose alert is open.
        decide: asked only of credentials that are recorded and in use.
        words: asked of every row; of a credential without one it gets `unknown_subject` and no facts.

    Returns:
        `OBSERVATION_COLUMNS`, ordered by credential id as text.

    Raises:
        FrameError: ``credentials`` lacks a column.
    """
    require_columns(credentials, CREDENTIAL_FACT_COLUMNS, name="credentials")
    is_open, in_use = set(open_alerts), set(monitored)
    known = {each.subject.credential_id: each for each in _credentials_of(credentials)}
    rows = []
    for credential_id in sorted({*known, *is_open}):
        credential = known.get(credential_id)
        if credential is None:
            credential = Credential(subject=unknown_subject(credential_id))
            decision = Decision(verdict=Verdict.REMOVED, reason=CREDENTIAL_REMOVED)
        elif not credential.is_recorded:
            decision = Decision(verdict=Verdict.NO_DATA, reason=NOT_RECORDED)
        elif credential.connection_status in in_use:
            decision = decide(credential)
        elif credential_id in is_open and credential.connection_status not in KNOWN_STATUSES:
            decision = Decision(
                verdict=Verdict.NO_DATA, reason=f"its status is {credential.connection_status!r}, which nobody knows"
            )
        elif credential_id in is_open:
            reason = f"the credential is no longer in use: its status is {credential.connection_status}"
            decision = Decision(verdict=Verdict.REMOVED, reason=reason)
        else:
            continue
        rows.append(_row(credential, rule=rule, severity=severity, decision=decision, said=words(credential)))
    return observation_frame(rows)


def at_least_high(severity: Severity) -> Severity:
    """Return high, or the policy's severity where that is worse."""
    return max(severity, Severity.HIGH, key=lambda each: each.rank)


def whole_seconds(duration: timedelta | None) -> int | None:
    """Return a duration in seconds, cut off towards zero; None for none."""
    return None if duration is None else int(duration.total_seconds())


def _credentials_of(frame: pd.DataFrame) -> list[Credential]:
    subjects = subjects_of(frame)
    return [
        Credential(
            subject=subjects[credential_id],
            connection_status=str(status),
            is_recorded=bool(is_recorded),
            has_client_id=bool(has_client_id),
            has_client_secret=bool(has_client_secret),
            token_expires_at=expires_at,
            token_lifetime=lifetime,
            created_at=created_at,
            error_since=error_since,
            last_success_at=last_success_at,
        )
        for (
            credential_id,
            status,
            is_recorded,
            has_client_id,
            has_client_secret,
            expires_at,
            lifetime,
            created_at,
            error_since,
            last_success_at,
        ) in zip(
            id_text(frame["credential_id"]),
            frame["connection_status"],
            frame["is_recorded"],
            frame["has_client_id"],
            frame["has_client_secret"],
            _instants(frame["token_expires_at"]),
            _durations(frame["token_lifetime"]),
            _instants(frame["created_at"]),
            _instants(frame["error_since"]),
            _instants(frame["last_success_at"]),
            strict=True,
        )
    ]


def _instants(values: pd.Series) -> list[datetime | None]:
    """Return aware times as datetime, None for NaT: at once, for one by one pandas is slow."""
    naive: list[datetime | None] = values.dt.tz_convert(None).to_numpy(dtype="datetime64[us]").tolist()
    return [None if each is None else each.replace(tzinfo=UTC) for each in naive]


def _durations(values: pd.Series) -> list[timedelta | None]:
    durations: list[timedelta | None] = values.to_numpy(dtype="timedelta64[us]").tolist()
    return durations


def _row(credential: Credential, *, rule: str, severity: Severity, decision: Decision, said: Words) -> dict[str, Any]:
    subject = credential.subject
    return {
        "rule": rule,
        "identity": {"credential": subject.credential_id},
        "verdict": decision.verdict,
        "severity": decision.severity or severity,
        "credential_id": subject.credential_id,
        "company_id": subject.company_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
        "data_type": None,
        "title": said.title,
        "message": said.message,
        "metadata": {
            "credential_id": subject.credential_id,
            "company_name": subject.company_name,
            "environment": subject.environment,
        }
        | said.metadata,
        "error_class": None,
        "cause": None,
        "evidence": said.evidence,
        "reason": decision.reason,
    }
