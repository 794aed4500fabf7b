"""What a test asks of a store, whichever it is."""

from __future__ import annotations

import itertools
import json
from typing import Any, Protocol

from tests.orchestration.stores.gate import Gate

SECRET = "wJalrXUtnFEMI-not-a-real-secret"
"""In the credentials of every connection; no message may have it."""

_NUMBERS = itertools.count(1)


class Store(Protocol):
    """A store with an empty bucket."""

    scheme: str
    bucket: str
    gate: Gate

    def put(self, name: str, data: bytes) -> None:
        """Store an object."""

    def delete(self, name: str) -> None:
        """Delete an object."""

    def connection(self, *, is_wrong: bool = False, endpoint: str | None = None) -> dict[str, Any]:
        """Return Airflow's connection to it, perhaps with credentials that it refuses, or to another address."""

    def looks(self) -> str:
        """How a request for a list of its objects begins."""

    def reads(self, name: str) -> str:
        """How a request for an object's bytes begins."""

    def stop(self) -> None:
        """Stop the server."""


def new_name(hint: str) -> str:
    """Return a name that no test had: Airflow keeps the file system of a connection, and its listings, for the process."""
    return f"{hint}{next(_NUMBERS)}"


def variable(connection_id: str) -> str:
    """Return the environment variable that holds a connection."""
    return f"AIRFLOW_CONN_{connection_id.upper()}"


def url(store: Store, name: str) -> str:
    """Return the URL that a policy names an object, or a pattern, by."""
    return f"{store.scheme}://{store.bucket}/{name}"


def told_connection(connection: dict[str, Any]) -> str:
    """Return a connection as Airflow reads it from the environment."""
    return json.dumps(connection)
