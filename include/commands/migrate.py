"""
``migrate``: bring the monitoring schema to this version of the project.

The only thing that ever changes the schema. Safe to repeat, and safe to run twice at once.
"""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "migrate",
        help="create or raise the monitoring schema",
        description="Create the schema 'monitoring', or raise it to this version of the project, in one transaction "
        "under a lock. Safe to repeat, and to run twice at once. An older version of the project refuses to work with "
        "the result: there is no way down.",
    )
    parser.add_argument(
        "--connection",
        metavar="ID",
        help="connection of the database (default: the policy's storage.connection, as shipped monitoring_db)",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Migrate, and print from which revision to which.

    With ``--json``: ``{"schema", "from", "to", "changed"}``, ``from`` null where there was no schema yet.

    Returns:
        0: the schema is current.

    Raises:
        MonitorError: the connection is missing or no PostgreSQL, the policy that should name it is wrong, or
            `include.warehouse.migration.upgrade` could not do it; nothing has changed then.
    """
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.warehouse.migration import upgrade
    from include.warehouse.monitoring_session import SCHEMA

    conn_id = args.connection or policy_in_force().loaded.policy.storage_connection
    found, reached = upgrade(postgres_conninfo(conn_id))
    if args.json:
        print(json.dumps({"schema": SCHEMA, "from": found, "to": reached, "changed": found != reached}))
    elif found == reached:
        print(f"{SCHEMA}: already at {reached}, nothing to do")
    else:
        print(f"{SCHEMA}: {found or 'nothing'} -> {reached}")
    return 0
