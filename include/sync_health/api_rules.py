"""
The ServiceTitan API as the application's calls meet it: endpoints that fail, and endpoints that are slow.

Judged are whole UTC hours of our own table, as far as a source has told them; no rule reads the source. Of one call that
two sources know, the one that is believed speaks (`include.sync_health.api_calls.application_source`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.api_calls import application_source
from include.sync_health.api_rule_policies import ApiErrorsPolicy, ApiLatencyPolicy
from include.sync_health.api_window import NOBODY_TELLS, ApiWindow, counted_until, hours_words, judged_hours
from include.sync_health.endpoints import UNKNOWN, endpoint_in_words
from include.sync_health.failures import observation_frame, window_words
from include.sync_health.response_times import quantile
from include.sync_health.verdicts import ErrorClass, Severity, Verdict

SLOW_SHARE = 0.95
"""The quantile that the story names."""

EndpointKey = tuple[str, str]
"""(environment, endpoint)."""


def judge_api_errors(
    api: ApiWindow, *, policy: ApiErrorsPolicy, as_of: datetime, open_keys: Collection[EndpointKey] = ()
) -> pd.DataFrame:
    """
    Judge, for each environment and endpoint, how many of its calls failed.

    INSUFFICIENT: fewer than ``min_calls`` calls in the window's whole hours. BREACH: more than ``breach_share`` percent
    failed; high from ``high_share`` on. CLEAR: less than ``clear_share``. BAND: between. NO_DATA: of an open alert, no call,
    or no source that has been read so far.

    Args:
        api: what is stored.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_keys: whose alert is open: judged also without calls.

    Returns:
        `OBSERVATION_COLUMNS`, ordered by environment and endpoint. ``error_class`` is that of the commonest status of the
        failures.

    Raises:
        ValueError: ``as_of`` is naive.
    """
    first, until = judged_hours(as_of, window=policy.window)
    source = application_source(api.statuses(until=until))
    groups = {} if source is None else _by_endpoint(api.of(source, first=first, until=until))
    rows = []
    for environment, endpoint in sorted({*groups, *open_keys}):
        found = groups.get((environment, endpoint))
        failed, calls, statuses = (0, 0, {}) if found is None else _failures(found)
        if endpoint == UNKNOWN and found is not None and failed > found["requests"].sum():
            # A log tells the last of several tries without its endpoint: the call itself is among the others.
            calls = max(failed, _calls_of(environment, groups))
        verdict, reason = _errors_verdict(failed, calls, told=source is not None, policy=policy, until=until)
        is_high = policy.high_share is not None and calls and 100 * failed >= policy.high_share * calls
        share = 100 * failed / calls if calls else None
        rows.append(
            {
                **_of_endpoint("api_errors", environment, endpoint),
                "verdict": verdict,
                "severity": max(policy.severity, Severity.HIGH, key=lambda each: each.rank)
                if is_high
                else policy.severity,
                "title": "ServiceTitan API Errors",
                "message": f"ServiceTitan API calls to {endpoint_in_words(endpoint)} ({environment}) had an error rate of "
                f"{share or 0:.1f}% in {window_words(policy.window)} ({failed} of {calls} calls failed)",
                "metadata": {
                    "environment": environment,
                    "endpoint": endpoint,
                    "error_rate": share,
                    "failed_calls": failed,
                    "total_calls": calls,
                    "status_codes": statuses,
                },
                "error_class": _class_of(statuses),
                "evidence": {
                    "calls": calls,
                    "failed_calls": failed,
                    "share_percent": None if share is None else round(share, 2),
                    "threshold_percent": policy.breach_share,
                    "status_codes": {_status_words(status): number for status, number in statuses.items()},
                    **counted_until(until, window=policy.window, source=source),
                },
                "reason": reason,
            }
        )
    return observation_frame(rows)


def judge_api_latency(
    api: ApiWindow, *, policy: ApiLatencyPolicy, as_of: datetime, open_keys: Collection[EndpointKey] = ()
) -> pd.DataFrame:
    """
    Judge, for each environment and endpoint, the 95th percentile (nearest rank, within 2 %) of its response times.

    INSUFFICIENT: fewer than ``min_calls`` calls with a time in the window's whole hours. BREACH: more than ``slower_than``.
    CLEAR: less than ``clear_below``. BAND: between. NO_DATA: of an open alert, no such call, or no source that tells times
    and has been read so far.

    Args:
        api: what is stored.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_keys: whose alert is open: judged also without calls.

    Returns:
        `OBSERVATION_COLUMNS`, ordered by environment and endpoint; those without a timed call are not judged.

    Raises:
        ValueError: ``as_of`` is naive.
    """
    first, until = judged_hours(as_of, window=policy.window)
    timed = {name: each.has_timings for name, each in api.sources.items()}
    source = application_source(api.statuses(until=until), timed=timed)
    groups = {} if source is None else _by_endpoint(api.of(source, first=first, until=until))
    known = {key: found for key, found in groups.items() if found["response_count"].sum()}
    rows = []
    for environment, endpoint in sorted({*known, *open_keys}):
        found = known.get((environment, endpoint))
        buckets: Counter[int] = Counter()
        for each in () if found is None else found["buckets"]:
            buckets.update(each)
        slow, calls = quantile(buckets, SLOW_SHARE), buckets.total()
        average = None if found is None else float(found["response_ms_sum"].sum()) / calls
        verdict, reason = _latency_verdict(slow, calls, told=source is not None, policy=policy, until=until)
        rows.append(
            {
                **_of_endpoint("api_latency", environment, endpoint),
                "verdict": verdict,
                "severity": policy.severity,
                "title": "ServiceTitan API Slow",
                "message": f"ServiceTitan API calls to {endpoint_in_words(endpoint)} ({environment}) took up to "
                f"{_seconds_words(slow)} at the 95th percentile in {window_words(policy.window)} ({calls} calls)",
                "metadata": {
                    "environment": environment,
                    "endpoint": endpoint,
                    "p95_ms": None if slow is None else round(slow, 1),
                    "average_ms": None if average is None else round(average, 1),
                    "timed_calls": calls,
                },
                "evidence": {
                    "timed_calls": calls,
                    "p95_ms": None if slow is None else round(slow),
                    "threshold_ms": round(policy.slower_than / timedelta(milliseconds=1)),
                    "average_ms": None if average is None else round(average),
                    "slowest_ms": None if found is None else round(float(found["response_ms_max"].max())),
                    **counted_until(until, window=policy.window, source=source),
                },
                "reason": reason,
            }
        )
    return observation_frame(rows)


def _errors_verdict(
    failed: int, calls: int, *, told: bool, policy: ApiErrorsPolicy, until: datetime
) -> tuple[Verdict, str]:
    window = hours_words(policy.window, until=until)
    if not told:
        return Verdict.NO_DATA, NOBODY_TELLS
    if not calls:
        return Verdict.NO_DATA, f"no call in {window}"
    said = f"{failed} of {calls} calls failed in {window}"
    if calls < policy.min_calls:
        return Verdict.INSUFFICIENT, f"{said}; fewer than {policy.min_calls} prove nothing"
    share = f"{said}: {100 * failed / calls:.2g}%"
    # Multiplied out: exactly the threshold must be the threshold, and a quotient may miss it by a bit.
    if 100 * failed > policy.breach_share * calls:
        return Verdict.BREACH, f"{share}, more than {policy.breach_share:g}%"
    if 100 * failed < policy.clear_share * calls:
        return Verdict.CLEAR, f"{share}, less than {policy.clear_share:g}%"
    return Verdict.BAND, f"{share}: too many to be clear, too few to be told"


def _latency_verdict(
    slow: float | None, calls: int, *, told: bool, policy: ApiLatencyPolicy, until: datetime
) -> tuple[Verdict, str]:
    window = hours_words(policy.window, until=until)
    if not told:
        return Verdict.NO_DATA, NOBODY_TELLS
    if slow is None:
        return Verdict.NO_DATA, f"no call with a response time in {window}"
    said = f"95% of {calls} calls took at most {_seconds_words(slow)} in {window}"
    if calls < policy.min_calls:
        return Verdict.INSUFFICIENT, f"{said}; fewer than {policy.min_calls} prove nothing"
    limit, calm = policy.slower_than.total_seconds(), policy.clear_below.total_seconds()
    if slow > 1_000 * limit:
        return Verdict.BREACH, f"{said}, more than {limit:g} s"
    if slow < 1_000 * calm:
        return Verdict.CLEAR, f"{said}, less than {calm:g} s"
    return Verdict.BAND, f"{said}: too slow to be clear, too fast to be told"


def _by_endpoint(hours: pd.DataFrame) -> dict[EndpointKey, pd.DataFrame]:
    return {
        (str(environment), str(endpoint)): found
        for (environment, endpoint), found in hours.groupby(["environment", "endpoint"], observed=True)
    }


def _failures(found: pd.DataFrame) -> tuple[int, int, dict[str, int]]:
    """Return how many calls failed, of how many, and of which statuses, the commonest first."""
    failed = int(found["errors"].sum())
    by_status = found[found["errors"] > 0].groupby("status_code", observed=True)["errors"].sum()
    ranked = sorted(
        ((int(number), str(status)) for status, number in by_status.items()), key=lambda each: (-each[0], each[1])
    )
    statuses = {"no answer" if status == "0" else status: number for number, status in ranked}
    # A log may have lost the lines of the requests whose errors it tells.
    return failed, max(int(found["requests"].sum()), failed), statuses


def _calls_of(environment: str, groups: Mapping[EndpointKey, pd.DataFrame]) -> int:
    return sum(int(found["requests"].sum()) for (each, _), found in groups.items() if each == environment)


def _status_words(status: str) -> str:
    return f"HTTP {status}" if status.isdigit() else status


def _class_of(statuses: Mapping[str, int]) -> ErrorClass | None:
    """Return the class of the commonest status."""
    commonest = next(iter(statuses), None)
    if commonest is None:
        return None
    if commonest == "no answer":
        return ErrorClass.TIMEOUT
    by_status = {
        "400": ErrorClass.VALIDATION,
        "401": ErrorClass.AUTH,
        "403": ErrorClass.PERMISSION,
        "408": ErrorClass.TIMEOUT,
        "422": ErrorClass.VALIDATION,
        "429": ErrorClass.RATE_LIMIT,
        "504": ErrorClass.TIMEOUT,
    }
    return by_status.get(commonest, ErrorClass.SERVER if commonest.startswith("5") else ErrorClass.UNKNOWN)


def _of_endpoint(rule: str, environment: str, endpoint: str) -> dict[str, Any]:
    return {
        "rule": rule,
        "identity": {"environment": environment, "endpoint": endpoint},
        "credential_id": None,
        "company_id": None,
        "company_name": None,
        "environment": environment,
        "data_type": None,
        "error_class": None,
        "cause": None,
    }


def _seconds_words(milliseconds: float | None) -> str:
    return "an unknown time" if milliseconds is None else f"{milliseconds / 1_000:.1f} s"
