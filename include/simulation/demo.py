"""
``make demo``: everything on this machine, with a simulated Hub Plus that lives while one looks.

An embedded PostgreSQL with three databases, the simulated source, our schema, a Slack and a mail server with the inbox page
over both, and a real Airflow that runs this project's DAGs. What it keeps lies under ``.demo/`` (or ``--state``), and a
later start goes on from there. Nothing outlives it, however it ends.

While it runs, the commands of ``include.cli`` find its databases, Slack and mail in any shell that has read
``.demo/live/connections.sh``, such as for the trend of the four months that the simulated Hub Plus has behind it:

    . .demo/live/connections.sh
    .venv/bin/python -m include.cli quality --plot trend.png

``--once`` runs each check twice through the real scheduler on a fresh state, prints what was sent and ends: the second
runs must send nothing. ``--source DSN``, or ``DEMO_SOURCE`` in the environment, reads that database instead of the
simulated one, and only reads it.

Exit codes: 0 done or stopped on request; 1 the check ran and did not do what it should; 2 something could not be started.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg

from include.simulation.airflow_settings import ConnectionSetting, read_airflow_settings
from include.simulation.demo_calls import DemoCalls
from include.simulation.demo_messages import Sent, printable, sent_to
from include.simulation.demo_quality import compute_history
from include.simulation.demo_shell import write_connections
from include.simulation.demo_source import postgres_connection, require_dsn, require_reachable
from include.simulation.demo_state import BEGAN, SHELL, choose_state_dir, claim
from include.simulation.inbox import Inbox
from include.simulation.inbox_store import InboxStore
from include.simulation.local_airflow import PROJECT_ROOT, LocalAirflow, LocalAirflowError
from include.simulation.mail_server import MailServer
from include.simulation.ports import free_port
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.running_world import RunningWorld
from include.simulation.slack_server import SlackServer
from include.sync_health.errors import MonitorError
from include.warehouse.migration import upgrade

CHECK_DAGS = (
    "servicetitan_sync_failures",
    "servicetitan_credential_health",
    "servicetitan_data_quality",
    "servicetitan_api_metrics",
)
DATABASES = ("airflow", "hub_plus", "monitoring")
STEPS = 7
CHECK_EVERY_SECONDS = 60  # the DAG's own schedule is 15 minutes: too long for somebody who watches
SLOW_EVERY = 3  # of these rounds, the one in which the slower checks run too
MOMENT = timedelta(seconds=30)  # shorter than Airflow takes to start, and than until anything happens in the script
AIRFLOW_PORT, INBOX_PORT = 8080, 8025  # taken when free

ONCE_HELP = "on a fresh state, run every check twice, print what was sent, and end; the second time shows that nothing is sent again"
SOURCE_HELP = (
    "read this PostgreSQL database instead of the simulated one; in the environment, as DEMO_SOURCE,"
    " no list of processes shows it"
)


class DemoError(RuntimeError):
    """The demo's check ran and did not do what it should; one line."""


class Stopped(BaseException):
    """Somebody asked the demo to stop; not an Exception, so that no handler on the way swallows it."""


class Demo:
    """
    The whole stack over one state folder, which its caller has claimed; a context manager that stops everything in
    the reverse order.

    ``source`` is the DSN of a database to read instead of the simulated Hub Plus.
    """

    def __init__(self, state_dir: Path, *, source: str | None = None) -> None:
        self.state_dir = state_dir
        self.source = source
        self._stack = ExitStack()
        self._step = 0
        self.world: RunningWorld | None = None
        self.calls: DemoCalls | None = None
        self.token = secrets.token_urlsafe(24)
        self.slack: SlackServer
        self.mail: MailServer
        self.inbox: Inbox
        self.airflow: LocalAirflow

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def run_check(self, dag_id: str, *, as_of: datetime | None = None) -> None:
        """
        Run one of `CHECK_DAGS` once, as a run by hand whose window ends at ``as_of`` (aware; None: now).

        Raises:
            DemoError: the run failed; names the tasks that did.
        """
        run_id = self.airflow.trigger(dag_id, conf={"window_end": as_of.isoformat()} if as_of else None)
        if self.airflow.wait_for_run(dag_id, run_id, timeout=300) == "failed":
            failed = [task for task in self.airflow.task_instances(dag_id, run_id) if task["state"] == "failed"]
            reasons = [f"{task['task_id']}: {self._last_error(dag_id, run_id, task)}" for task in failed]
            raise DemoError("\n  ".join([f"{dag_id} {run_id} failed", *(reasons or ["no task says why"])]))

    @property
    def began(self) -> datetime | None:
        """When the history of the simulated Hub Plus ended; None of a source given."""
        if self.source is not None:
            return None
        return datetime.fromisoformat((self.state_dir / BEGAN).read_text(encoding="ascii"))

    def let_the_world_go_on(self) -> None:
        """From here on, syncs of the simulated Hub Plus start and end; with a source given, nothing."""
        if self.world is not None:
            self._stack.enter_context(self.world)

    def require_running(self) -> None:
        """Raise what ended Airflow or the simulated world, if anything did."""
        self.airflow.require_running()
        if self.world is not None:
            self.world.require_alive()

    def sent(self) -> list[Sent]:
        """Return what Slack and mail received so far, in the order of arrival."""
        return sent_to(self.slack, self.mail)

    def _last_error(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        log = self.airflow.task_log(
            dag_id, run_id, task["task_id"], try_number=task["try_number"], map_index=task["map_index"]
        )
        errors = [line for line in log.splitlines() if line.startswith(("error:", "critical:"))]
        return errors[-1][:400] if errors else "its log names no error"

    def _start(self) -> None:
        self.tell("starting PostgreSQL")
        postgres = self._stack.enter_context(EmbeddedPostgres(self.state_dir / "postgres"))
        _create_missing(postgres)

        if self.source is None:
            self.tell("simulating Hub Plus")
            self.world = RunningWorld(
                postgres,
                dbname="hub_plus",
                since_file=self.state_dir / BEGAN,
                tell=lambda line: print(printable(line), flush=True),
            )
            self.world.prepare()
        else:
            self.tell("reading the source given")
            require_reachable(self.source)

        self.tell("migrating the schema monitoring")
        upgrade(postgres.dsn("monitoring"))

        self.tell("computing the daily quality of its months of history")
        if began := self.began:
            compute_history(
                postgres.dsn("hub_plus"),
                postgres.dsn("monitoring"),
                since=began,
                now=datetime.now(UTC),
                tell=_tell_detail,
            )
        else:
            _tell_detail("left out: of your own database, quality --from does it")

        if self.began is not None and "SERVICETITAN_MONITOR_CONFIG" not in os.environ:
            self.calls = DemoCalls(self.state_dir, since=datetime.now(UTC))

        self.tell("starting the inbox: a Slack and a mail server")
        self._start_inbox()

        self.tell("starting Airflow (half a minute or so)")
        settings = read_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
        connections = self._connections(settings.connections, postgres)
        self._stack.callback((self.state_dir / SHELL).unlink, missing_ok=True)
        # What somebody gave to connect with stays where they keep it.
        write_connections(
            self.state_dir / SHELL,
            [each for each in connections if self.source is None or each.conn_id != "hub_plus_db"],
            variables=self._policy_variable(),
        )
        self.airflow = LocalAirflow(
            self.state_dir / "airflow",
            metadata_dsn=postgres.dsn("airflow"),
            connections=connections,
            pools=settings.pools,
            environment={
                **{f"AIRFLOW_VAR_{name.upper()}": value for name, value in settings.variables.items()},
                **self._policy_variable(),
                "SERVICETITAN_MONITOR_TOKEN": self.token,
            },
            preferred_port=AIRFLOW_PORT,
            progress=_tell_detail,
        )
        self._stack.enter_context(self.airflow)
        for dag_id in CHECK_DAGS:
            self.airflow.wait_for_dag(dag_id)
        if errors := self.airflow.import_errors():
            name, trace = next(iter(errors.items()))
            raise DemoError(f"{name} cannot be imported: {trace.strip().splitlines()[-1]}")

    def _policy_variable(self) -> dict[str, str]:
        """Return the variable that names the demo's policy; nothing where somebody has named one."""
        return {} if self.calls is None else {"SERVICETITAN_MONITOR_CONFIG": str(self.calls.policy.resolve())}

    def _start_inbox(self) -> None:
        store = InboxStore(self.state_dir / "inbox.jsonl")
        self._stack.callback(store.close)
        self.slack = SlackServer(on_change=store.keep_slack)
        self.mail = MailServer(on_mail=store.keep_mail)
        self.slack.workspace.restore(store.slack)
        self.mail.restore(store.mails)
        self._stack.enter_context(self.slack)
        self._stack.enter_context(self.mail)
        self.inbox = self._stack.enter_context(Inbox(self.slack, self.mail, free_port(INBOX_PORT)))

    def _connections(
        self, shipped: Mapping[str, ConnectionSetting], postgres: EmbeddedPostgres
    ) -> list[ConnectionSetting]:
        """Point the project's own connections at this machine; what the file says beside that stays in force."""
        slack, mail = shipped["slack_alerts"], shipped["alert_email"]
        return [
            postgres_connection(shipped["hub_plus_db"], self.source or postgres.dsn("hub_plus")),
            postgres_connection(shipped["monitoring_db"], postgres.dsn("monitoring")),
            dataclasses.replace(
                slack, password=self.slack.token, extra={**slack.extra, "base_url": self.slack.base_url}
            ),
            dataclasses.replace(
                mail,
                host=self.mail.host,
                port=self.mail.port,
                extra={**mail.extra, "disable_ssl": True, "disable_tls": True},
            ),
        ]

    def tell(self, text: str) -> None:
        """Print the next step."""
        self._step += 1
        print(f"[{self._step}/{STEPS}] {text}", flush=True)


def _create_missing(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn()) as connection:
        present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for name in DATABASES:
        if name not in present:
            postgres.create_database(name)


def _tell_detail(line: str) -> None:
    print(f"      {line}", flush=True)


def run_once(demo: Demo) -> None:
    """
    Run every check twice and print what was sent the first time.

    The simulated world stands still at the end of its history, and is judged as of then and a moment later: however long
    the start took, no time of the script goes by in between.

    Raises:
        DemoError: a run failed, the simulated failures were told to nobody, or the second runs sent something.
    """
    demo.tell("running every check twice")
    began = demo.began
    for dag_id in CHECK_DAGS:
        demo.run_check(dag_id, as_of=began)
    sent = demo.sent()
    for message in sent:
        print(message, flush=True)
    if demo.source is None and {message.kind for message in sent} != {"Slack", "mail"}:
        raise DemoError(f"the simulated failures were not told to both Slack and mail: {len(sent)} messages arrived")
    for dag_id in CHECK_DAGS:
        demo.run_check(dag_id, as_of=began and began + MOMENT)
    if more := demo.sent()[len(sent) :]:
        raise DemoError(f"the second runs sent {len(more)} more, first {more[0]}")
    print(f"{len(sent)} messages sent; the second runs sent nothing.", flush=True)


def run_until_stopped(demo: Demo, *, every: float) -> None:
    """Say where to look, then check every ``every`` seconds and print what is sent, until the demo is stopped."""
    demo.tell("running; Ctrl-C stops everything, and the next start goes on from here (ARGS=--fresh starts anew)")
    passwords = demo.airflow.passwords
    print(
        f"\n  Airflow  {demo.airflow.url}\n           admin / {passwords['admin']}"
        f"\n           viewer / {passwords['viewer']} (may only look)"
        f"\n  Health   {demo.airflow.url}/servicetitan-monitor/health   with a login, or with the token"
        f"\n  Metrics  curl -H 'Authorization: Bearer {demo.token}' {demo.airflow.url}/servicetitan-monitor/metrics"
        f"\n  Inbox    {demo.inbox.url}   what Slack and mail received"
        f"\n  Shell    . {demo.state_dir / SHELL}"
        f"\n           .venv/bin/python -m include.cli quality --plot trend.png   the quality of its months of history\n",
        flush=True,
    )
    demo.let_the_world_go_on()
    seen = len(demo.sent())
    for number in itertools.count():
        started = time.monotonic()
        if demo.calls is not None:
            demo.calls.go_on(datetime.now(UTC))
        for dag_id in CHECK_DAGS if number % SLOW_EVERY == 0 else CHECK_DAGS[:1]:
            try:
                demo.run_check(dag_id)
            except DemoError as error:  # told, and tried again: the next run may find the source back
                print(f"{datetime.now(UTC):%H:%M:%S} check failed: {error}", file=sys.stderr, flush=True)
        while time.monotonic() - started < every:
            demo.require_running()
            messages = demo.sent()
            for message in messages[seen:]:
                print(message, flush=True)
            seen = len(messages)
            time.sleep(1)


def stop_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Stopped`; further ones do nothing."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # the stop itself must not be cut short; it is bounded in time
        print("stopping", flush=True)
        raise Stopped

    for number in numbers:
        signal.signal(number, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments and run the demo."""
    parser = argparse.ArgumentParser(prog="make demo", description="Run everything on this machine.")
    parser.add_argument("--once", action="store_true", help=ONCE_HELP)
    parser.add_argument("--fresh", action="store_true", help="forget what earlier starts have kept")
    parser.add_argument("--source", metavar="DSN", help=SOURCE_HELP)
    parser.add_argument("--state", type=Path, metavar="DIR", help="where to keep everything (default: under .demo)")
    parser.add_argument("--every", type=float, default=CHECK_EVERY_SECONDS, metavar="SECONDS", help="between checks")
    options = parser.parse_args(argv)
    source = options.source or os.environ.get("DEMO_SOURCE") or None

    stop_on_signals()
    try:
        if source is not None:
            require_dsn(source)
        state_dir = options.state or choose_state_dir(once=options.once)
        with claim(state_dir, fresh=options.once or options.fresh), Demo(state_dir, source=source) as demo:
            if options.once:
                run_once(demo)
            else:
                run_until_stopped(demo, every=options.every)
    except Stopped:
        print("stopped", flush=True)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (LocalAirflowError, MonitorError, httpx.HTTPError, psycopg.Error, OSError, ValueError) as error:
        print(f"demo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
