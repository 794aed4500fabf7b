"""Reads the credentials, and what only the whole past of one tells: its last success."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

import numpy as np
import pandas as pd

from include.sync_health.frames import CREDENTIAL_COLUMNS, ENVIRONMENTS
from include.sync_health.policy import SourcePolicy
from include.warehouse.binary_arrays import raw_row_in_one_call
from include.warehouse.packed_columns import unpacked
from include.warehouse.run_search import Reading, RunSearch
from include.warehouse.source_keys import key_of
from include.warehouse.source_schema import KeyType, SourceShape
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_statements import SourceStatements

CREDENTIALS_AT_ONCE = 500
"""Last successes sought per statement: each costs that credential's whole history, and a statement's time is bounded."""


def read_credentials(
    session: Session, policy: SourcePolicy, *, shape: SourceShape, statements: SourceStatements
) -> pd.DataFrame:
    """
    Return `CREDENTIAL_COLUMNS`, as `SourceReader.read_credentials` promises.

    Raises:
        SourceError: what `source_errors` maps.
    """
    with source_errors("reading credentials", policy):
        cursor = session.execute(statements.credentials, {"zone": policy.timezone})
        rows = cursor.fetchall()
    frame = pd.DataFrame.from_records(
        rows, columns=[column.name for column in cursor.description or ()], coerce_float=False
    )
    for column, source_column in (("credential_id", "id"), ("company_id", "company_id")):
        is_uuid = shape.credentials.types[source_column] == "uuid"
        frame[column] = frame[column].astype(str).astype(object) if is_uuid else frame[column].astype(np.int64)
    frame["company_name"] = frame["company_name"].astype(object).where(frame["company_name"].notna(), None)
    environment = frame["environment"].where(frame["environment"].isin(ENVIRONMENTS), "unknown")
    frame["environment"] = pd.Categorical(environment, categories=list(ENVIRONMENTS))
    for column in ("token_expires_at", "last_connection_attempt", "created_at", "updated_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True).astype("datetime64[us, UTC]")
    for column in ("has_client_id", "has_client_secret"):
        frame[column] = frame[column].astype(bool)
    return frame[list(CREDENTIAL_COLUMNS)]


def read_older_successes(
    credential_ids: Collection[str],
    *,
    as_of: datetime,
    policy: SourcePolicy,
    shape: SourceShape,
    statements: SourceStatements,
    search: RunSearch,
) -> dict[str, datetime]:
    """
    Return the last successes, as `SourceReader.read_older_successes` promises.

    Raises:
        SourceError: what `source_errors` maps.
    """
    # An id of the wrong kind is one from before the source was rebuilt: it has no runs.
    keys = sorted(
        {key for text in credential_ids if (key := key_of(text, shape.credential_id_key)) is not None}, key=str
    )
    if not keys:
        return {}
    reading = Reading(as_of)
    parameters = search.clock(reading)
    if not shape.is_credential_indexed:
        parameters["low"], parameters["high"] = search.range_since(reading, policy.open_lookback)
    found: dict[str, datetime] = {}
    for start in range(0, len(keys), CREDENTIALS_AT_ONCE):
        some = {**parameters, "credentials": keys[start : start + CREDENTIALS_AT_ONCE]}
        rows = search.fetch(reading, statements.older_successes, some)
        found |= {str(key): at.astimezone(UTC) for key, at in rows if at is not None}
    return found


def read_credential_ids(
    session: Session, policy: SourcePolicy, *, shape: SourceShape, statements: SourceStatements
) -> frozenset[str]:
    """
    Return the ids of all credentials, as text.

    Raises:
        SourceError: what `source_errors` maps.
    """
    with source_errors(f"reading the ids of {shape.credentials.name}", policy):
        (ids,) = raw_row_in_one_call(session, statements.credential_ids, {})
    return _ids_of(ids, cast("KeyType", shape.credentials.types["id"]))


@lru_cache(maxsize=2)  # they are asked for after each read, and hardly ever change
def _ids_of(buffer: bytes | None, kind: KeyType) -> frozenset[str]:
    return frozenset(map(str, unpacked(buffer, kind, name="id").tolist()))
