"""What most likely causes a failure, and what to do first: one table by error class, one by rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        first_step="In Hub Plus, test the connection of this credential; if it fails, enter client id and secret anew",
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

BY_RULE: Mapping[str, Advice] = {
    "stuck_sync": Advice(
        likely_cause="No worker took the sync up, or its process was killed; while it stands open, "
        "Hub Plus refuses new syncs of this credential",
        first_step="In Hub Plus, cancel this sync, start it again, and see that the worker is running",
    ),
    "monitor_health": Advice(
        likely_cause="The monitor cannot read the source as it should; while this lasts, no alert opens or closes",
        first_step="Run the doctor command (python -m include.cli doctor): it names what is wrong and the fix",
    ),
}
"""For rules whose alerts have no error text of their own."""


def advice_for(rule: str, error_class: ErrorClass | None) -> Advice | None:
    """Return what helps with an alert: the rule's own advice, else that of its error class, else None."""
    if rule in BY_RULE:
        return BY_RULE[rule]
    return BY_ERROR_CLASS[error_class] if error_class is not None else None
