"""A whole monitor without Airflow: real source, real schema, real Slack and SMTP servers; only the clock is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from include.orchestration.check_tasks import RunFacts, due_addresses, evaluate
from include.orchestration.delivery import Drain, DrainResult, drain_channel
from include.orchestration.evaluation import Outcome, evaluate_check
from include.orchestration.evaluation_request import Evaluation
from include.orchestration.operators import EmailDrainOperator, SlackDrainOperator
from include.orchestration.policy_file import load_policy
from include.orchestration.settings import configured_kinds
from include.simulation.hub_plus import HubPlus, create_source
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.sync_health.checks import EVERYTHING, SYNC_FAILURES, Check
from include.sync_health.errors import SourceError
from include.sync_health.windows import RunMode, Window
from include.warehouse.migration import upgrade

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=15)
CHANNEL, ADDRESS = "#servicetitan-alerts", "ops@example.com"

NO_CATCH_UP = "alerting: {catch_up: 0m}\n"
"""For worlds that leap from one hour to another: the windows in between are none of theirs."""

OVERLAY = f"""
{NO_CATCH_UP}receivers:
  ops: {{slack: ["#servicetitan-alerts"], email: [ops@example.com]}}
rules:
  sync_failures: {{keep_firing_for: 0s}}
"""


def connection_of(dsn: str) -> str:
    """Return a PostgreSQL DSN as Airflow's JSON form of a connection."""
    parts = conninfo_to_dict(dsn)
    return json.dumps(
        {
            "conn_type": "postgres",
            "host": parts["host"],
            "port": int(str(parts["port"])),
            "login": parts["user"],
            "password": parts["password"],
            "schema": parts["dbname"],
        }
    )


def slack_connection(slack: SlackServer) -> str:
    """Return the Slack server as a connection."""
    return json.dumps({"conn_type": "slack", "password": slack.token, "extra": {"base_url": slack.base_url}})


def mail_connection(mail: MailServer) -> str:
    """Return the mail server as a connection."""
    extra = {"from_email": "monitor@example.com", "disable_ssl": True, "disable_tls": True, "timeout": 10}
    return json.dumps({"conn_type": "smtp", "host": mail.host, "port": mail.port, "extra": extra})


@dataclass
class MonitoredWorld:
    """One simulated Hub Plus with a healthy credential, and the monitor that watches it."""

    hub: HubPlus
    source_dsn: str
    monitoring_dsn: str
    slack: SlackServer
    mail: MailServer
    overlay: Path
    credential: int
    environment: pytest.MonkeyPatch
    waits: list[float] = field(default_factory=list)

    def tick(
        self,
        as_of: datetime,
        *,
        check: Check = SYNC_FAILURES,
        late: timedelta = timedelta(minutes=1),
        is_backfill: bool = False,
        last_try: bool = True,
        **params: Any,
    ) -> dict[str, Any]:
        """Evaluate the scheduled window that ends at ``as_of``, ``late`` after its end."""
        facts = RunFacts(
            params=params,
            interval=(as_of - check.every, as_of),
            run_after=as_of,
            is_backfill=is_backfill,
            last_try=last_try,
        )
        return evaluate(facts, check=check, now=as_of + late)

    def adopt_baseline(self, as_of: datetime, *, source: SourceError | None = None) -> Outcome:
        """Judge everything as what was broken before anybody watched; ``source``: why it cannot be connected to."""
        return evaluate_check(
            Evaluation(
                check=EVERYTHING,
                source_conninfo=source or self.source_dsn,
                monitoring_conninfo=self.monitoring_dsn,
                policy=load_policy(overlay=self.overlay).policy,
                window=Window(start=as_of - EVERYTHING.every, as_of=as_of),
                mode=RunMode.LIVE,
                configured=configured_kinds(),
                now=as_of,
                as_baseline=True,
            )
        )

    def drain(self, now: datetime, *, owner: str = "worker-1") -> list[DrainResult]:
        """Drain every channel that has something due, as the DAG's tasks do."""
        facts = RunFacts(params={}, interval=(None, None), run_after=now, is_backfill=False, last_try=True)
        slack, email = (due_addresses(kind, facts, mode="live", now=now) for kind in ("slack", "email"))
        senders = {
            **{f"slack:{name}": SlackDrainOperator(task_id="drain", channel=name).sender() for name in slack},
            **{f"email:{name}": EmailDrainOperator(task_id="drain", to=name).sender() for name in email},
        }
        return [
            drain_channel(
                Drain(
                    channel=channel,
                    monitoring_conninfo=self.monitoring_dsn,
                    owner=owner,
                    send=send,
                    clock=lambda: now + timedelta(seconds=sum(self.waits)),
                    sleep=self.waits.append,
                )
            )
            for channel, send in senders.items()
        ]

    def tick_and_drain(self, as_of: datetime, **options: Any) -> dict[str, Any]:
        """One run of the DAG."""
        outcome = self.tick(as_of, **options)
        if outcome["mode"] == "live":
            self.drain(as_of + timedelta(minutes=1))
        return outcome

    def fail_three_times(self, credential: int, *, before: datetime, error: str = "HTTP 401 invalid_client") -> None:
        """Add three failed runs that ended within ten minutes before an instant."""
        for minutes in (9, 6, 3):
            end = before - timedelta(minutes=minutes)
            self.hub.add_run(
                credential,
                status="failed",
                started_at=end - timedelta(minutes=1),
                completed_at=end,
                error_message=error,
            )

    def succeed(self, credential: int, *, at: datetime) -> None:
        """Add one completed run."""
        self.hub.add_run(credential, started_at=at - timedelta(minutes=1), completed_at=at, records=(10, 10, 0))

    def as_role(self, user: str, password: str) -> None:
        """Let the monitor read the source as another role from now on."""
        parts = conninfo_to_dict(self.source_dsn) | {"user": user, "password": password}
        self.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(make_conninfo(**parts)))

    def slack_texts(self) -> list[str]:
        """The top-level texts that Slack accepted, oldest first."""
        return [message.text for message in self.slack.messages]

    def subjects(self) -> list[str]:
        """The subjects of the mails that arrived, oldest first."""
        return [str(message["Subject"]) for message in self.mail.messages]

    def rows(self, query: str, *values: Any) -> list[Mapping[str, Any]]:
        """Return rows of the monitoring database."""
        with psycopg.connect(self.monitoring_dsn, row_factory=dict_row) as conn:
            return list(conn.execute(query, values))


@contextmanager
def monitored_world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, shape: str = "migrations"
) -> Iterator[MonitoredWorld]:
    """Set everything up, with the connections in the environment as a shell has them."""
    source_dsn, monitoring_dsn = make_database("hub_plus"), make_database("monitoring")
    create_source(source_dsn, shape=shape)
    upgrade(monitoring_dsn)
    overlay = tmp_path / "monitor.yaml"
    overlay.write_text(OVERLAY)
    with SlackServer() as slack, MailServer() as mail, HubPlus(source_dsn, shape=shape) as hub:
        monkeypatch.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(source_dsn))
        monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", connection_of(monitoring_dsn))
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", slack_connection(slack))
        monkeypatch.setenv("AIRFLOW_CONN_ALERT_EMAIL", mail_connection(mail))
        monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))
        credential = int(hub.add_credential(hub.add_company("Acme Heating")))
        world = MonitoredWorld(
            hub=hub,
            source_dsn=source_dsn,
            monitoring_dsn=monitoring_dsn,
            slack=slack,
            mail=mail,
            overlay=overlay,
            credential=credential,
            environment=monkeypatch,
        )
        world.succeed(credential, at=NOON - timedelta(hours=3))
        yield world
