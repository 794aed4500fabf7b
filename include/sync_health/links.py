"""
Where a message leads: the alert on the dashboard, its rule in the runbook, the run in Airflow, and a silence to ask for.

Only what the policy has an address for is there. Whatever stands in an address is percent-encoded here; what an address as
a whole may be is the renderers' (`slack_blocks.safe_url`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from include.sync_health.alerting_policies import LinksPolicy
from include.sync_health.alerts import Alert
from include.sync_health.redaction import clean

MOST_SILENCED = 20
"""Credentials that a silence's address names: more make it longer than a message has room for."""

LONGEST_VALUE = 200
"""Characters of a value in an address; ids are far shorter, and what is longer is no id."""

Query = Mapping[str, str | Sequence[str] | None]
"""What a page is asked for: values by name, of which several are alternatives."""

Labelled = tuple[tuple[str, str], ...]
"""(label, address), in the order in which readers see them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """
    Where readers may go on; None where nothing is configured. Addresses without a trailing slash.

    Args:
        dashboard: of this plugin, such as ``https://airflow.example.com/servicetitan-monitor``.
        runbook: a page that has an anchor for each rule.
        run: the page of the Airflow run that speaks.
    """

    dashboard: str | None = None
    runbook: str | None = None
    run: str | None = None


def links_in(policy: LinksPolicy, *, dag_id: str | None = None, run_id: str | None = None) -> Links:
    """Return the links that the policy allows; the run's only where its DAG and its id are given."""
    run = None
    if policy.airflow and dag_id and run_id:
        run = f"{policy.airflow.rstrip('/')}/dags/{_quoted(dag_id)}/runs/{_quoted(run_id)}"
    return Links(dashboard=policy.dashboard, runbook=policy.runbook, run=run)


def links_of_alert(alert: Alert, *, links: Links) -> Labelled:
    """
    Return the links of a message about one alert; a silence only while it is open.

    An alert about no credential is silenced by its fingerprint: its rule has others, such as those of other endpoints.
    """
    silence: Query = {
        "rule": alert.rule,
        "credential": alert.credential_id,
        "environment": alert.environment,
        "data_type": alert.data_type,
        "fingerprint": None if alert.credential_id else alert.fingerprint,
    }
    return _kept(
        ("Alert", _page(links.dashboard, "alerts", {"fingerprint": alert.fingerprint})),
        ("Runbook", _anchored(links.runbook, [alert.rule])),
        ("Airflow run", links.run),
        ("Silence", _page(links.dashboard, "silences", silence) if alert.state.is_open else None),
    )


def links_of_group(alerts: Sequence[Alert], *, links: Links) -> Labelled:
    """
    Return the links of a message about several alerts of a conversation: to what they have in common.

    A silence is offered while one of them is open, and only where they share rule and environment: else it would hide more.
    It names the credentials of those that are open; where they are more than `MOST_SILENCED`, it is of the rule, and says so.
    """
    rules = {alert.rule for alert in alerts}
    rule, environment, cause = (
        _common(each) for each in (rules, {a.environment for a in alerts}, {a.cause for a in alerts})
    )
    page = _page(links.dashboard, "alerts", {"rule": rule, "environment": environment, "cause": cause})
    return _kept(
        ("All of them", page),
        ("Runbook", _anchored(links.runbook, rules)),
        ("Airflow run", links.run),
        *_silence_of_group(alerts, links=links),
    )


def _silence_of_group(alerts: Sequence[Alert], *, links: Links) -> Iterable[tuple[str, str | None]]:
    open_ones = [alert for alert in alerts if alert.state.is_open]
    if not open_ones or len({(alert.rule, alert.environment) for alert in alerts}) > 1:
        return
    credentials = list(dict.fromkeys(alert.credential_id or "" for alert in open_ones))
    named = credentials if all(credentials) and len(credentials) <= MOST_SILENCED else []
    asked: Query = {"rule": alerts[0].rule, "environment": alerts[0].environment, "credential": named}
    yield "Silence these" if named else "Silence the rule", _page(links.dashboard, "silences", asked)


def links_of_summary(alerts: Iterable[Alert], *, links: Links, page: str = "alerts") -> Labelled:
    """Return the links of a summary, to a page of the dashboard; the runbook's anchor where all are of one rule."""
    return _kept(
        ("Silences" if page == "silences" else "Dashboard", _page(links.dashboard, page, {})),
        ("Runbook", _anchored(links.runbook, {alert.rule for alert in alerts})),
        ("Airflow run", links.run),
    )


def _common(values: Collection[str | None]) -> str | None:
    return next(iter(values)) if len(values) == 1 else None


def _kept(*labelled: tuple[str, str | None]) -> Labelled:
    return tuple((label, address) for label, address in labelled if address)


def _page(dashboard: str | None, page: str, query: Query) -> str | None:
    """Return a page's address; None where a value is no id: it would pick out other alerts than these."""
    if dashboard is None:
        return None
    values = [
        (name, value)
        for name, given in query.items()
        for value in ([given] if isinstance(given, str) else given or [])
        if value
    ]
    # Fingerprints and causes are ours, and look like secrets.
    if any(clean(value, limit=LONGEST_VALUE) != value for name, value in values if name not in _OURS):
        return None
    asked = f"?{urlencode(values, quote_via=quote, safe='')}" if values else ""
    return "/".join(part for part in (dashboard.rstrip("/"), page) if part) + asked


_OURS = frozenset({"fingerprint", "cause", "rule"})


def _anchored(runbook: str | None, rules: Iterable[str]) -> str | None:
    named = list(rules)
    if runbook is None or len(named) != 1:
        return runbook
    return f"{runbook.rstrip('/')}#{_quoted(named[0].replace('_', '-'))}"


def _quoted(value: str) -> str:
    return quote(value, safe="")
