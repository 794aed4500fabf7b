"""What picks alerts out: the matchers of routes, silences and mutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from include.sync_health.alerts import Alert
from include.sync_health.verdicts import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """
    What a matcher may ask of an alert.

    Args:
        rule: such as ``sync_failures``.
        severity: as it is now.
        environment: ``production``, ``integration``, or None for an alert about neither.
        company: the company's id as text; names are neither unique nor stable.
        credential: the credential's id as text.
        data_type: such as ``invoices``.
        tags: those that the policy gives to the company or the credential.
        fingerprint: the alert's; empty where no alert exists yet.
    """

    rule: str
    severity: Severity
    environment: str | None = None
    company: str | None = None
    credential: str | None = None
    data_type: str | None = None
    tags: frozenset[str] = frozenset()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """Whom the policy gives a tag: ids as text."""

    companies: frozenset[str] = frozenset()
    credentials: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """
    A condition on `Labels`: an empty set asks nothing, of several sets each must match, within a set one value must.

    ``fingerprint`` values match by how they begin, so that the twelve digits that a message shows are enough.
    """

    severity: frozenset[Severity] = frozenset()
    rule: frozenset[str] = frozenset()
    environment: frozenset[str] = frozenset()
    company: frozenset[str] = frozenset()
    credential: frozenset[str] = frozenset()
    data_type: frozenset[str] = frozenset()
    tag: frozenset[str] = frozenset()
    fingerprint: frozenset[str] = field(default=frozenset())

    @property
    def asks_nothing(self) -> bool:
        """True for the matcher of everything."""
        return not any(getattr(self, each.name) for each in fields(self))

    def matches(self, labels: Labels) -> bool:
        """Return whether an alert with these labels is picked out."""
        return not self.mismatches(labels)

    def mismatches(self, labels: Labels) -> tuple[str, ...]:
        """Return the names of the sets that do not match, in the order of the fields; none when all do."""
        return tuple(
            each.name
            for each in fields(self)
            if (wanted := getattr(self, each.name)) and not _has(wanted, labels, named=each.name)
        )


def labels_of(alert: Alert, *, tags: Mapping[str, Tagged]) -> Labels:
    """Return the labels of an alert, with the tags that the policy gives to its company and its credential."""
    return Labels(
        rule=alert.rule,
        severity=alert.severity,
        environment=alert.environment,
        company=alert.company_id,
        credential=alert.credential_id,
        data_type=alert.data_type,
        tags=tags_of(tags, company=alert.company_id, credential=alert.credential_id),
        fingerprint=alert.fingerprint,
    )


def tags_of(tags: Mapping[str, Tagged], *, company: str | None, credential: str | None) -> frozenset[str]:
    """Return the names of the tags of a company, or of one of its credentials."""
    return frozenset(
        name for name, tagged in tags.items() if company in tagged.companies or credential in tagged.credentials
    )


def _has(wanted: frozenset[str], labels: Labels, *, named: str) -> bool:
    if named == "tag":
        return not wanted.isdisjoint(labels.tags)
    if named == "fingerprint":
        return any(labels.fingerprint.startswith(prefix) for prefix in wanted)
    return getattr(labels, named) in wanted
