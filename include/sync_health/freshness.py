"""Credentials in use whose syncs no longer complete: nothing need have failed for data to be old."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

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
from include.sync_health.frames import CREDENTIAL_FACT_COLUMNS, id_text, require_columns
from include.sync_health.rule_policies import StaleSyncPolicy
from include.sync_health.verdicts import Verdict


def judge_stale_syncs(
    credentials: pd.DataFrame,
    *,
    policy: StaleSyncPolicy,
    monitored: Collection[str],
    as_of: datetime,
    open_alerts: Collection[str] = (),
) -> pd.DataFrame:
    """
    Judge each monitored credential by its last completed run, or, if it never had one, by its creation.

    BREACH: that was more than ``stale_after`` ago (exactly that long is fresh), high past ``high_after``. CLEAR: a run
    completed since. BAND: it never completed a run, and was created no longer ago. NO_DATA: it never completed one and
    nothing says when it was created, or nothing was recorded at ``as_of``. REMOVED, of an open alert only: the credential
    has no row any more, or its status is not monitored. A credential created only after ``as_of``
    did not exist: no row, or NO_DATA of an open alert; a run completed by then proves that it did.

    Args:
        credentials: `CREDENTIAL_FACT_COLUMNS`, those to judge, in any order.
        policy: the thresholds.
        monitored: the values of ``connection_status`` that are in use.
        as_of: the instant to judge by; aware.
        open_alerts: ids (as text) of the credentials whose alert is open.

    Returns:
        `OBSERVATION_COLUMNS`: one row per monitored or unrecorded credential and per open alert, ordered by credential
        id as text. Evidence: last_success_at and, where there is none, created_at (ISO 8601 UTC or None), stale_seconds (since the one or, failing
        that, the other; None if neither is known), stale_after_seconds (the threshold).

    Raises:
        FrameError: ``credentials`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(credentials, CREDENTIAL_FACT_COLUMNS, name="credentials")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    not_yet = credentials["last_success_at"].isna() & (credentials["created_at"] > pd.Timestamp(as_of))
    is_open = id_text(credentials["credential_id"]).isin(list(open_alerts))
    return judge_each(
        credentials[~not_yet | is_open],
        rule="stale_sync",
        severity=policy.severity,
        monitored=monitored,
        open_alerts=open_alerts,
        decide=lambda credential: _decide(credential, policy=policy, as_of=as_of),
        words=lambda credential: _words(credential, policy=policy, as_of=as_of),
    )


def _decide(credential: Credential, *, policy: StaleSyncPolicy, as_of: datetime) -> Decision:
    age = _age(credential, as_of=as_of)
    success = credential.last_success_at
    if age is None:
        return Decision(
            verdict=Verdict.NO_DATA, reason="it never completed a run, and nothing says when it was created"
        )
    if success is None and age < timedelta(0):
        return Decision(verdict=Verdict.NO_DATA, reason=f"it was created only at {utc_words(credential.created_at)}")
    last = (
        f"it never completed a run and was created {describe(age)} ago"
        if success is None
        else f"the last run completed {describe(age)} ago"
    )
    limit = describe(policy.stale_after)
    if age > policy.stale_after:
        is_high = policy.high_after is not None and age > policy.high_after
        return Decision(
            verdict=Verdict.BREACH,
            severity=at_least_high(policy.severity) if is_high else policy.severity,
            reason=f"{last}, more than {limit}",
        )
    if success is None:
        return Decision(verdict=Verdict.BAND, reason=f"{last}, not more than {limit}")
    return Decision(verdict=Verdict.CLEAR, reason=f"{last}, not more than {limit}")


def _age(credential: Credential, *, as_of: datetime) -> timedelta | None:
    since = credential.last_success_at or credential.created_at
    return None if since is None else as_of - since


def _words(credential: Credential, *, policy: StaleSyncPolicy, as_of: datetime) -> Words:
    who = f"{credential.subject.label} ({credential.subject.environment})"
    success = credential.last_success_at
    success_text = iso_utc(success)
    what = (
        "has never completed a sync" if success is None else f"has not completed a sync for {describe(as_of - success)}"
    )
    return Words(
        title="ServiceTitan Sync Stale",
        message=f"ServiceTitan integration for {who} {what}",
        metadata={"last_success_at": success_text},
        evidence={
            "last_success_at": success_text,
            **({"created_at": iso_utc(credential.created_at)} if success is None else {}),
            "stale_seconds": whole_seconds(_age(credential, as_of=as_of)),
            "stale_after_seconds": whole_seconds(policy.stale_after),
        },
    )
