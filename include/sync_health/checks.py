"""The checks: which rules each one judges, of whom, and how far back it must look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

CREDENTIAL_RULES = ("token_expiry", "connection_error", "stale_sync")
"""What is judged by the credentials table and a credential's last success."""

PLATFORM_RULES = ("platform_outage", "no_syncs")
"""What is judged over all credentials of an environment: a run that leaves some out cannot."""

COUNTED_RULES = ("data_quality", "empty_syncs")
"""What is judged by the record counts of the sync log, which not every role may read."""

TREND_RULES = ("quality_drop", "empty_syncs")
"""What is compared with our own stored days: not judged without them, nor in a historical run."""

API_RULES = ("api_errors", "api_latency", "api_incidents")
"""What is judged by our own hours of API calls."""

OWN_RULES = (*API_RULES, "error_budget")
"""What is judged by our own tables alone: a check with no other rule reads nothing of the source."""

RULES = (
    "platform_outage",
    "no_syncs",
    "token_expiry",
    "connection_error",
    "sync_failures",
    "consecutive_failures",
    "stuck_sync",
    "stale_sync",
    "data_quality",
    "quality_drop",
    "empty_syncs",
    *API_RULES,
    "error_budget",
)
"""All rules but the monitor's own health, in the order in which they are judged: causes before symptoms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    What one DAG judges.

    Args:
        name: as ``check_run``, ``live_horizon`` and monitor-health alerts name it.
        every: how often it runs, which is the length of its window.
        past: how long after the multiples of that its windows end.
        rules: judged of everyone.
        of_failing: judged of the credentials that fail in this very check, or have an open alert: a cause must be known
            no later than its symptom.
        of_open: judged only where an alert of the rule is open, so that recovery is told within a tick.
    """

    name: str
    every: timedelta
    rules: tuple[str, ...]
    of_failing: tuple[str, ...] = ()
    of_open: tuple[str, ...] = ()
    past: timedelta = timedelta(0)

    @property
    def reads_source(self) -> bool:
        """Whether any of its rules needs rows of the source."""
        return not set(self.all_rules) <= set(OWN_RULES)

    @property
    def all_rules(self) -> tuple[str, ...]:
        """Every rule it may speak of, in the order of `RULES`."""
        mine = {*self.rules, *self.of_failing, *self.of_open}
        return tuple(rule for rule in RULES if rule in mine)


SYNC_FAILURES = Check(
    name="sync_failures",
    every=timedelta(minutes=15),
    rules=("platform_outage", "no_syncs", "sync_failures", "consecutive_failures", "stuck_sync"),
    of_failing=("token_expiry", "connection_error"),
    of_open=("stale_sync", "data_quality", "empty_syncs"),
)
"""The 15-minute check."""

CREDENTIAL_HEALTH = Check(name="credential_health", every=timedelta(hours=6), rules=CREDENTIAL_RULES)

DATA_QUALITY = Check(
    name="data_quality",
    every=timedelta(hours=6),
    rules=("data_quality", "quality_drop", "empty_syncs", "error_budget"),
)

API_METRICS = Check(name="api_metrics", every=timedelta(hours=1), rules=API_RULES, past=timedelta(minutes=20))
"""The hourly check of API calls: 20 minutes past, when the hour has settled (`api_window.SETTLED_AFTER`), and between two ticks."""

EVERYTHING = Check(name="everything", every=timedelta(minutes=15), rules=RULES)
"""All at once: for the shell, and for the baseline of a database that is watched for the first time."""

CHECKS = {check.name: check for check in (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY, API_METRICS)}
"""The scheduled ones, by name."""
