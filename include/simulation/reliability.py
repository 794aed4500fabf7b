"""
What delivery does under faults, measured: ``python -m include.simulation.reliability`` prints docs/reliability.md's table.

Every fault of `delivery_faults` is played against a real PostgreSQL, Slack (simulated, over HTTP) and mail server; the
numbers are counted from what arrived there. The exit code is 1 when one of them is not what it must be.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from include.simulation.delivery_faults import DeliveryFault
    from include.simulation.delivery_world import Tally
    from include.simulation.postgres import EmbeddedPostgres

HEAD = "| fault | sent | lost | doubled | what the reader sees |\n|---|---|---|---|---|"


DATABASE = "reliability"


@contextmanager
def database_server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL with our schema in `DATABASE`, on one port over restarts; ``folder`` is open to its account."""
    from include.simulation.ports import free_port
    from include.simulation.postgres import EmbeddedPostgres
    from include.warehouse.migration import upgrade

    with EmbeddedPostgres(folder / "data", port=free_port(), settings={"fsync": "off"}) as server:
        upgrade(server.create_database(DATABASE))
        yield server


def measured(fault: DeliveryFault, *, database: EmbeddedPostgres) -> Tally:
    """
    Play one fault on a stage of its own, with an empty outbox, and return what became of what was due.

    Raises:
        RuntimeError: the servers did not come to play all of it: then nothing was measured.
    """
    from include.simulation.delivery_faults import Stage
    from include.simulation.delivery_world import DeliveryWorld, mail_connection
    from include.simulation.mail_server import MailServer
    from include.simulation.slack_server import SlackServer

    dsn = database.dsn(DATABASE)
    with psycopg.connect(dsn) as conn:
        conn.execute("TRUNCATE monitoring.delivery, monitoring.alert, monitoring.channel_state")
    with SlackServer() as slack, MailServer() as mail, mail_connection(mail):
        tally = fault.play(Stage(world=DeliveryWorld(monitoring_dsn=dsn, slack=slack, mail=mail), database=database))
        if fault.is_over and (left := slack.faults_left + mail.faults_left):
            raise RuntimeError(f"{fault.name}: {left} of its failures never happened")
    return tally


def row(fault: DeliveryFault, tally: Tally) -> str:
    """Return a fault's line of the table."""
    marked = f" ({tally.marked} marked)" if tally.doubled else ""
    return f"| {fault.name} | {tally.sent} | {tally.lost} | {tally.doubled}{marked} | {fault.sees} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 when a number is not what it must be."""
    parser = argparse.ArgumentParser(prog="python -m include.simulation.reliability", description=main.__doc__)
    parser.add_argument("--only", default="", help="play the faults whose name has this text in it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="monitor-reliability-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another account than ours
        os.environ["AIRFLOW_HOME"] = f"{folder}/airflow"  # before Airflow is imported: it reads and writes there
        from include.simulation.delivery_faults import FAULTS

        logging.disable(logging.ERROR)  # the faults are meant, and told of in the table
        wrong = []
        with database_server(Path(folder) / "postgres") as database:
            print(HEAD)
            for fault in FAULTS:
                if options.only in fault.name:
                    tally = measured(fault, database=database)
                    print(row(fault, tally), flush=True)
                    wrong += [] if tally == fault.expected else [f"{fault.name}: {tally}, not {fault.expected}"]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
