"""
Calls of our own to ServiceTitan: a few credentials at a time, and only those that have a connection for it.

Without a connection ``servicetitan_<credential id>`` no call is ever made. Nothing lists the connections that there are, so
each id is looked up: those of environment variables and of earlier probes every time, of the others `LOOKUPS` in turn.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from include.orchestration.connections import ConnectionValues, find_connection
from include.sync_health.api_probes import ProbeResult
from include.sync_health.errors import ConnectionMissing, MonitorError
from include.sync_health.frames import id_text, require_columns
from include.sync_health.verdicts import ErrorClass

if TYPE_CHECKING:
    import pandas as pd

CONNECTION_PREFIX = "servicetitan_"
"""Of the id of a credential's connection; the credential's own id follows."""

LOOKUPS = 100
"""Credentials not known to have a connection that are looked up in one run: one costs Airflow some 10 ms."""

TURN = timedelta(minutes=15)
"""How often the next `LOOKUPS` have their turn; ten thousand credentials have all had it after 25 hours."""

BOX = timedelta(seconds=60)
"""
How long a run may take. Nothing is looked up after it, and no probe but the first begins that might outlast it; those left
out come first the next time.
"""

_NEVER: Mapping[str, datetime] = MappingProxyType({})


def run_probes(
    credentials: pd.DataFrame,
    *,
    sample: int,
    timeout: timedelta,
    now: datetime,
    salt: str,
    probed: Mapping[str, datetime] = _NEVER,
) -> list[ProbeResult]:
    """
    Probe up to ``sample`` of these credentials, one after the other, each once.

    Those never probed come first, then those whose last probe is oldest; among equals the salt decides. A credential
    whose connection is there but cannot be used as it is takes its place in the sample: its result says why, and no call
    is made.

    Args:
        credentials: those in use: credential_id, environment and company_id of `CREDENTIAL_COLUMNS`.
        sample: how many.
        timeout: of one probe, signing in included.
        now: the instant that the results bear; aware.
        salt: what chooses among equals, such as the window's end.
        probed: when credentials were last probed, by id; without it the salt alone gives each its turn.

    Raises:
        FrameError: ``credentials`` lacks a column.
        ValueError: ``now`` is naive.
    """
    require_columns(credentials, ("credential_id", "environment", "company_id"), name="credentials")
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    names = dict(
        zip(
            id_text(credentials["credential_id"]),
            zip(credentials["environment"].astype(str), id_text(credentials["company_id"]), strict=True),
            strict=True,
        )
    )
    began = time.monotonic()
    results: list[ProbeResult] = []
    for credential_id in in_turn(list(names), now=now, salt=salt, probed=probed):
        left = BOX.total_seconds() - (time.monotonic() - began)
        if len(results) >= sample or left <= 0 or (results and left < timeout.total_seconds()):
            break
        environment, company_id = names[credential_id]
        named = {"credential_id": credential_id, "environment": environment, "company_id": company_id, "at": now}
        results += (replace(result, **named) for result in _probed(credential_id, timeout=timeout, now=now))
    return results


def in_turn(
    credential_ids: list[str],
    *,
    now: datetime,
    salt: str,
    probed: Mapping[str, datetime] = _NEVER,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """
    Return the credentials to look at in this run, in the order in which they may be probed.

    All that may have a connection by what is known, and `LOOKUPS` of the others: the next ones in a circle, one step
    every `TURN`, so that each of them is looked at within a whole round.
    """
    known = {each for each in credential_ids if each in probed or _variable(each) in environ}
    others = sorted(set(credential_ids) - known, key=_mixed)
    if len(others) > LOOKUPS:
        first = int(now.timestamp() // TURN.total_seconds()) * LOOKUPS % len(others)
        others = (others + others)[first : first + LOOKUPS]
    never = datetime.min.replace(tzinfo=UTC)
    return sorted({*known, *others}, key=lambda each: (probed.get(each, never), _mixed(f"{salt} {each}")))


def _probed(credential_id: str, *, timeout: timedelta, now: datetime) -> Iterator[ProbeResult]:
    """Yield the result of one probe, or nothing where there is no connection for it."""
    try:
        values = find_connection(f"{CONNECTION_PREFIX}{credential_id}")
    except ConnectionMissing:
        return
    except MonitorError as error:
        yield ProbeResult(at=now, error_class=ErrorClass.VALIDATION, error=str(error))
        return
    yield _probe(values, timeout=timeout, now=now)


def _probe(values: ConnectionValues, *, timeout: timedelta, now: datetime) -> ProbeResult:
    from include.orchestration.servicetitan_client import ServiceTitanClient
    from include.orchestration.servicetitan_connection import ServiceTitanConnection

    try:
        connection = ServiceTitanConnection.of(values)
    except MonitorError as error:
        return ProbeResult(at=now, error_class=ErrorClass.VALIDATION, error=str(error))
    with ServiceTitanClient(connection, timeout=min(timeout.total_seconds(), connection.timeout)) as client:
        return client.probe()


def _variable(credential_id: str) -> str:
    return f"AIRFLOW_CONN_{CONNECTION_PREFIX}{credential_id}".upper()


def _mixed(text: str) -> str:
    """Return what orders texts as good as by chance, and always the same."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
