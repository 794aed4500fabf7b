"""
Failed syncs: several within an hour, and several in a row.

Both rules look at *finished* runs: completed or failed, cancelled ones left out (unless the policy counts
them as failures), at their ``finished_at``. Windows are half-open, ``(as_of - window, as_of]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pandas as pd

from include.sync_health.causes import classify_messages
from include.sync_health.frames import RUN_COLUMNS, id_text, require_columns
from include.sync_health.observations import OBSERVATION_COLUMNS
from include.sync_health.redaction import redact
from include.sync_health.rule_policies import ConsecutiveFailuresPolicy, SyncFailuresPolicy
from include.sync_health.subjects import Subject, unknown_subject
from include.sync_health.verdicts import Severity, Verdict

DataTypeKey = tuple[str, str]
"""(credential id, data type): whose runs follow one another."""

CREDENTIAL_REMOVED = "the credential was deleted upstream"
OLD_SUCCESS = "no run has completed since the failures that were told; their rows are gone or restated"

NOTHING_OPEN: Mapping[str, datetime | None] = MappingProxyType({})
NOTHING_OPEN_BY_TYPE: Mapping[DataTypeKey, datetime | None] = MappingProxyType({})

COUNTED_COLUMNS = ["credential", "data_type", "sync_id", "finished_at", "failed", "error_message"]


def judge_sync_failures(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: SyncFailuresPolicy,
    as_of: datetime,
    open_since: Mapping[str, datetime | None] = NOTHING_OPEN,
) -> pd.DataFrame:
    """
    Judge, credential by credential, how often its syncs failed within the policy's window.

    BREACH: at least ``threshold`` failed runs in (as_of - window, as_of].
    Otherwise by the latest finished run, by (finished_at, sync_id), in (as_of - evidence_window, as_of]:
    completed is CLEAR, failed is BAND, and none at all is NO_DATA. A success older than the failures that an open
    alert speaks of is no evidence (BAND): their rows were deleted or restated. An open alert whose credential has no
    row any more is REMOVED; without an open alert such a credential is not judged.

    Args:
        runs: `RUN_COLUMNS`, in any order; at least those finished within the evidence window.
        subjects: who the credentials are.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_since: credentials whose alert is open, with the last failure it knows of (aware; None if unknown): judged
            also when no run speaks of them.

    Returns:
        `OBSERVATION_COLUMNS`, one row per credential with a finished run in the evidence window or an open
        alert, ordered by credential id as text.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    finished = finished_runs(
        runs, since=as_of - policy.evidence_window, as_of=as_of, count_cancelled=policy.count_cancelled
    )
    failures = finished[finished["failed"] & (finished["finished_at"] > pd.Timestamp(as_of - policy.window))]
    failure_counts = failures.groupby("credential").size()
    breaching = failure_counts.index[failure_counts >= policy.threshold]
    evidence = _failure_evidence(failures[failures["credential"].isin(breaching)])
    counts: dict[Any, int] = failure_counts.to_dict()
    latest_failed: dict[Any, bool] = finished.groupby("credential")["failed"].last().to_dict()
    last_success = finished[~finished["failed"]].groupby("credential")["finished_at"].max().to_dict()

    rows = []
    for credential in sorted({*latest_failed, *open_since}):
        if credential not in subjects and credential not in open_since:
            continue  # its credential is gone: nobody to tell of
        subject = subjects.get(credential) or unknown_subject(credential)
        count, succeeded_at = int(counts.get(credential, 0)), last_success.get(credential)
        row = _row(
            rule="sync_failures",
            identity={"credential": credential},
            subject=subject,
            severity=policy.severity,
            title="Multiple ServiceTitan Sync Failures",
            message=(
                f"ServiceTitan integration for {subject.label} ({subject.environment}) "
                f"has failed {_counted(count, 'time')} in {window_words(policy.window)}"
            ),
        )
        row["evidence"] = {
            "failures": count,
            "threshold": policy.threshold,
            "window_seconds": int(policy.window.total_seconds()),
            "last_success_at": iso_utc(succeeded_at),
        }
        if credential not in subjects:
            row["verdict"] = Verdict.REMOVED
            row["reason"] = CREDENTIAL_REMOVED
        elif count >= policy.threshold:
            found = evidence[credential]
            row["verdict"] = Verdict.BREACH
            row["reason"] = (
                f"{_counted(count, 'failed run')} in {window_words(policy.window)}, the threshold is {policy.threshold}"
            )
            row["metadata"] = _who(subject) | {"failure_count": count, "latest_error": found["latest_error"]}
            row["evidence"] |= {key: found[key] for key in ("first_failed_at", "last_failed_at", "classes")}
            row["error_class"], row["cause"] = found["error_class"], found["cause"]
        elif credential not in latest_failed:
            row["verdict"] = Verdict.NO_DATA
            row["reason"] = f"no finished run in {window_words(policy.evidence_window)}"
        elif latest_failed[credential]:
            row["verdict"] = Verdict.BAND
            row["reason"] = f"{_counted(count, 'failed run')}, fewer than {policy.threshold}, but the latest run failed"
        elif _is_older(succeeded_at, open_since.get(credential)):
            row["verdict"] = Verdict.BAND
            row["reason"] = OLD_SUCCESS
        else:
            row["verdict"] = Verdict.CLEAR
            row["reason"] = f"the latest run completed at {utc_words(succeeded_at)}; {count} failed in the window"
        rows.append(row)
    return observation_frame(rows)


def judge_consecutive_failures(
    runs: pd.DataFrame,
    *,
    subjects: Mapping[str, Subject],
    policy: ConsecutiveFailuresPolicy,
    as_of: datetime,
    open_since: Mapping[DataTypeKey, datetime | None] = NOTHING_OPEN_BY_TYPE,
) -> pd.DataFrame:
    """
    Judge, for each credential and data type, how many of its last finished runs failed in a row.

    Counted back from ``as_of`` in the order (finished_at, sync_id) within (as_of - window, as_of]:
    BREACH at ``threshold`` or more; CLEAR when the latest completed; BAND in between; NO_DATA without any.
    A success older than the failures that an open alert speaks of is no evidence (BAND). An open alert whose
    credential has no row any more is REMOVED.

    Args:
        runs: `RUN_COLUMNS`, in any order; at least those finished within the window.
        subjects: who the credentials are.
        policy: the thresholds.
        as_of: the instant to judge by; aware.
        open_since: (credential, data type) pairs whose alert is open, with the last failure it knows of.

    Returns:
        `OBSERVATION_COLUMNS`, one row per pair with a finished run in the window or an open alert, ordered by pair.

    Raises:
        FrameError: ``runs`` lacks a column.
        ValueError: ``as_of`` is naive.
    """
    finished = finished_runs(runs, since=as_of - policy.window, as_of=as_of, count_cancelled=policy.count_cancelled)
    key = ["credential", "data_type"]
    # Read backwards, the runs before any success are the streak of failures that still lasts.
    backwards = finished.iloc[::-1]
    successes_since = (~backwards["failed"]).groupby([backwards["credential"], backwards["data_type"]]).cumsum()
    streak = backwards[successes_since == 0]
    ends = streak.groupby(key)["finished_at"]
    lengths: dict[Any, int] = streak.groupby(key).size().to_dict()
    began, ended = ends.min().to_dict(), ends.max().to_dict()
    newest = streak.drop_duplicates(key).set_index(key)["error_message"]
    seen: list[DataTypeKey] = list(finished.drop_duplicates(key)[key].itertuples(index=False, name=None))
    last_success = finished[~finished["failed"]].groupby(key)["finished_at"].max().to_dict()
    breaching = [pair for pair, length in lengths.items() if length >= policy.threshold]
    errors = newest.loc[breaching] if breaching else newest.iloc[:0]
    classes: dict[Any, dict[Any, Any]] = classify_messages(errors).to_dict("index")
    latest_errors: dict[Any, Any] = errors.to_dict()

    rows = []
    for pair in sorted({*seen, *open_since}):
        credential, data_type = pair
        if credential not in subjects and pair not in open_since:
            continue  # its credential is gone: nobody to tell of
        subject = subjects.get(credential) or unknown_subject(credential)
        length, succeeded_at = int(lengths.get(pair, 0)), last_success.get(pair)
        row = _row(
            rule="consecutive_failures",
            identity={"credential": credential, "data_type": data_type},
            subject=subject,
            severity=policy.severity,
            title="ServiceTitan Sync Keeps Failing",
            message=(
                f"ServiceTitan {data_type} sync for {subject.label} ({subject.environment}) "
                f"has failed {_counted(length, 'time')} in a row since {utc_words(began.get(pair))}"
            ),
        )
        row["data_type"] = data_type
        row["evidence"] = {
            "in_a_row": length,
            "threshold": policy.threshold,
            "last_success_at": iso_utc(succeeded_at),
        }
        if credential not in subjects:
            row["verdict"] = Verdict.REMOVED
            row["reason"] = CREDENTIAL_REMOVED
        elif length >= policy.threshold:
            row["verdict"] = Verdict.BREACH
            row["reason"] = f"the last {length} runs all failed, the threshold is {policy.threshold}"
            if policy.high_from is not None and length >= policy.high_from:
                row["severity"] = max(policy.severity, Severity.HIGH, key=lambda severity: severity.rank)
            row["metadata"] = _who(subject) | {
                "failure_count": length,
                "latest_error": error_text(latest_errors[pair]),
                "data_type": data_type,
                "first_failed_at": iso_utc(began[pair]),
            }
            row["evidence"]["last_failed_at"] = iso_utc(ended[pair])
            row["error_class"], row["cause"] = classes[pair]["error_class"], classes[pair]["cause"]
        elif length:
            row["verdict"] = Verdict.BAND
            row["reason"] = f"{length} failed in a row, fewer than {policy.threshold}"
        elif succeeded_at is None:
            row["verdict"] = Verdict.NO_DATA
            row["reason"] = f"no finished run in {window_words(policy.window)}"
        elif _is_older(succeeded_at, open_since.get(pair)):
            row["verdict"] = Verdict.BAND
            row["reason"] = OLD_SUCCESS
        else:
            row["verdict"] = Verdict.CLEAR
            row["reason"] = f"the latest run completed at {utc_words(succeeded_at)}"
        rows.append(row)
    return observation_frame(rows)


def finished_runs(runs: pd.DataFrame, *, since: datetime, as_of: datetime, count_cancelled: bool) -> pd.DataFrame:
    """
    Return the completed and failed runs of (since, as_of], oldest first by (finished_at, sync_id).

    Args:
        runs: `RUN_COLUMNS`.
        since: exclusive start; aware.
        as_of: inclusive end; aware.
        count_cancelled: True makes a cancelled run a failure; else it is left out.

    Returns:
        credential (str), data_type (str), sync_id, finished_at (UTC), failed (bool), error_message (str or None).
    """
    require_columns(runs, RUN_COLUMNS, name="runs")
    if as_of.tzinfo is None or since.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    failed = (runs["status"] == "failed") & ~runs["is_cancelled"]
    if count_cancelled:
        failed |= runs["is_cancelled"]
    completed = (runs["status"] == "completed") & ~runs["is_cancelled"]
    inside = (runs["finished_at"] > pd.Timestamp(since)) & (runs["finished_at"] <= pd.Timestamp(as_of))
    kept = runs[(failed | completed) & inside]
    return (
        kept.assign(
            credential=id_text(kept["credential_id"]),
            data_type=kept["data_type"].astype(str),
            failed=failed[kept.index],
        )
        .sort_values(["finished_at", "sync_id"], kind="stable", ignore_index=True)
        .loc[:, COUNTED_COLUMNS]
    )


def observation_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of observations as a frame with `OBSERVATION_COLUMNS`, all of dtype object."""
    return pd.DataFrame(list(rows), columns=list(OBSERVATION_COLUMNS), dtype=object)


def iso_utc(instant: Any) -> str | None:
    """Return an instant as ISO 8601 in UTC to the second, or None for None and NaT."""
    if instant is None or pd.isna(instant):
        return None
    return pd.Timestamp(instant).tz_convert("UTC").floor("s").isoformat()


def utc_words(instant: Any) -> str:
    """Return an instant as messages say it, such as ``2026-03-01 09:30 UTC``; "unknown" for None and NaT."""
    if instant is None or pd.isna(instant):
        return "unknown"
    return f"{pd.Timestamp(instant).tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _failure_evidence(failures: pd.DataFrame) -> Mapping[str, dict[str, Any]]:
    """Return, per credential, what its failed runs have in common; ``failures`` is oldest first."""
    classified = failures.reset_index(drop=True).join(
        classify_messages(failures["error_message"].reset_index(drop=True))
    )
    classified["position"] = classified.index
    by_credential = classified.groupby("credential")["position"].agg(["min", "max"])
    # The commonest class speaks for the alert; among equals, the most recent one.
    by_class = (
        classified.assign(error_class=classified["error_class"].astype(str))
        .groupby(["credential", "error_class"])["position"]
        .agg(["size", "max"])
        .reset_index()
        .sort_values(["credential", "size", "max"])
    )
    speaking = by_class.drop_duplicates("credential", keep="last").set_index("credential")["max"].to_dict()
    classes: dict[str, dict[str, int]] = {}
    for credential, name, size in zip(by_class["credential"], by_class["error_class"], by_class["size"], strict=True):
        classes.setdefault(credential, {})[name] = int(size)
    columns = ("error_message", "finished_at", "error_class", "cause")
    messages, ends, error_classes, causes = (classified[column].tolist() for column in columns)
    return {
        credential: {
            "latest_error": error_text(messages[last]),
            "first_failed_at": iso_utc(ends[first]),
            "last_failed_at": iso_utc(ends[last]),
            "classes": dict(sorted(classes[credential].items())),
            "error_class": error_classes[speaking[credential]],
            "cause": causes[speaking[credential]],
        }
        for credential, first, last in by_credential.itertuples(name=None)
    }


def _is_older(success: Any, failure: datetime | None) -> bool:
    """Return whether a success lies before the last known failure (to the second, as evidence keeps it)."""
    return failure is not None and pd.Timestamp(success).floor("s") < pd.Timestamp(failure)


def _row(**known: Any) -> dict[str, Any]:
    subject: Subject = known.pop("subject")
    return {
        "credential_id": subject.credential_id,
        "company_id": subject.company_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
        "data_type": None,
        "metadata": _who(subject),
        "error_class": None,
        "cause": None,
        "evidence": {},
        **known,
    }


def _who(subject: Subject) -> dict[str, Any]:
    return {
        "credential_id": subject.credential_id,
        "company_name": subject.company_name,
        "environment": subject.environment,
    }


def error_text(text: Any) -> str | None:
    """Return an error's text fit to be stored: without secrets; None for none. Renderers redact once more."""
    return None if text is None or pd.isna(text) else redact(str(text))


def window_words(window: timedelta) -> str:
    """Return the window as the story says it: "the last hour", else "the last 2 hours"."""
    hours, rest = divmod(int(window.total_seconds()), 3600)
    if not rest and hours:
        return "the last hour" if hours == 1 else f"the last {hours} hours"
    return f"the last {int(window.total_seconds() // 60)} minutes"
