"""An outage of the platform: many credentials of one environment that fail with one class of error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from include.sync_health.causes import classify_messages
from include.sync_health.failures import error_text, finished_runs, iso_utc, observation_frame, window_words
from include.sync_health.rule_policies import PlatformOutagePolicy
from include.sync_health.subjects import Subject
from include.sync_health.verdicts import ErrorClass, Verdict

SHARED_CLASSES = tuple(each for each in ErrorClass if each not in (ErrorClass.UNKNOWN, ErrorClass.CANCELLED))
"""The classes that can be one cause of many failures: an unknown one is many causes, a cancellation is none."""


CLASS_WORDS = {
    ErrorClass.AUTH: "authentication",
    ErrorClass.PERMISSION: "missing permission",
    ErrorClass.RATE_LIMIT: "rate limit",
    ErrorClass.TIMEOUT: "time-outs",
    ErrorClass.SERVER: "server errors",
    ErrorClass.DECODE: "unreadable answers",
    ErrorClass.VALIDATION: "refused records",
}
"""The classes as the message says them."""


def judge_platform_outage(
    runs: pd.DataFrame, *, subjects: Mapping[str, Subject], policy: PlatformOutagePolicy, as_of: datetime
) -> pd.DataFrame:
    """
    Judge, for each environment and each class of error, how many of the credentials that ran failed with it.

    A credential ran when a run of it completed or failed in (as_of - window, as_of] (cancelled ones left out); it failed
    with a class when at least one of those runs did, whatever the others did. NO_DATA: none ran. INSUFFICIENT: fewer
    than ``min_credentials`` ran. BREACH: at least ``breach_share`` percent of them, and at least ``min_credentials``,
    failed with the class. CLEAR: less than ``clear_share`` percent. BAND: everything between.

    Args:
        runs: `RUN_COLUMNS`, in any order; at least those finished within the window.
        subjects: who the credentials are; runs of a credential that is not among them do not count.
        policy: the thresholds, and which environments are watched.
        as_of: the instant to judge by; aware.

    Returns:
        `OBSERVATION_COLUMNS`: one row for each of the policy's environments and each of `SHARED_CLASSES`, whatever ran,
        so that every open alert is judged; in the policy's order of environments, then by class. ``cause`` is the
        commonest root cause of the class's failures, of equals the most recent; ``sample`` its newest text.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    finished = finished_runs(runs, since=as_of - policy.window, as_of=as_of, count_cancelled=False)
    environment_of = {name: subjects[name].environment for name in finished["credential"].unique() if name in subjects}
    finished["environment"] = finished["credential"].map(environment_of)
    finished = finished[finished["environment"].isin(policy.environments)]
    ran: dict[Any, int] = finished.groupby("environment")["credential"].nunique().to_dict()
    failures = finished[finished["failed"]]
    failures = failures.join(classify_messages(failures["error_message"]))
    by_class = {
        (environment, name): group for (environment, name), group in failures.groupby(["environment", "error_class"])
    }
    return observation_frame(
        _row(
            environment,
            error_class,
            ran=int(ran.get(environment, 0)),
            failures=by_class.get((environment, error_class.value)),
            policy=policy,
        )
        for environment in policy.environments
        for error_class in sorted(SHARED_CLASSES)
    )


def _row(
    environment: str, error_class: ErrorClass, *, ran: int, failures: pd.DataFrame | None, policy: PlatformOutagePolicy
) -> dict[str, Any]:
    """Return what is said of one class; ``failures`` is oldest first, None without any."""
    failing = 0 if failures is None else int(failures["credential"].nunique())
    sample = None if failures is None else error_text(failures["error_message"].iloc[-1])
    verdict, reason = _verdict(failing, ran=ran, policy=policy)
    window = window_words(policy.window)
    return {
        "rule": "platform_outage",
        "identity": {"environment": environment, "error_class": error_class.value},
        "verdict": verdict,
        "severity": policy.severity,
        "credential_id": None,
        "company_id": None,
        "company_name": None,
        "environment": environment,
        "data_type": None,
        "title": "ServiceTitan Platform Outage",
        "message": (
            f"{failing} of {ran} ServiceTitan credentials ({environment}) failed in {window} with the same cause: "
            f"{CLASS_WORDS[error_class]}"
        ),
        "metadata": {
            "environment": environment,
            "error_class": error_class.value,
            "failed_credentials": failing,
            "ran_credentials": ran,
            "sample": sample,
        },
        "error_class": error_class.value,
        "cause": None if failures is None else _commonest_cause(failures),
        "evidence": {
            "failed_credentials": failing,
            "ran_credentials": ran,
            "share_percent": round(100 * failing / ran, 1) if ran else None,
            "threshold_percent": policy.breach_share,
            "min_credentials": policy.min_credentials,
            "window_seconds": int(policy.window.total_seconds()),
            "last_failed_at": None if failures is None else iso_utc(failures["finished_at"].iloc[-1]),
        },
        "reason": reason,
    }


def _verdict(failing: int, *, ran: int, policy: PlatformOutagePolicy) -> tuple[Verdict, str]:
    window = window_words(policy.window)
    if not ran:
        return Verdict.NO_DATA, f"no credential finished a run in {window}"
    told = f"{failing} of {ran} credentials that ran in {window} failed with it"
    if ran < policy.min_credentials:
        return Verdict.INSUFFICIENT, f"{told}; fewer than {policy.min_credentials} ran"
    # Multiplied out: exactly the threshold must be the threshold, and a quotient may miss it by a bit.
    if 100 * failing >= policy.breach_share * ran and failing >= policy.min_credentials:
        return Verdict.BREACH, f"{told}; the threshold is {policy.breach_share:g}%, and {policy.min_credentials}"
    if 100 * failing < policy.clear_share * ran:
        return Verdict.CLEAR, f"{told}, which is less than {policy.clear_share:g}%"
    return Verdict.BAND, f"{told}: too many to be clear, too few to be an outage"


def _commonest_cause(failures: pd.DataFrame) -> str:
    """Return the root cause that most failures share, of equals the most recent; ``failures`` is oldest first."""
    newest_first = failures["cause"].iloc[::-1]
    counts = newest_first.value_counts()
    return str(next(cause for cause in newest_first if counts[cause] == counts.max()))
