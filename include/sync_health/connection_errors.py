"""
Connections that upstream marked as in error, and that nothing has worked through since.

Upstream sets the status on a failed token refresh and may leave it there although syncs go on: a run that completed after
the error began says that the connection works.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import pandas as pd

from include.sync_health.credential_facts import ERROR_STATUS
from include.sync_health.credential_rules import Credential, Decision, Words, judge_each, whole_seconds
from include.sync_health.durations import describe
from include.sync_health.failures import iso_utc, utc_words
from include.sync_health.frames import CREDENTIAL_FACT_COLUMNS, id_text, require_columns
from include.sync_health.rule_policies import ConnectionErrorPolicy
from include.sync_health.verdicts import Verdict


def judge_connection_errors(
    credentials: pd.DataFrame,
    *,
    policy: ConnectionErrorPolicy,
    monitored: Collection[str],
    as_of: datetime,
    open_alerts: Collection[str] = (),
) -> pd.DataFrame:
    """
    Judge each credential whose status is ``error``, and each open alert.

    BREACH: in error, and no run completed after the error began (one at that very instant is none), or nothing says when
    it began, or the policy goes by ``status_alone``. CLEAR: a run completed since, or the status is another monitored
    one. NO_DATA: nothing recorded at ``as_of``. REMOVED, of an open alert only: the credential has no row any more, or
    its status is not monitored. The status ``error`` itself is always judged, whatever ``monitored`` says of it.

    Args:
        credentials: `CREDENTIAL_FACT_COLUMNS`, those to judge, in any order.
        policy: the severity, and whether the status alone decides.
        monitored: the values of ``connection_status`` that are in use.
        as_of: the instant to judge by; aware.
        open_alerts: ids (as text) of the credentials whose alert is open.

    Returns:
        `OBSERVATION_COLUMNS`: one row per credential in error or unrecorded, and per open alert, ordered by credential
        id as text. Evidence: error_began_at, last_success_at (ISO 8601 UTC or None), in_error_seconds (None if unknown).

    Raises:
        FrameError: ``credentials`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(credentials, CREDENTIAL_FACT_COLUMNS, name="credentials")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    is_spoken_of = (
        (credentials["connection_status"] == ERROR_STATUS)
        | ~credentials["is_recorded"].astype(bool)
        | id_text(credentials["credential_id"]).isin(list(open_alerts))
    )
    return judge_each(
        credentials[is_spoken_of],
        rule="connection_error",
        severity=policy.severity,
        monitored={*monitored, ERROR_STATUS},
        open_alerts=open_alerts,
        decide=lambda credential: _decide(credential, policy=policy),
        words=lambda credential: _words(credential, as_of=as_of),
    )


def _decide(credential: Credential, *, policy: ConnectionErrorPolicy) -> Decision:
    since, success = credential.error_since, credential.last_success_at
    if credential.connection_status != ERROR_STATUS:
        return Decision(verdict=Verdict.CLEAR, reason=f"the connection status is {credential.connection_status}")
    began = "since an unknown time" if since is None else f"since {utc_words(since)}"
    if policy.status_alone:
        return Decision(verdict=Verdict.BREACH, reason=f"the connection status is error {began}")
    if success is not None and since is not None and success > since:
        return Decision(
            verdict=Verdict.CLEAR,
            reason=f"a run completed at {utc_words(success)}, after the error began at {utc_words(since)}",
        )
    if success is not None and since is None:
        reason = f"the connection status is error, and nothing says whether it began before {utc_words(success)}, when a run completed"
        return Decision(verdict=Verdict.BREACH, reason=reason)
    return Decision(
        verdict=Verdict.BREACH, reason=f"the connection status is error {began}, and no run has completed since"
    )


def _words(credential: Credential, *, as_of: datetime) -> Words:
    subject, since = credential.subject, credential.error_since
    who = f"{subject.label} ({subject.environment})"
    duration = None if since is None else as_of - since
    if credential.connection_status == ERROR_STATUS and duration is not None and not duration:
        message = (
            f"ServiceTitan connection for {who} is in error"  # seen for the first time, and since when nobody knows
        )
    elif credential.connection_status == ERROR_STATUS:
        how_long = "an unknown time" if duration is None else describe(duration)
        message = f"ServiceTitan connection for {who} has been in error for {how_long}"
    else:
        message = f"ServiceTitan connection for {who} is not known to be in error"
    return Words(
        title="ServiceTitan Connection Error",
        message=message,
        metadata={"since": iso_utc(since)},
        evidence={
            "error_began_at": iso_utc(since),
            "in_error_seconds": whole_seconds(duration),
            "last_success_at": iso_utc(credential.last_success_at),
        },
    )
