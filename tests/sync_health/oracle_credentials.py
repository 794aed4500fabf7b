"""The oracle's rules over credentials: token expiry, connection errors, stale syncs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.sync_health.oracle import Row, cancelled

Identity = tuple[str, ...]
MONITORED = ("active", "connected", "error")


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A credential's row as the source has it, times aware."""

    id: int
    environment: str = "production"
    status: str = "active"
    token_expires_at: datetime | None = None
    last_connection_attempt: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    has_client_id: bool = True
    has_client_secret: bool = True
    company: int = 1
    company_name: str | None = "Acme Heating"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a credential looked like from ``at`` until its next snapshot; at last, while it is gone, its last values."""

    credential: int
    at: datetime
    status: str
    token_expires_at: datetime | None = None
    has_client_id: bool = True
    has_client_secret: bool = True
    is_deleted: bool = False


def of(credential: Credential, snapshots: Iterable[Snapshot], *, as_of: datetime) -> list[Snapshot]:
    """This credential's snapshots up to ``as_of``, oldest first."""
    mine = [each for each in snapshots if each.credential == credential.id and each.at <= as_of]
    return sorted(mine, key=lambda each: each.at)


def as_it_was(credential: Credential, snapshots: Iterable[Snapshot], *, as_of: datetime) -> Credential | None:
    """The credential at an instant of the past: its status and token are those recorded; None where nobody did."""
    mine = of(credential, snapshots, as_of=as_of)
    if not mine or mine[-1].is_deleted:
        return None
    return replace(
        credential,
        status=mine[-1].status,
        token_expires_at=mine[-1].token_expires_at,
        has_client_id=mine[-1].has_client_id,
        has_client_secret=mine[-1].has_client_secret,
    )


def last_success(credential: Credential, rows: Iterable[Row], *, as_of: datetime) -> datetime | None:
    """When its newest completed run up to ``as_of`` completed."""
    ends = [
        row.completed_at
        for row in rows
        if row.credential == credential.id
        and row.status == "completed"
        and not cancelled(row)
        and row.completed_at is not None
        and row.completed_at <= as_of
    ]
    return max(ends, default=None)


def lifetime(
    credential: Credential, snapshots: Iterable[Snapshot], *, as_of: datetime, is_present: bool = True
) -> timedelta:
    """
    How long its tokens last, at least: the longest of what was ever left of one, and since its row was written.

    In the past the row's own writing says nothing: it may have been written for another token.
    """
    assert credential.token_expires_at is not None
    bounds = [credential.token_expires_at - as_of]
    if is_present:
        # When the row was last touched. Where updated_at never moved since the insert nobody keeps it, and a handshake alone
        # is not the only thing that brings a token.
        touched = [each for each in (credential.updated_at, credential.last_connection_attempt) if each]
        if touched and credential.updated_at not in (None, credential.created_at):
            bounds.append(credential.token_expires_at - max(touched))
    recorded = of(credential, snapshots, as_of=as_of)
    bounds += [each.token_expires_at - each.at for each in recorded if each.token_expires_at is not None]
    return max(bounds)


def token_expiry(
    credentials: Iterable[Credential],
    rows: list[Row],
    *,
    as_of: datetime,
    snapshots: Iterable[Snapshot] = (),
    is_present: bool = True,
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of the token of each monitored credential; the sandbox is not capped."""
    snapshots = list(snapshots)
    verdicts = {}
    for credential in credentials:
        if credential.status not in MONITORED:
            continue
        expires = credential.token_expires_at
        if expires is None or not credential.has_client_id or not credential.has_client_secret:
            verdict, severity = "no_data", "medium"
        elif lifetime(credential, snapshots, as_of=as_of, is_present=is_present) >= timedelta(hours=24):
            left = expires - as_of
            verdict = "breach" if left <= timedelta(days=7) else "clear"
            severity = "high" if left <= timedelta(hours=24) else "medium"
        else:
            succeeded = last_success(credential, rows, as_of=as_of)
            used_since = succeeded is not None and succeeded > expires
            if expires > as_of or used_since:
                verdict = "clear"
            elif as_of - expires > timedelta(hours=48):
                verdict = "breach"
            else:
                verdict = "band"
            severity = "high" if verdict == "breach" else "medium"
        verdicts[(str(credential.id),)] = (verdict, severity)
    return verdicts


def last_errors(snapshots: list[Snapshot]) -> list[Snapshot]:
    """The unbroken series of snapshots in error that the last of these belongs to; a disappearance breaks it."""
    series: list[Snapshot] = []
    for each in reversed(snapshots):
        if each.status != "error" or each.is_deleted:
            break
        series.insert(0, each)
    return series


def error_since(credential: Credential, snapshots: Iterable[Snapshot], *, as_of: datetime) -> datetime | None:
    """
    Since when a credential that is in error is known to be.

    Its first snapshot in the unbroken series of error; where the newest snapshot shows none yet, this very instant.
    Without any, or where the very first snapshot shows the error already, so that it began before we looked, the source's
    stamps say: the later of the last update and attempt.
    """
    stamps = [
        each
        for each in (credential.updated_at, credential.last_connection_attempt)
        if each is not None and each <= as_of
    ]
    told_by_source = max(stamps, default=None)
    mine = of(credential, snapshots, as_of=as_of)
    series = last_errors(mine)
    if not series:
        return as_of if mine else told_by_source
    first_seen = series[0].at
    if len(series) == len(mine) and told_by_source is not None:
        return min(first_seen, told_by_source)
    return first_seen


def connection_errors(
    credentials: Iterable[Credential], rows: list[Row], *, as_of: datetime, snapshots: Iterable[Snapshot] = ()
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of each credential in error: no breach once a run has completed since."""
    snapshots = list(snapshots)
    verdicts = {}
    for credential in credentials:
        if credential.status != "error":
            continue
        since = error_since(credential, snapshots, as_of=as_of)
        succeeded = last_success(credential, rows, as_of=as_of)
        recovered = since is not None and succeeded is not None and succeeded > since
        verdicts[(str(credential.id),)] = ("clear" if recovered else "breach", "high")
    return verdicts


def stale_syncs(
    credentials: Iterable[Credential], rows: list[Row], *, as_of: datetime
) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of each monitored credential that existed: by the age of its last success, else its own."""
    verdicts = {}
    for credential in credentials:
        if credential.status not in MONITORED:
            continue
        succeeded = last_success(credential, rows, as_of=as_of)
        if succeeded is None and credential.created_at is not None and credential.created_at > as_of:
            continue  # there was none yet, whereas a success proves that there was
        since = succeeded or credential.created_at
        if since is None:
            verdict = "no_data"
        elif as_of - since > timedelta(hours=48):
            verdict = "breach"
        else:
            verdict = "clear" if succeeded else "band"
        very_old = since is not None and as_of - since > timedelta(hours=96)
        verdicts[(str(credential.id),)] = (verdict, "high" if very_old else "medium")
    return verdicts
