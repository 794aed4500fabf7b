"""The health check: from what was looked at to the report. A part that fails is unknown, and the others stand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.frames import id_text
from include.sync_health.health import HealthPart, HealthReport, Unseen
from include.sync_health.health_credentials import active_credentials, credentials_part
from include.sync_health.health_probes import Probe, connectivity_part
from include.sync_health.health_resources import Resources, resources_part
from include.sync_health.health_syncs import syncs_part
from include.sync_health.policy import Policy
from include.sync_health.redacted_errors import without_secrets

log = logging.getLogger("servicetitan.health")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInput:
    """
    What was looked at; `Unseen` is what could not be, and why.

    Args:
        as_of: the instant judged; aware.
        now: the wall clock; aware.
        policy: the whole of it.
        credentials: `CREDENTIAL_FACT_COLUMNS`, all of them.
        unproven: those whose last success nobody looked up, though their token turns on it.
        runs: `RUN_COLUMNS`, of the last hour at least.
        alerts: the open ones.
        probes: what our calls of the API came to.
        resources: see `Resources`.
    """

    as_of: datetime
    now: datetime
    policy: Policy
    credentials: pd.DataFrame | Unseen
    unproven: Collection[str] = ()
    runs: pd.DataFrame | Unseen
    alerts: Sequence[Alert] | Unseen
    probes: Sequence[Probe] | Unseen
    resources: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """How many credentials there are; None where they could not be read."""

    total: int | None = None
    active: int | None = None
    environment_of: Mapping[str, str] = field(default_factory=dict)


def health_report(given: HealthInput) -> HealthReport:
    """
    Return the report: its four parts, and the worst of them as its status.

    Nothing of it is a secret: company names, error texts and messages are redacted and cut.
    """
    numbers = _numbers(given.credentials)
    return HealthReport(
        last_check=given.now,
        parts={
            "credentials": _safely("credentials", lambda: _credentials(given)),
            "api_connectivity": _safely("api_connectivity", lambda: _connectivity(given)),
            "recent_syncs": _safely("recent_syncs", lambda: _syncs(given, environment_of=numbers.environment_of)),
            "system_resources": _safely(
                "system_resources",
                lambda: resources_part(given.resources, policy=given.policy.health, now=given.now),
            ),
        },
        total_credentials=numbers.total,
        active_credentials=numbers.active,
    )


def known_lifetimes(alerts: Collection[Alert] | Unseen) -> dict[str, timedelta | None]:
    """Return the credentials whose alert of ``token_expiry`` is open, with the token lifetime that it knows, if any."""
    if isinstance(alerts, Unseen):
        return {}
    found: dict[str, timedelta | None] = {}
    for alert in alerts:
        if alert.rule == "token_expiry" and alert.state.is_open:
            seconds = alert.evidence.get("lifetime_seconds")
            known = timedelta(seconds=seconds) if isinstance(seconds, int | float) else None
            found[alert.identity["credential"]] = known
    return found


def _numbers(credentials: pd.DataFrame | Unseen) -> _Numbers:
    if isinstance(credentials, Unseen):
        return _Numbers()
    ids, environments = id_text(credentials["credential_id"]), credentials["environment"].astype(str)
    return _Numbers(
        total=len(credentials),
        active=active_credentials(credentials),
        environment_of=dict(zip(ids, environments, strict=True)),
    )


def _credentials(given: HealthInput) -> HealthPart:
    if isinstance(given.credentials, Unseen):
        return given.credentials.as_part
    return credentials_part(
        given.credentials,
        policy=given.policy,
        as_of=given.as_of,
        open_tokens=known_lifetimes(given.alerts),
        unproven=given.unproven,
    )


def _connectivity(given: HealthInput) -> HealthPart:
    if isinstance(given.probes, Unseen):
        return given.probes.as_part
    return connectivity_part(given.probes)


def _syncs(given: HealthInput, *, environment_of: Mapping[str, str]) -> HealthPart:
    return syncs_part(
        given.runs, environment_of=environment_of, alerts=given.alerts, policy=given.policy, as_of=given.as_of
    )


def _safely(name: str, judge: Callable[[], HealthPart]) -> HealthPart:
    try:
        return judge()
    except Exception as error:
        # What is odd in one part must not take the others away: it is said, and the log has the rest.
        log.error("the part %s of the health check could not be judged", name, exc_info=without_secrets(error))
        return Unseen(reason=f"it could not be judged: {type(error).__name__}; the log has the details").as_part
