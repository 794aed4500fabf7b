"""What the 15-minute check reads from the source, and for which credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.errors import RequestError
from include.sync_health.policy import Policy
from include.sync_health.visibility import WEEK

if TYPE_CHECKING:
    from include.sync_health.subjects import Subject
    from include.warehouse.source_reader import RunsRead

TICK = timedelta(minutes=15)
"""How often the check is made, and the length of a window of a run by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilters:
    """Which credentials a run judges; empty sets mean all. A filtered run moves only what it judged."""

    credential_ids: tuple[str, ...] = ()
    environment: str | None = None

    @property
    def narrow(self) -> bool:
        """True when the run leaves anything out."""
        return bool(self.credential_ids or self.environment)

    def admits(self, subject: Subject) -> bool:
        """Return whether a credential is judged."""
        return (not self.credential_ids or subject.credential_id in self.credential_ids) and (
            not self.environment or subject.environment == self.environment
        )

    def as_record(self) -> Mapping[str, str]:
        """Return the filters as ``check_run`` keeps them."""
        record = {"credentials": ",".join(sorted(self.credential_ids)), "environment": self.environment or ""}
        return {key: value for key, value in record.items() if value}


def read_source(
    conninfo: str,
    *,
    policy: Policy,
    as_of: datetime,
    filters: RunFilters,
    remembered: Sequence[str] | None = None,
) -> tuple[RunsRead, Any]:
    """
    Return the runs of a week (or of the longest window that a rule has), and all credentials (`CREDENTIAL_COLUMNS`).

    Args:
        conninfo: of the Hub Plus database.
        policy: how to read, and how far back each rule looks.
        as_of: the instant judged; aware.
        filters: which credentials; those named must exist.
        remembered: ids of runs known to be open; None looks back instead.

    Raises:
        SourceError: the source cannot be read as it should be.
        RequestError: a credential that ``filters`` names does not exist.
    """
    from include.sync_health.subjects import subjects_of
    from include.warehouse.source_reader import SourceReader

    failures, in_a_row = policy.rules.sync_failures, policy.rules.consecutive_failures
    lookback = max(failures.evidence_window, failures.window, in_a_row.window, WEEK)
    with SourceReader.connect(conninfo, policy.source) as reader:
        credentials = reader.read_credentials()
        unknown = set(filters.credential_ids) - set(credentials["credential_id"].astype(str))
        if unknown:
            raise RequestError(
                f"credential: {', '.join(sorted(unknown))} is not among the {len(credentials)} credentials of the source"
            )
        admitted = [subject for subject in subjects_of(credentials).values() if filters.admits(subject)]
        if filters.narrow and not admitted:
            raise RequestError(
                f"credential and environment together leave nothing to judge: {dict(filters.as_record())} admits none of "
                f"the {len(credentials)} credentials of the source"
            )
        read = reader.read_runs(
            finished_from=as_of - lookback,
            as_of=as_of,
            remembered_open=remembered,
            credential_ids=filters.credential_ids or None,
            environment=filters.environment,
        )
    return read, credentials
