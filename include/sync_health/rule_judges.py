"""From a check's frames to each rule's own arguments: one small function per rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from include.sync_health.alerts import Alert
from include.sync_health.api_incidents import judge_api_incidents
from include.sync_health.api_rules import judge_api_errors, judge_api_latency
from include.sync_health.api_window import ApiWindow
from include.sync_health.connection_errors import judge_connection_errors
from include.sync_health.daily_quality import local_day
from include.sync_health.empty_syncs import judge_empty_syncs
from include.sync_health.error_budget import judge_error_budget
from include.sync_health.failures import judge_consecutive_failures, judge_sync_failures
from include.sync_health.frames import id_text
from include.sync_health.freshness import judge_stale_syncs
from include.sync_health.measured_facts import NOTHING_MEASURED, MeasuredFacts
from include.sync_health.platform_outage import judge_platform_outage
from include.sync_health.policy import ACTIVE_STATUSES, Policy
from include.sync_health.quality import judge_data_quality
from include.sync_health.quality_drop import judge_quality_drop
from include.sync_health.rule_policies import QualityIdentity
from include.sync_health.silence import judge_no_syncs
from include.sync_health.stored_days import StoredDays
from include.sync_health.stuck_syncs import judge_stuck_syncs
from include.sync_health.subjects import Subject
from include.sync_health.tokens import judge_token_expiry
from include.sync_health.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInput:
    """
    What one rule is given.

    Args:
        runs, credentials, missing_sync_ids, as_of, stored: see `include.sync_health.judgement.TickInput`; a rule that
            compares with stored days is not asked without them.
        subjects: of all credentials.
        chosen: judge only these credentials; None for all.
        open_alerts: the rule's own, such as the policy still judges.
        policy: the whole of it.
        measured: likewise; a rule that judges what is measured is not asked without it.
        untold: where given, a rule may count here, instead of telling, CLEAR and NO_DATA of what has no open alert.
    """

    runs: pd.DataFrame
    credentials: pd.DataFrame
    subjects: Mapping[str, Subject]
    chosen: frozenset[str] | None
    open_alerts: Sequence[Alert]
    missing_sync_ids: Collection[str]
    policy: Policy
    as_of: datetime
    stored: StoredDays | None = None
    measured: MeasuredFacts = NOTHING_MEASURED
    untold: Counter[Verdict] | None = None

    @property
    def chosen_runs(self) -> pd.DataFrame:
        """The runs of the chosen credentials."""
        if self.chosen is None:
            return self.runs
        return self.runs[id_text(self.runs["credential_id"]).isin(self.chosen)]

    @property
    def chosen_credentials(self) -> pd.DataFrame:
        """The rows of the chosen credentials."""
        if self.chosen is None:
            return self.credentials
        return self.credentials[id_text(self.credentials["credential_id"]).isin(self.chosen)]

    @property
    def open_credentials(self) -> frozenset[str]:
        """The credentials that the rule's open alerts speak of."""
        return frozenset(alert.identity["credential"] for alert in self.open_alerts)


Judge = Callable[[RuleInput], pd.DataFrame]


def fits_policy(alert: Alert, *, policy: Policy) -> bool:
    """Return whether the policy still judges what an open alert speaks of."""
    if alert.rule == "platform_outage":
        return alert.identity["environment"] in policy.rules.platform_outage.environments
    if alert.rule == "no_syncs":
        return alert.identity["environment"] in policy.rules.no_syncs.environments
    if alert.rule == "data_quality":
        return ("sync" in alert.identity) == (policy.rules.data_quality.identity is QualityIdentity.SYNC)
    return True


def _platform_outage(given: RuleInput) -> pd.DataFrame:
    policy = given.policy.rules.platform_outage
    return judge_platform_outage(given.runs, subjects=given.subjects, policy=policy, as_of=given.as_of)


def _no_syncs(given: RuleInput) -> pd.DataFrame:
    return judge_no_syncs(
        given.runs,
        subjects=given.subjects,
        policy=given.policy.rules.no_syncs,
        as_of=given.as_of,
        open_environments={alert.identity["environment"] for alert in given.open_alerts},
    )


def _token_expiry(given: RuleInput) -> pd.DataFrame:
    return judge_token_expiry(
        given.chosen_credentials,
        policy=given.policy.rules.token_expiry,
        monitored=given.policy.monitored_statuses,
        as_of=given.as_of,
        open_alerts={alert.identity["credential"]: _known_lifetime(alert) for alert in given.open_alerts},
    )


def _connection_error(given: RuleInput) -> pd.DataFrame:
    return judge_connection_errors(
        given.chosen_credentials,
        policy=given.policy.rules.connection_error,
        monitored=given.policy.monitored_statuses,
        as_of=given.as_of,
        open_alerts=given.open_credentials,
    )


def _stale_sync(given: RuleInput) -> pd.DataFrame:
    return judge_stale_syncs(
        given.chosen_credentials,
        policy=given.policy.rules.stale_sync,
        monitored=given.policy.monitored_statuses,
        as_of=given.as_of,
        open_alerts=given.open_credentials,
    )


def _sync_failures(given: RuleInput) -> pd.DataFrame:
    return judge_sync_failures(
        given.runs,
        subjects=given.subjects,
        policy=given.policy.rules.sync_failures,
        as_of=given.as_of,
        open_since={alert.identity["credential"]: _last_failure(alert) for alert in given.open_alerts},
    )


def _consecutive_failures(given: RuleInput) -> pd.DataFrame:
    return judge_consecutive_failures(
        given.runs,
        subjects=given.subjects,
        policy=given.policy.rules.consecutive_failures,
        as_of=given.as_of,
        open_since={
            (alert.identity["credential"], alert.identity["data_type"]): _last_failure(alert)
            for alert in given.open_alerts
        },
    )


def _stuck_sync(given: RuleInput) -> pd.DataFrame:
    return judge_stuck_syncs(
        given.runs,
        subjects=given.subjects,
        policy=given.policy.rules.stuck_sync,
        as_of=given.as_of,
        open_lookback=given.policy.source.open_lookback,
        open_keys={(alert.identity["credential"], alert.identity["sync"]) for alert in given.open_alerts},
        missing_sync_ids=given.missing_sync_ids,
    )


def _data_quality(given: RuleInput) -> pd.DataFrame:
    policy = given.policy.rules.data_quality
    active = None
    if policy.active_only:
        in_use = given.credentials[given.credentials["connection_status"].isin(ACTIVE_STATUSES)]
        active = frozenset(id_text(in_use["credential_id"]))
    return judge_data_quality(
        given.chosen_runs,
        subjects=given.subjects,
        policy=policy,
        as_of=given.as_of,
        open_keys={tuple(alert.identity[key] for key in _quality_key(alert)) for alert in given.open_alerts},
        active=active,
        untold=given.untold,
    )


def _quality_drop(given: RuleInput) -> pd.DataFrame:
    return judge_quality_drop(
        _stored(given),
        subjects=given.subjects,
        policy=given.policy.rules.quality_drop,
        as_of=given.as_of,
        timezone=given.policy.reporting_timezone,
        open_keys={(alert.identity["credential"], alert.identity["data_type"]) for alert in given.open_alerts},
    )


def _empty_syncs(given: RuleInput) -> pd.DataFrame:
    return judge_empty_syncs(
        given.chosen_runs,
        stored=_stored(given),
        subjects=given.subjects,
        policy=given.policy.rules.empty_syncs,
        as_of=given.as_of,
        timezone=given.policy.reporting_timezone,
        open_keys={
            (alert.identity["credential"], alert.identity["data_type"]): _last_records(alert)
            for alert in given.open_alerts
        },
    )


def _api_errors(given: RuleInput) -> pd.DataFrame:
    return judge_api_errors(
        _api(given), policy=given.policy.rules.api_errors, as_of=given.as_of, open_keys=_endpoints(given.open_alerts)
    )


def _api_latency(given: RuleInput) -> pd.DataFrame:
    return judge_api_latency(
        _api(given), policy=given.policy.rules.api_latency, as_of=given.as_of, open_keys=_endpoints(given.open_alerts)
    )


def _api_incidents(given: RuleInput) -> pd.DataFrame:
    return judge_api_incidents(
        _api(given),
        subjects=given.subjects,
        policy=given.policy.rules.api_incidents,
        as_of=given.as_of,
        open_keys={(alert.identity["credential"], alert.identity["kind"]) for alert in given.open_alerts},
    )


def _error_budget(given: RuleInput) -> pd.DataFrame:
    days = given.measured.objective_days
    if days is None:
        raise ValueError("the service levels were to be judged without their days")
    return judge_error_budget(
        days,
        levels=given.policy.service_levels,
        policy=given.policy.rules.error_budget,
        today=local_day(given.as_of, timezone=given.policy.reporting_timezone),
        as_of=given.as_of,
    )


JUDGED_BY: Mapping[str, Judge] = {
    "platform_outage": _platform_outage,
    "no_syncs": _no_syncs,
    "token_expiry": _token_expiry,
    "connection_error": _connection_error,
    "sync_failures": _sync_failures,
    "consecutive_failures": _consecutive_failures,
    "stuck_sync": _stuck_sync,
    "stale_sync": _stale_sync,
    "data_quality": _data_quality,
    "quality_drop": _quality_drop,
    "empty_syncs": _empty_syncs,
    "api_errors": _api_errors,
    "api_latency": _api_latency,
    "api_incidents": _api_incidents,
    "error_budget": _error_budget,
}
"""How each rule is judged; the keys are `include.sync_health.checks.RULES`."""


def _quality_key(alert: Alert) -> tuple[str, ...]:
    return ("credential", "data_type", "sync") if "sync" in alert.identity else ("credential", "data_type")


def _stored(given: RuleInput) -> StoredDays:
    if given.stored is None:
        raise ValueError("a rule that compares with stored days was asked without them")
    return given.stored


def _api(given: RuleInput) -> ApiWindow:
    if given.measured.api is None:
        raise ValueError("a rule that judges API calls was asked without them")
    return given.measured.api


def _endpoints(alerts: Sequence[Alert]) -> set[tuple[str, str]]:
    return {(alert.identity["environment"], alert.identity["endpoint"]) for alert in alerts}


def _last_failure(alert: Alert) -> datetime | None:
    """Return the last failure that an open alert knows of, from its evidence."""
    return _instant(alert.evidence.get("last_failed_at"))


def _last_records(alert: Alert) -> datetime | None:
    """Return when the last sync with records completed, as far as an open alert knows, from its evidence."""
    return _instant(alert.evidence.get("last_records_at"))


def _instant(known: object) -> datetime | None:
    return datetime.fromisoformat(known) if isinstance(known, str) else None


def _known_lifetime(alert: Alert) -> timedelta | None:
    """Return the token lifetime that an open alert knows of, from its evidence."""
    known = alert.evidence.get("lifetime_seconds")
    return timedelta(seconds=known) if isinstance(known, int | float) else None
