"""The health check's part ``recent_syncs``: how the syncs of the last hour went, and what open alerts say of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.checks import SYNC_FAILURES
from include.sync_health.frames import RUN_COLUMNS, id_text, require_columns
from include.sync_health.health import HealthPart, HealthStatus, Unseen, worst_of
from include.sync_health.own_health import WHOLE_SOURCE
from include.sync_health.policy import Policy
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

WINDOW = timedelta(hours=1)
"""How far back finished syncs count."""

MESSAGE_CHARS = 300
"""Of an alert's message in a reason."""

MESSAGES_SHOWN = 3
"""How many messages of one kind a report quotes; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Syncs of one environment that completed or failed within `WINDOW`; cancelled ones are neither."""

    completed: int
    failed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.completed + self.failed

    @property
    def failed_share(self) -> float | None:
        """In percent; None of no sync at all."""
        return round(100 * self.failed / self.total, 2) if self.total else None

    def as_json(self) -> dict[str, Any]:
        """Return ``{"finished", "completed", "failed", "failed_share"}``."""
        return {
            "finished": self.total,
            "completed": self.completed,
            "failed": self.failed,
            "failed_share": self.failed_share,
        }


def syncs_part(
    runs: pd.DataFrame | Unseen,
    *,
    environment_of: Mapping[str, str],
    alerts: Collection[Alert] | Unseen,
    policy: Policy,
    as_of: datetime,
) -> HealthPart:
    """
    Return how recent syncs are, which is the worst of these.

    - UNHEALTHY: an open alert of ``platform_outage`` or ``no_syncs``; or more than ``health.unhealthy_share`` percent of the
      syncs that finished in (as_of - 1 h, as_of] failed.
    - WARNING: more than ``health.failed_share`` percent failed; or an open alert of ``stale_sync``.
    - UNKNOWN: runs or alerts could not be read; or an open alert says that what the source shows cannot be trusted.

    The share of fewer than ``health.min_syncs`` proves nothing. An environment whose alerts the policy caps at low is
    counted, and worsens nothing.

    Args:
        runs: `RUN_COLUMNS`, of the last hour at least.
        environment_of: the environment of each credential, by id; one that has no row any more is ``unknown``.
        alerts: the open ones.
        policy: the shares and the caps.
        as_of: the instant to judge by; aware.

    Returns:
        The part; details: window_seconds, ``finished``, ``completed``, ``failed`` and ``failed_share`` of the environments
        that are judged, ``environments`` (the same for each), ``stale_credentials``, ``outages``, ``silent`` (numbers of
        open alerts).

    Raises:
        FrameError: ``runs`` lacks a column.
    """
    found = [_of_runs(runs, environment_of=environment_of, policy=policy, as_of=as_of)]
    found.append(_of_alerts(alerts, policy=policy))
    return HealthPart(
        status=worst_of(part.status for part in found),
        reasons=tuple(reason for part in found for reason in part.reasons),
        details={key: value for part in found for key, value in part.details.items()},
    )


def _of_runs(
    runs: pd.DataFrame | Unseen, *, environment_of: Mapping[str, str], policy: Policy, as_of: datetime
) -> HealthPart:
    if isinstance(runs, Unseen):
        return runs.as_part
    finished = finished_by_environment(runs, environment_of=environment_of, as_of=as_of)
    judged = [each for name, each in finished.items() if is_judged(name, policy=policy)]
    total = Finished(completed=sum(each.completed for each in judged), failed=sum(each.failed for each in judged))
    share, limits = total.failed_share, policy.health
    status, reasons = HealthStatus.HEALTHY, []
    if share is not None and total.total >= limits.min_syncs and share > limits.failed_share:
        is_worse = share > limits.unhealthy_share
        status = HealthStatus.UNHEALTHY if is_worse else HealthStatus.WARNING
        limit = limits.unhealthy_share if is_worse else limits.failed_share
        reasons = [f"{total.failed} of {total.total} syncs failed in the last hour, more than {limit:g} %"]
    return HealthPart(
        status=status,
        reasons=tuple(reasons),
        details={
            "window_seconds": round(WINDOW.total_seconds()),
            **total.as_json(),
            "environments": {name: each.as_json() for name, each in sorted(finished.items())},
        },
    )


def _of_alerts(alerts: Collection[Alert] | Unseen, *, policy: Policy) -> HealthPart:
    if isinstance(alerts, Unseen):
        return alerts.as_part
    opened = [alert for alert in alerts if alert.state.is_open]
    ours = [alert for alert in opened if is_judged(alert.environment or "", policy=policy)]
    outages = [alert for alert in ours if alert.rule == "platform_outage"]
    silent = [alert for alert in ours if alert.rule == "no_syncs"]
    stale = [alert for alert in ours if alert.rule == "stale_sync"]
    doubts = [
        alert
        for alert in opened
        if alert.rule == "monitor_health"
        and (alert.identity["check"] == SYNC_FAILURES.name or alert.identity["cause"] in WHOLE_SOURCE)
    ]
    statuses = [HealthStatus.HEALTHY]
    statuses += [HealthStatus.WARNING] if stale else []
    statuses += [HealthStatus.UNKNOWN] if doubts else []
    statuses += [HealthStatus.UNHEALTHY] if outages or silent else []
    return HealthPart(
        status=worst_of(statuses),
        reasons=(
            *_quoted(outages),
            *_quoted(silent),
            *_quoted(doubts),
            *([f"{_credentials(len(stale))} completed no sync for too long (stale_sync)"] if stale else []),
        ),
        details={"stale_credentials": len(stale), "outages": len(outages), "silent": len(silent)},
    )


def finished_by_environment(
    runs: pd.DataFrame, *, environment_of: Mapping[str, str], as_of: datetime
) -> dict[str, Finished]:
    """
    Return the syncs that completed or failed in (as_of - 1 h, as_of], by environment; those without any are left out.

    Args:
        runs: `RUN_COLUMNS`.
        environment_of: of each credential, by id.
        as_of: aware.

    Raises:
        FrameError: ``runs`` lacks a column.
    """
    require_columns(runs, RUN_COLUMNS, name="runs")
    end = pd.Timestamp(as_of)
    is_recent = (runs["finished_at"] > end - WINDOW) & (runs["finished_at"] <= end) & ~runs["is_cancelled"]
    recent = runs[is_recent & runs["status"].isin(["completed", "failed"])]
    environment = id_text(recent["credential_id"]).map(lambda each: environment_of.get(each, "unknown"))
    is_failed = recent["status"] == "failed"
    return {
        str(name): Finished(completed=int((~failed).sum()), failed=int(failed.sum()))
        for name, failed in is_failed.groupby(environment)
    }


def is_judged(environment: str, *, policy: Policy) -> bool:
    """Return whether what happens in an environment worsens the health: its alerts may be more than low."""
    return policy.severity_caps.get(environment) is not Severity.LOW


def _quoted(alerts: Collection[Alert]) -> list[str]:
    """Return the messages of alerts, and how many more there are."""
    shown = sorted(clean(alert.message, limit=MESSAGE_CHARS) for alert in alerts)[:MESSAGES_SHOWN]
    more = len(alerts) - len(shown)
    return [*shown, *([f"and {more} more alerts of this kind"] if more else [])]


def _credentials(number: int) -> str:
    return "1 credential has" if number == 1 else f"{number} credentials have"
