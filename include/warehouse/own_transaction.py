"""A transaction of a store's own: for what must not wait for its caller to commit, such as that a message was sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.warehouse.monitoring_session import storage_errors


@contextmanager
def own_transaction(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """
    Commit at the end, and with it whatever was open before; or roll back and pass the error on.

    Raises:
        StorageError: as `storage_errors` has it.
    """
    with storage_errors():
        try:
            yield
            conn.commit()
        except BaseException:
            if not conn.closed:
                conn.rollback()
            raise
