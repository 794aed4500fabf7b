"""What most likely causes a failure, and what to do first: by rule, by error class, and by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from include.sync_health.alerts import Alert
from include.sync_health.verdicts import ErrorClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The likely cause in words, and the first step of a person on call."""

    likely_cause: str
    first_step: str


BY_ERROR_CLASS: Mapping[ErrorClass, Advice] = {
    ErrorClass.AUTH: Advice(
        likely_cause="ServiceTitan does not accept the credential: its secret was rotated, its app access was revoked, "
        "or the token refresh failed",
        first_step="In Hub Plus, start a sync of this credential; if it fails in the same way, enter client id and secret anew. Do "
        "not go by the connection test: it passes even when ServiceTitan answers 401",
    ),
    ErrorClass.PERMISSION: Advice(
        likely_cause="The credential is valid but may not read this data: a scope or a ServiceTitan module is missing",
        first_step="In ServiceTitan's developer portal, compare the app's scopes with the data type that fails",
    ),
    ErrorClass.RATE_LIMIT: Advice(
        likely_cause="Too many calls for this tenant within a short time",
        first_step="Look for syncs of the same tenant that overlap, or another integration that uses the same app",
    ),
    ErrorClass.TIMEOUT: Advice(
        likely_cause="ServiceTitan did not answer in time, or the network between us and it is disturbed",
        first_step="See whether other credentials fail too; if so, check status.servicetitan.com and our outbound network",
    ),
    ErrorClass.SERVER: Advice(
        likely_cause="ServiceTitan answers with server errors",
        first_step="Check status.servicetitan.com; the syncs recover by themselves when it does",
    ),
    ErrorClass.DECODE: Advice(
        likely_cause="ServiceTitan, or something between us and it, answered with what is no JSON",
        first_step="Look in servicetitan_errors.log for the answer's beginning: often a proxy's or maintenance page",
    ),
    ErrorClass.VALIDATION: Advice(
        likely_cause="Records lack required fields or hold values that Hub Plus refuses",
        first_step="Take the fields named in the latest error and look at those records in ServiceTitan",
    ),
    ErrorClass.CANCELLED: Advice(
        likely_cause="Someone cancelled the syncs in Hub Plus",
        first_step="Ask who cancelled them, and start a sync by hand if the data is needed",
    ),
    ErrorClass.UNKNOWN: Advice(
        likely_cause="The error text does not tell",
        first_step="Open the sync in Hub Plus and read servicetitan_errors.log around the time of its last failure",
    ),
}
"""For every error class."""

OUTAGE: Mapping[ErrorClass, Advice] = {
    ErrorClass.AUTH: Advice(
        likely_cause="ServiceTitan refuses many credentials at once: our app was revoked or its key changed, its login "
        "service is disturbed, or Hub Plus can no longer read its stored secrets",
        first_step="Check status.servicetitan.com, then the app in ServiceTitan's developer portal; leave the credentials as "
        "they are until you know: entering them anew one by one would not help",
    ),
    ErrorClass.PERMISSION: Advice(
        likely_cause="Our app lost a scope for everyone, or ServiceTitan moved data behind another one",
        first_step="In ServiceTitan's developer portal, compare the app's scopes and version with last week's",
    ),
    ErrorClass.RATE_LIMIT: Advice(
        likely_cause="All credentials share a limit that is used up: many syncs started together, or something else calls "
        "with the same app",
        first_step="In Hub Plus, see whether a bulk or historical sync runs, and stop it; then spread the schedules",
    ),
    ErrorClass.TIMEOUT: Advice(
        likely_cause="ServiceTitan does not answer in time, or our way out to it is disturbed",
        first_step="Call the API from a Hub Plus server; if other outside hosts hang as well it is our network, else check "
        "status.servicetitan.com",
    ),
    ErrorClass.SERVER: Advice(
        likely_cause="ServiceTitan answers everyone with server errors",
        first_step="Check status.servicetitan.com and tell those who wait for data; the syncs recover when it does",
    ),
    ErrorClass.DECODE: Advice(
        likely_cause="Something answers in ServiceTitan's place: a maintenance page, or a proxy of ours",
        first_step="Look in servicetitan_errors.log for the answer's beginning, then check status.servicetitan.com",
    ),
    ErrorClass.VALIDATION: Advice(
        likely_cause="A release of Hub Plus, or a change of ServiceTitan's answers, broke how records are read",
        first_step="See whether Hub Plus was deployed shortly before it began; if so, roll it back or mend the field named in "
        "the latest error",
    ),
}
"""For an outage, by the error class that its credentials share; unlike one credential's failure, it has one cause."""

SHARED: Mapping[ErrorClass, Advice] = {
    ErrorClass.AUTH: Advice(
        likely_cause="ServiceTitan refuses these credentials in the same way: the app's access was revoked, or their secrets were "
        "rotated together",
        first_step="In ServiceTitan's developer portal, look at the app that they use; then, in Hub Plus, start a sync of one of "
        "them, and enter client id and secret anew only for those that still fail",
    ),
    ErrorClass.PERMISSION: Advice(
        likely_cause="The credentials are valid but may not read this data: their app lacks a scope or a ServiceTitan module",
        first_step="In ServiceTitan's developer portal, compare the app's scopes with the data types that fail",
    ),
    ErrorClass.RATE_LIMIT: Advice(
        likely_cause="These credentials share a limit that is used up: many syncs started together, or something else calls with "
        "the same app",
        first_step="In Hub Plus, see whether a bulk or historical sync runs, and stop it; then spread the schedules",
    ),
    ErrorClass.TIMEOUT: OUTAGE[ErrorClass.TIMEOUT],
    ErrorClass.DECODE: OUTAGE[ErrorClass.DECODE],
    ErrorClass.VALIDATION: OUTAGE[ErrorClass.VALIDATION],
}
"""For several credentials that fail with one cause and are no outage; other classes as one credential's failure."""

BY_RULE: Mapping[str, Advice] = {
    "stuck_sync": Advice(
        likely_cause="No worker took the sync up, or its process was killed; while it stands open, "
        "Hub Plus refuses new syncs of this credential",
        first_step="In Hub Plus, cancel this sync, start it again, and see that the worker is running",
    ),
    "no_syncs": Advice(
        likely_cause="What starts the syncs in Hub Plus has stopped (its cron job or worker, often after a deployment), or "
        "the database we read is a copy that no longer follows",
        first_step="On the Hub Plus servers, see whether the cron job and the worker run; then start one sync by hand and see "
        "whether it appears",
    ),
    "token_expiry": Advice(
        likely_cause="Nothing renewed the token: no sync has used the credential, or ServiceTitan refuses to renew it",
        first_step="In Hub Plus, authenticate this credential anew and start a sync; if the credential is no longer needed, "
        "set it inactive",
    ),
    "connection_error": Advice(
        likely_cause="The last renewal of its token was refused, and no sync has completed since: the secret was rotated, or "
        "the app's access revoked",
        first_step="In Hub Plus, enter client id and secret anew and start a sync: only a completed one proves it, for the "
        "connection test passes even when ServiceTitan answers 401",
    ),
    "stale_sync": Advice(
        likely_cause="Its syncs are no longer started, or every one of them fails",
        first_step="In Hub Plus, look at the credential's latest sync: if it failed, follow its error; if there is none, see "
        "that its schedule is on; if the credential is no longer needed, set it inactive",
    ),
    "data_quality": Advice(
        likely_cause="Records lack required fields or hold values that Hub Plus refuses; when most of them fail, a field was "
        "renamed or remapped",
        first_step="Read servicetitan_errors.log around the time this sync completed: it names the fields; then look at such "
        "records in ServiceTitan",
    ),
    "quality_drop": Advice(
        likely_cause="Something changed since the days before: a field that Hub Plus requires or maps anew, or another way of "
        "entering records in ServiceTitan",
        first_step="Compare that day's rows in monitoring.field_quality_daily with those of the week before: the field whose "
        "failures grew names the change; without such rows, read servicetitan_errors.log of that day",
    ),
    "empty_syncs": Advice(
        likely_cause="The syncs run but ask for nothing, such as by a date that stands still, or a scope was taken away and "
        "ServiceTitan answers with empty lists; or nobody there works any more",
        first_step="In ServiceTitan, see whether such records were created since; if so, start a full sync of this data type in "
        "Hub Plus and compare the app's scopes; if not, ask the customer",
    ),
    "api_errors": Advice(
        likely_cause="ServiceTitan refuses or fails these calls; the status codes tell which: 401 and 403 are the credential or "
        "a scope, 404 a path that has changed, 429 the rate, 500 and above ServiceTitan itself",
        first_step="Take the commonest status code: from 500 on check status.servicetitan.com; else read servicetitan_errors.log of "
        "that hour for the endpoint",
    ),
    "api_latency": Advice(
        likely_cause="ServiceTitan is slow, calls ask for too much at once, or the network between us and it is disturbed",
        first_step="See whether other endpoints are slow too: if so, check status.servicetitan.com; if not, ask for smaller pages of "
        "this one",
    ),
    "api_incidents": Advice(
        likely_cause="Too many calls for this tenant within a short time, or calls that failed in a row until Hub Plus stopped "
        "calling for a while",
        first_step="Look for syncs of the same tenant that overlap, or another integration that uses the same app; after an open "
        "circuit breaker, follow the error of this credential's latest failed sync",
    ),
    "error_budget": Advice(
        likely_cause="Something small fails day after day, below what the other alerts look for",
        first_step="Look at the last days by credential in monitoring.quality_daily: where few of them lose most, mend those; "
        "where all lose a little, compare with the last change of Hub Plus",
    ),
    "monitor_health": Advice(
        likely_cause="The monitor cannot read the source, or must not trust it: while this lasts, none of this check's alerts "
        "closes as recovered, and new trouble may go unseen",
        first_step="Run the doctor command (python -m include.cli doctor): it names what is wrong and the fix",
    ),
}
"""For rules whose alerts have no error text of their own."""

MONITOR_HEALTH: Mapping[str, Advice] = {
    "policy": Advice(
        likely_cause="The policy file, or which file is named, was changed; alerts go on by the last good one, without that change",
        first_step="Mend what the message names and try it with python -m include.cli policy --check FILE; the next run takes "
        "it up",
    ),
    "clock": Advice(
        likely_cause="The clock of the machine that runs the monitor was ahead for a while",
        first_step="See that its clock is right and kept so (NTP); until the time that the message names has come, look at those "
        "alerts in Hub Plus yourself",
    ),
    "evaluation": Advice(
        likely_cause="A fault of the monitor, or rows such as it has never met; its other rules go on, but nothing closes as "
        "recovered",
        first_step="Read the log of the task evaluate in the Airflow run and hand it to whoever keeps the monitor",
    ),
    "stale_source": Advice(
        likely_cause="What starts the syncs in Hub Plus has stopped, or the database we read is a copy that no longer follows; "
        "while this lasts, nothing closes as recovered",
        first_step="In Hub Plus, see whether syncs still start; if they do, hub_plus_db reads a copy that has stopped following",
    ),
}
"""For what keeps the monitor from seeing, where it is not the access to the source: by check, or by cause."""

BASELINE = Advice(
    likely_cause="Nobody watched until now: some of this may be months old, such as credentials that nobody uses any more",
    first_step="Begin with the worst. Set credentials that are no longer needed inactive in Hub Plus: what is said of their "
    "token, connection and freshness then ends by itself",
)
"""For what was broken already when monitoring began."""


def advice_for(rule: str, error_class: ErrorClass | None) -> Advice | None:
    """Return what helps with an alert: the rule's own advice, else that of its error class, else None."""
    if rule in BY_RULE:
        return BY_RULE[rule]
    if error_class is None:
        return None
    by_class = OUTAGE if rule == "platform_outage" else BY_ERROR_CLASS
    return by_class.get(error_class)


def advice_on(alert: Alert) -> Advice | None:
    """Return what helps with an alert; of the monitor's own health, by what keeps it from seeing."""
    if alert.rule == "monitor_health":
        check, cause = alert.identity.get("check", ""), alert.identity.get("cause", "")
        kind = "evaluation" if cause.startswith("evaluation_") else cause
        return MONITOR_HEALTH.get(check) or MONITOR_HEALTH.get(kind) or BY_RULE["monitor_health"]
    return advice_for(alert.rule, alert.error_class)


def advice_on_group(alerts: Sequence[Alert]) -> Advice | None:
    """Return what helps with several alerts of one rule and cause: where they are of several credentials, look for what those share."""
    first = alerts[0]
    has_own = first.rule in BY_RULE or first.rule == "platform_outage"
    if first.error_class is None or has_own or len({alert.credential_id for alert in alerts}) < 2:
        return advice_on(first)
    return SHARED.get(first.error_class) or advice_on(first)
