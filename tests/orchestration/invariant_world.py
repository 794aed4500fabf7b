"""
The monitored world of the invariants: set up once, emptied between examples, and told what its readers were told.

All parts are real but the clock: both databases, Slack, the mail server, the evaluation and the drain.
"""

from __future__ import annotations

import pkgutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.simulation.slack_rules import read_content
from include.sync_health.alerts import Acknowledgement, Alert, NotifyReason
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.warehouse import acknowledgements, silences
from include.warehouse.alert_store import alert_of
from include.warehouse.migration import VERSION_TABLE
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import NOON, MonitoredWorld, connection_of
from tests.sync_health.channel_beliefs import Beliefs, Line

SECRETS = ("letmein-7", "Zx81kkP0aa", "xoxb-123456789012-abcdefABCDEF123456")
CAUSES = (
    f"HTTP 401 invalid_client: client_secret={SECRETS[0]}",
    f"HTTP 503 Service Unavailable <!channel> Authorization: Bearer {SECRETS[1]}",
    f"HTTP 429 Too Many Requests {{{{ 7*7 }}}} <!here|here> token {SECRETS[2]}",
)
"""Why syncs fail: three classes of error, each with a secret, two with a call to everybody."""

COMPANIES = ("Acme Heating <!everyone>", "Best & Söhne", "Cool Air")

NOWHERE = "postgres://nobody:wrong@127.0.0.1:1/gone"

AFTER_A_TICK = timedelta(minutes=2)
"""When the drain of a tick begins, after the window's end; the evaluation is a minute earlier."""


class WorkerDied(BaseException):
    """What no code of ours may catch."""


@dataclass
class InvariantWorld:
    """
    One `MonitoredWorld` for all examples; see `empty`.

    Args:
        world: as `monitored_world` makes it.
    """

    world: MonitoredWorld
    beliefs: Beliefs = field(default_factory=Beliefs)
    credentials: list[int] = field(default_factory=list)
    healthy: int = 0
    heard: set[int] = field(default_factory=set)
    drains: int = 0
    policy: dict[str, str] = field(default_factory=dict)

    # -- between examples --------------------------------------------------------------------------------------------

    def empty(self) -> None:
        """Forget everything: rows, messages, faults and policy; then add the customers, and one that is always well."""
        with psycopg.connect(self.world.monitoring_dsn, autocommit=True) as conn:
            tables = [
                f"monitoring.{name}"
                for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'monitoring'")
                if name != VERSION_TABLE
            ]
            conn.execute("TRUNCATE " + ", ".join(tables) + " CASCADE")  # names of the catalog
        shape = self.world.hub.shape
        with psycopg.connect(self.world.source_dsn, autocommit=True) as conn:
            tables = [shape.log_table, "servicetitan_credentials", shape.company_table]
            conn.execute("TRUNCATE " + ", ".join(tables) + " RESTART IDENTITY CASCADE")
        self.mend()
        self.world.slack.workspace.clear()
        self.world.mail.clear()
        self.beliefs, self.heard = Beliefs(), set()
        hub = self.world.hub
        self.credentials = []
        self.welcome()
        self.healthy = int(hub.add_credential(hub.add_company("Always Well"), environment="integration"))
        for credential in (*self.credentials, self.healthy):
            self.world.succeed(credential, at=NOON - timedelta(hours=1))
        self.see()
        self.policy = {"mode": "live", "budget": "10", "inhibition": "true", "above": "20", "catch_up": "24h"}
        self.write_policy()

    def welcome(self) -> None:
        """Add customers until there are as many as in the beginning."""
        hub = self.world.hub
        for name in COMPANIES[len(self.credentials) :]:
            self.credentials.append(int(hub.add_credential(hub.add_company(name))))

    def write_policy(self, **changes: str) -> None:
        """Edit the policy file."""
        self.policy |= changes
        self.world.overlay.write_text(
            'receivers:\n  ops: {slack: ["#servicetitan-alerts"], email: [ops@example.com]}\n'
            f"rules:\n  sync_failures: {{keep_firing_for: 0m, mode: {self.policy['mode']}}}\n"
            f"alerting: {{budget: {self.policy['budget']}, catch_up: {self.policy['catch_up']}}}\n"
            f"inhibition: {self.policy['inhibition']}\n"
            f"summary_above: {self.policy['above']}\n"
        )

    def mend(self) -> None:
        """Let no call to Slack and no mail go wrong any more."""
        slack, mail = self.world.slack, self.world.mail
        for method in ("chat.postMessage", "chat.update"):
            while slack.take_fault(method):
                pass
        while mail.take_fault(
            "refuse_connection", "greylist", "refuse_recipient", "refuse_content", "drop_in_data", "accept_then_drop"
        ):
            pass

    # -- what happens ------------------------------------------------------------------------------------------------

    def see(self, *, blind: bool = False) -> None:
        """Let the source be reachable, or not."""
        conn = NOWHERE if blind else connection_of(self.world.source_dsn)
        self.world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", conn)

    def happen(self, credential: int, what: str, *, before: datetime) -> None:
        """Let a credential ``fail`` (with one of `CAUSES`), ``succeed``, lose its rows or be deleted."""
        if credential not in self.credentials:
            return
        if what == "deleted":
            self.lose_rows(credential)
            self.world.hub.delete_credential(credential)
            self.credentials.remove(credential)
        elif what == "lost rows":
            self.lose_rows(credential)
        elif what == "succeeds":
            self.world.succeed(credential, at=before - timedelta(minutes=1))
        else:
            self.world.fail_three_times(credential, before=before, error=what)

    def lose_rows(self, credential: int) -> None:
        """Delete a credential's runs."""
        for status in ("completed", "failed"):
            for run in self.world.hub.runs_of(credential, status=status):
                self.world.hub.delete_run(run)

    def live(self, as_of: datetime) -> None:
        """The healthy one goes on."""
        self.world.succeed(self.healthy, at=as_of - timedelta(minutes=2))

    def drain(self, now: datetime, *, workers: int = 1) -> None:
        """Drain what is due, by one worker or two at once; then hear what was told."""
        self.world.waits.clear()
        self.drains += 1
        owners = [f"worker-{self.drains}-{number}" for number in range(workers)]
        if workers == 1:
            self.world.drain(now, owner=owners[0])
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda owner: self.world.drain(now, owner=owner), owners))
        self.hear()

    def hear(self) -> None:
        """Take in what the channels accepted since, as it was rendered."""
        rows = self.world.rows(
            "SELECT id, channel, reason, members, rendered FROM monitoring.delivery"
            " WHERE status = 'sent' AND reason <> 'updated' ORDER BY sent_at, id"
        )
        alerts = self.alerts()
        for row in rows:
            if row["id"] in self.heard:
                continue
            self.heard.add(row["id"])
            episodes = {each["fingerprint"]: each["episode_id"] for each in row["members"]}
            lines = [
                Line(
                    fingerprint=each["fingerprint"],
                    is_open=not each["is_over"],
                    severity=alerts[each["fingerprint"]].severity,
                    is_another_episode=episodes.get(each["fingerprint"]) != each["episode_id"],
                )
                for each in row["rendered"] or ()
            ]
            self.beliefs.hear(row["channel"], NotifyReason(row["reason"]), lines)

    def silence(self, match: Matcher, *, number: int, at: datetime, lasts: timedelta) -> None:
        """Ask for silence."""
        asked = Silence(
            id=uuid.UUID(int=number),
            match=match,
            starts_at=at,
            ends_at=at + lasts,
            author="Kim",
            reason="a migration",
            created_at=at,
        )
        with connect(self.world.monitoring_dsn) as conn:
            silences.add_silence(conn, asked)

    def end_silences(self, at: datetime) -> None:
        """End all that hold."""
        with connect(self.world.monitoring_dsn) as conn:
            for each in silences.silences_at(conn, at):
                silences.end_silence(conn, str(each.id), by="Kim", now=at)

    def acknowledge(self, number: int, *, at: datetime) -> None:
        """Take an open alert in hand, if there is one."""
        found = sorted(fingerprint for fingerprint, alert in self.alerts().items() if alert.state.is_open)
        if found:
            held = Acknowledgement(by="Kim", at=at, reason="on it")
            with connect(self.world.monitoring_dsn) as conn:
                acknowledgements.acknowledge(conn, found[number % len(found)], held, now=at)

    # -- what is there -----------------------------------------------------------------------------------------------

    def alerts(self) -> dict[str, Alert]:
        """All alerts, as they are."""
        with psycopg.connect(self.world.monitoring_dsn, row_factory=psycopg.rows.dict_row) as conn:
            rows = conn.execute("SELECT * FROM monitoring.alert ORDER BY fingerprint").fetchall()
        return {row["fingerprint"]: alert_of({k: v for k, v in row.items() if k not in NOT_FIELDS}) for row in rows}

    def keys(self) -> list[str]:
        """The outbox's keys."""
        return [row["key"] for row in self.world.rows("SELECT key FROM monitoring.delivery ORDER BY key")]

    def unfinished(self) -> list[Mapping[str, Any]]:
        """What has yet to be sent, or was given up."""
        return self.world.rows(
            "SELECT channel, reason, status, last_error FROM monitoring.delivery"
            " WHERE status IN ('pending', 'leased', 'dead')"
        )

    def what_is_wrong_with_the_payloads(self) -> list[str]:
        """I7: what Slack and the mail server accepted, with its earlier versions: limits, secrets, calls to everybody."""
        found: list[str] = []
        secrets = (*SECRETS, *self.world.hub.secrets)
        for message in self.world.slack.messages:
            if not message.blocks:
                found.append(f"Slack took no blocks of: {message.text[:60]}")
            read_content({"text": message.text, "blocks": [dict(block) for block in message.blocks]})
            versions = [(each.text, each.blocks) for each in message.edits]
            for text, blocks in [*versions, (message.text, message.blocks)]:
                said = f"{text} {blocks}"
                found += [f"Slack saw a secret: {secret}" for secret in secrets if secret in said]
                if "<!" in said.replace("<!date^", ""):
                    found.append(f"Slack was to call everybody: {text[:60]}")
        for mail in self.world.mail.mails:
            parts = [str(part.get_content()) for part in mail.message.walk() if not part.is_multipart()]
            said = " ".join([str(mail.message["Subject"]), *parts])
            found += [f"a mail holds a secret: {secret}" for secret in secrets if secret in said]
            if max(map(len, mail.raw.splitlines()), default=0) > LONGEST_MAIL_LINE:
                found.append(f"a mail's line is too long: {mail.message['Subject']}")
        return found

    def doubled(self) -> list[str]:
        """Posts of one delivery beyond those that a lost answer explains, and posts of none."""
        known = {
            row["key"]: row["possible_repeat"]
            for row in self.world.rows("SELECT key, possible_repeat FROM monitoring.delivery")
        }
        posts: dict[str, int] = {}
        for message in self.world.slack.messages:
            key = str(((message.metadata or {}).get("event_payload") or {}).get("delivery_key"))
            posts[key] = posts.get(key, 0) + 1
        return [key for key, count in posts.items() if key not in known or (count > 1 and not known[key])]


TICK_STEPS = (
    "include.warehouse.alert_store.load_alerts",
    "include.orchestration.sights.recall",
    "include.orchestration.sights.read_for",
    "include.warehouse.source_reader.SourceReader.read_runs",
    "include.warehouse.alert_store.lock_alerts",
    "include.orchestration.evaluation.judge_tick",
    "include.orchestration.evaluation.step",
    "include.orchestration.evaluation.decide",
    "include.warehouse.alert_store.save_step",
    "include.warehouse.check_runs.record_check_run",
    "include.orchestration.evaluation._outcome",
)
"""What an evaluation goes through, in order; the last one runs after the commit."""

DRAIN_STEPS = (
    "include.warehouse.outbox.lease_next",
    "include.orchestration.delivery.message_for",
    "include.orchestration.delivery.send_safely",
    "include.warehouse.outbox.mark_sent",
    "include.warehouse.channel_states.note_sent",
)
"""What a drain goes through with each message, in order."""

NOT_FIELDS = frozenset({"is_followed", "updated_at"})
LONGEST_MAIL_LINE = 998
"""RFC 5322, section 2.1.1."""


@contextmanager
def dying(place: str | None, *, when: str) -> Iterator[None]:
    """Let the worker die just before or just after it does something for the first time, if it does; None: it lives."""
    if place is None:
        yield
        return
    original = pkgutil.resolve_name(place)

    def dies(*args: object, **options: object) -> None:
        if when == "after":
            original(*args, **options)
        raise WorkerDied

    with pytest.MonkeyPatch.context() as patch, suppress(WorkerDied):
        patch.setattr(place, dies)
        yield
