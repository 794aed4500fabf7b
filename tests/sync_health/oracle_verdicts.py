"""The oracle's every rule at once, as a check would give them: verdict and severity by identity, the sandbox capped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from tests.sync_health import oracle, oracle_credentials, oracle_platform, oracle_quality
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential, Snapshot

Verdicts = dict[tuple[str, ...], tuple[str, str]]
"""(verdict, severity) by identity."""


def every_rule(
    rows: list[Row],
    credentials: list[Credential],
    *,
    as_of: datetime,
    class_of: Callable[[str | None], str],
    snapshots: Iterable[Snapshot] = (),
) -> dict[str, Verdicts]:
    """
    What each rule says at ``as_of``, taken as the present; runs of credentials that have no row are nobody's.

    ``class_of`` tells the class of an error text: reading texts is tested on its own.
    """
    known = {each.id for each in credentials}
    rows = [row for row in rows if row.credential in known]
    snapshots = list(snapshots)
    said: dict[str, Verdicts] = {
        "platform_outage": oracle_platform.platform_outage(rows, credentials, as_of=as_of, class_of=class_of),
        "no_syncs": oracle_platform.no_syncs(rows, credentials, as_of=as_of),
        "token_expiry": oracle_credentials.token_expiry(credentials, rows, as_of=as_of, snapshots=snapshots),
        "connection_error": oracle_credentials.connection_errors(credentials, rows, as_of=as_of, snapshots=snapshots),
        "sync_failures": {
            key: (verdict, "high") for key, (verdict, _) in oracle.sync_failures(rows, as_of=as_of).items()
        },
        "consecutive_failures": {
            key: (verdict, "high" if in_a_row >= 10 else "medium")
            for key, (verdict, in_a_row) in oracle.consecutive_failures(rows, as_of=as_of).items()
        },
        "stuck_sync": oracle.stuck_syncs(rows, as_of=as_of),
        "stale_sync": oracle_credentials.stale_syncs(credentials, rows, as_of=as_of),
        "data_quality": oracle_quality.data_quality(rows, as_of=as_of),
        # Without stored days nothing is compared with: see `oracle_trends`.
        "quality_drop": {},
        "empty_syncs": {},
        # Without what is measured beside the syncs nothing is judged by it.
        "api_errors": {},
        "api_latency": {},
        "api_incidents": {},
        "error_budget": {},
    }
    sandbox = {str(each.id) for each in credentials if each.environment == "integration"}
    return {
        rule: {
            key: (verdict, "low" if key[0] in sandbox else severity) for key, (verdict, severity) in verdicts.items()
        }
        for rule, verdicts in said.items()
    }
