"""
An outbox with alerts in it, and a real Slack and mail server to send them to: the stage on which delivery is made to fail.

Only the clock is ours: it stands still but for `DeliveryWorld.sleep` and `DeliveryWorld.ticks`. The alerts are made, not
found: how many there are, and what each channel is told, is known without a look at the source.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from include.orchestration.delivery import Drain, DrainResult, Send
from include.orchestration.operators import drain_with_fallback, sender_to
from include.simulation.delivery_worker import SLACK, SLACK_TIMEOUT_SECONDS, slack_sender
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import SlackMessage
from include.sync_health.alerts import Alert, AlertState, CloseReason, Delivery, NotifyReason, Told
from include.sync_health.observations import episode_of, fingerprint_of
from include.sync_health.routing import kind_of
from include.sync_health.speeches import member_of
from include.sync_health.threads import new_thread
from include.sync_health.verdicts import Severity
from include.warehouse.alert_store import lock_alerts, save_step
from include.warehouse.monitoring_session import connect

MAIL = "email:ops@example.com"
START = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=15)

ALERTS = 5

MAIL_VARIABLE = "AIRFLOW_CONN_ALERT_EMAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    What became of what was due.

    Args:
        sent: arrived at least once.
        lost: never arrived.
        doubled: arrivals beyond the first of each.
        marked: arrivals that say that they may be a repeat.
    """

    sent: int
    lost: int = 0
    doubled: int = 0
    marked: int = 0


@dataclass
class DeliveryWorld:
    """
    The stage; see the module.

    Args:
        monitoring_dsn: a database with our schema, and nothing in it.
        slack, mail: running.
        slack_timeout: seconds that our client waits for Slack.
    """

    monitoring_dsn: str
    slack: SlackServer
    mail: MailServer
    slack_timeout: int = SLACK_TIMEOUT_SECONDS
    now: datetime = START
    alerts: list[Alert] = field(default_factory=list)
    on_sleep: Callable[[], None] | None = None
    on_sent: Callable[[], None] | None = None

    def clock(self) -> datetime:
        """Return the time on the stage."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += timedelta(seconds=seconds)
        if self.on_sleep is not None:
            self.on_sleep()

    def announce(self, channel: str = SLACK, *, alerts: int = ALERTS) -> None:
        """Open alerts, each with a first message to the channel that begins a conversation."""
        self.alerts = [alert_of(number, at=self.now) for number in range(1, alerts + 1)]
        self.owe(NotifyReason.FIRST, *self.alerts, channel=channel)

    def recover(self, channel: str = SLACK) -> None:
        """Close the alerts a tick later; their first messages, not new ones, are to say so."""
        self.now += TICK
        self.alerts = [closed(each, at=self.now) for each in self.alerts]
        self.owe(NotifyReason.UPDATED, *self.alerts, channel=channel)

    def owe(self, reason: NotifyReason, *alerts: Alert, channel: str = SLACK, thread: str | None = None) -> None:
        """
        Store alerts as they are now, and put one delivery about each into the outbox.

        Args:
            reason: of the deliveries.
            alerts: open, or closed.
            channel: where to.
            thread: the conversation; of each alert and episode its own where it is None.
        """
        told, deliveries = [], []
        for alert in alerts:
            into = thread or new_thread(channel, group=alert.fingerprint, as_of=alert.opened_at or self.now)
            deliveries.append(
                Delivery(
                    key=f"{channel}|{reason}|{self.now.timestamp():.6f}|{alert.episode_id}",
                    channel=channel,
                    reason=reason,
                    members=(member_of(alert),),
                    as_of=self.now,
                    severity=alert.severity,
                    thread=into,
                )
            )
            heard = Told(reason=reason, at=self.now, severity=alert.severity, thread=into)
            told.append(replace(alert, told={**alert.told, channel: heard}))
        with connect(self.monitoring_dsn) as conn:
            lock_alerts(conn)
            save_step(conn, alerts=told, events=[], deliveries=deliveries, now=self.now)

    def drain(
        self, channel: str = SLACK, *, fallback: str | None = None, owner: str = "worker-1"
    ) -> Mapping[str, DrainResult]:
        """Drain one channel once, as its task does."""
        return drain_with_fallback(
            Drain(
                channel=channel,
                monitoring_conninfo=self.monitoring_dsn,
                owner=owner,
                send=self.sender(channel),
                clock=self.clock,
                sleep=self.sleep,
                fallback=fallback,
            ),
            sender=self.sender,
        )

    def ticks(self, number: int = 3, *, channel: str = SLACK, fallback: str | None = None) -> None:
        """Let so many ticks pass, and drain the channel in each."""
        for _ in range(number):
            self.now += TICK
            self.drain(channel, fallback=fallback, owner=f"worker of {self.now:%H:%M}")

    def sender(self, channel: str) -> Send:
        """Return how messages go to a channel."""
        send = (
            slack_sender(self.slack.base_url, token=self.slack.token, timeout=self.slack_timeout)
            if kind_of(channel) == "slack"
            else sender_to(channel)
        )

        def sending(*arguments: object, **options: object) -> Mapping[str, object]:
            receipt = send(*arguments, **options)  # type: ignore[arg-type]
            if self.on_sent is not None:
                self.on_sent()
            return receipt

        return sending

    def messages_told(self) -> Tally:
        """Return what became of the first messages, wherever they arrived."""
        posts = ((_key_of(post), post.text + str(post.blocks)) for post in self.slack.messages)
        mails = ((str(mail["X-ServiceTitan-Delivery"]), str(mail.get_body(("plain",)))) for mail in self.mail.messages)
        return self._tally((key.removesuffix("|fallback").rpartition("|")[2], text) for key, text in (*posts, *mails))

    def recoveries_shown(self) -> Tally:
        """Return for how many alerts the channel shows that they recovered, edited or posted anew."""
        by_company = {str(each.company_name): str(each.episode_id) for each in self.alerts}
        return self._tally(
            (episode, post.text)
            for post in self.slack.messages
            for company, episode in by_company.items()
            if company in post.text and "Recovered" in post.text
        )

    def _tally(self, arrived: Iterator[tuple[str, str]]) -> Tally:
        told = list(arrived)
        times = Counter(episode for episode, _ in told)
        due = {str(alert.episode_id) for alert in self.alerts}
        return Tally(
            sent=len(due & set(times)),
            lost=len(due - set(times)),
            doubled=sum(times.values()) - len(times),
            marked=sum("may be a repeat" in text for _, text in told),
        )


def _key_of(post: SlackMessage) -> str:
    return str(((post.metadata or {}).get("event_payload") or {}).get("delivery_key", ""))


@contextmanager
def mail_connection(mail: MailServer) -> Iterator[None]:
    """Let the mail operator find this server, as a shell's environment would."""
    extra = {"from_email": "monitor@example.com", "disable_ssl": True, "disable_tls": True, "timeout": 10}
    before = os.environ.get(MAIL_VARIABLE)
    os.environ[MAIL_VARIABLE] = json.dumps({"conn_type": "smtp", "host": mail.host, "port": mail.port, "extra": extra})
    try:
        yield
    finally:
        os.environ.pop(MAIL_VARIABLE, None)
        if before is not None:
            os.environ[MAIL_VARIABLE] = before


def alert_of(number: int, *, at: datetime) -> Alert:
    """Return an alert of the company with this number that has opened at an instant; aware."""
    identity = {"credential": str(number)}
    fingerprint = fingerprint_of("sync_failures", identity)
    company = f"Company {number:02d}"
    return Alert(
        fingerprint=fingerprint,
        rule="sync_failures",
        identity=identity,
        state=AlertState.FIRING,
        severity=Severity.HIGH,
        peak_severity=Severity.HIGH,
        state_since=at,
        last_as_of=at,
        last_breach_at=at,
        episode_id=episode_of(fingerprint, at),
        opened_at=at,
        title="Multiple ServiceTitan Sync Failures",
        message=f"ServiceTitan integration for {company} (production) has failed 3 times in the last hour",
        reason="3 failed runs in 1 hour",
        credential_id=str(number),
        company_name=company,
        environment="production",
    )


def closed(alert: Alert, *, at: datetime) -> Alert:
    """Return an alert as it is when it has recovered at an instant; aware."""
    return replace(
        alert,
        state=AlertState.INACTIVE,
        state_since=at,
        last_as_of=at,
        closed_at=at,
        close_reason=CloseReason.RECOVERED,
    )
