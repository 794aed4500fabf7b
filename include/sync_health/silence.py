"""
A platform that fell silent: no sync starts any more, although one did nearly every hour of the day before.

Told by the starts of one environment. Whether what we read is up to date at all is `include.sync_health.visibility`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.durations import describe
from include.sync_health.failures import iso_utc, observation_frame, utc_words
from include.sync_health.frames import RUN_COLUMNS, id_text, require_columns
from include.sync_health.rule_policies import NoSyncsPolicy
from include.sync_health.subjects import Subject
from include.sync_health.verdicts import Verdict

HOUR = timedelta(hours=1)

HOURS_BEFORE = 24
"""How many hours before the silence tell whether it is unusual: a whole day, so that a nightly pause is one of them."""

NO_CREDENTIAL_LEFT = "the environment has no credential any more"


def judge_no_syncs(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: NoSyncsPolicy,
    as_of: datetime,
    open_environments: Collection[str] = (),
) -> pd.DataFrame:
    """
    Judge, for each environment, whether its syncs stopped starting.

    CLEAR: a run started in (as_of - silent_for, as_of]. Without one, the 24 hours that end at as_of - silent_for, each
    open at its start and closed at its end, are looked at: BREACH when at least ``busy_hours`` of them had a start,
    INSUFFICIENT when fewer had. An open alert stays in BREACH until a run starts, for the silence itself empties those
    hours; it is REMOVED when the environment has no credential any more. Starts after ``as_of`` are not believed.

    Args:
        runs: `RUN_COLUMNS`, in any order; at least those started within silent_for + 24 h before ``as_of``.
        subjects: who the credentials are; runs of a credential that is not among them do not count.
        policy: the thresholds, and which environments are watched.
        as_of: the instant to judge by; aware.
        open_environments: those whose alert is open.

    Returns:
        `OBSERVATION_COLUMNS`: one row per environment of the policy, and per open one, ordered by name.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, RUN_COLUMNS, name="runs")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    watched = sorted({*policy.environments, *open_environments})
    has_credentials = {subject.environment for subject in subjects.values()}
    # Ids are turned into text once each, not once a run.
    codes, ids = pd.factorize(runs["credential_id"])
    known = [subjects.get(name) for name in id_text(pd.Series(ids))]
    rows = []
    for environment in watched:
        here = pd.Series([subject is not None and subject.environment == environment for subject in known], dtype=bool)
        mine = pd.Series(codes, index=runs.index).isin(here.index[here])
        starts = runs.loc[mine & (runs["started_at"] <= pd.Timestamp(as_of)), "started_at"]
        last = starts.max() if len(starts) else None
        edge = pd.Timestamp(as_of - policy.silent_for)
        busy = _busy_hours(starts, before=edge)
        silent = _silence_words(last, policy=policy, as_of=as_of)
        if last is not None and last > edge:
            verdict, reason = Verdict.CLEAR, f"a sync started at {utc_words(last)}"
        elif environment in open_environments and environment not in has_credentials:
            verdict, reason = Verdict.REMOVED, NO_CREDENTIAL_LEFT
        elif environment in open_environments:
            verdict, reason = Verdict.BREACH, f"still no sync has started for {silent}"
        elif busy >= policy.busy_hours:
            verdict = Verdict.BREACH
            reason = f"no sync has started for {silent}, although {busy} of the {HOURS_BEFORE} hours before had one"
        else:
            verdict = Verdict.INSUFFICIENT
            reason = (
                f"no sync has started for {silent}, but only {busy} of the {HOURS_BEFORE} hours before had one, "
                f"fewer than {policy.busy_hours}"
            )
        rows.append(
            {
                "rule": "no_syncs",
                "identity": {"environment": environment},
                "verdict": verdict,
                "severity": policy.severity,
                "credential_id": None,
                "company_id": None,
                "company_name": None,
                "environment": environment,
                "data_type": None,
                "title": "No ServiceTitan Syncs",
                "message": f"No ServiceTitan sync has started for {silent} ({environment})",
                "metadata": {"environment": environment, "last_started_at": iso_utc(last)},
                "error_class": None,
                "cause": None,
                "evidence": {
                    "last_started_at": iso_utc(last),
                    "silent_seconds": None if last is None else int((as_of - last).total_seconds()),
                    "busy_hours": busy,
                },
                "reason": reason,
            }
        )
    return observation_frame(rows)


def _busy_hours(starts: pd.Series, *, before: pd.Timestamp) -> int:
    """Return how many of the `HOURS_BEFORE` hours that end at ``before`` had a start."""
    ages = (before - starts[starts <= before]).dt.total_seconds()
    hours = ages // HOUR.total_seconds()
    return int(hours[hours < HOURS_BEFORE].nunique())


def _silence_words(last: Any, *, policy: NoSyncsPolicy, as_of: datetime) -> str:
    if last is None:  # the runs given reach so far back
        return f"at least {describe(policy.silent_for + HOURS_BEFORE * HOUR)}"
    return describe(as_of - last.to_pydatetime())
