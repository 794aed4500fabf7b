"""
The operators that drain the outbox: the providers' own, one task per channel.

They take nothing but the channel from the DAG: texts never pass through XCom or templates. A channel that refuses us for
good hands what waits to its fallback, and the same task drains that at once; it fails all the same, since a person is
needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.slack.hooks.slack import SlackHook
from airflow.providers.slack.operators.slack import SlackAPIPostOperator
from airflow.providers.smtp.operators.smtp import EmailOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from include.orchestration.slack_sender import (
    SLACK_TIMEOUT_SECONDS,
    quiet_logger,
    refusing_without,
    send_by_bot,
    send_by_webhook,
)
from include.sync_health.routing import address_of, kind_of

if TYPE_CHECKING:
    from include.orchestration.delivery import Drain, DrainResult, Send
    from include.sync_health.alerting_policies import AlertingPolicy


class SlackDrainOperator(SlackAPIPostOperator):
    """
    Sends what is due to one Slack channel.

    Uses the bot token of ``slack_conn_id``; where that connection is missing, the incoming webhook of
    ``webhook_conn_id``, whose messages can be neither edited nor threaded.

    Args:
        channel: ``#name`` or a channel id.

    Returns:
        Counts: sent, waiting, dead, handed_over.
    """

    template_fields: Sequence[str] = ()  # nothing here is a template: a channel is what the policy says
    ui_color = "#ecb22e"

    def __init__(
        self,
        *,
        channel: str,
        slack_conn_id: str = "slack_alerts",
        webhook_conn_id: str = "slack_alerts_webhook",
        **kwargs: Any,
    ) -> None:
        # No retry handlers: slack_sdk would post again after an answer that never came.
        super().__init__(
            channel=channel, slack_conn_id=slack_conn_id, retry_handlers=[], timeout=SLACK_TIMEOUT_SECONDS, **kwargs
        )
        self.webhook_conn_id = webhook_conn_id

    @cached_property
    def hook(self) -> SlackHook:
        """The provider's hook, with a client that keeps its requests out of the log."""
        return SlackHook(
            slack_conn_id=self.slack_conn_id,
            base_url=self.base_url,
            timeout=self.timeout,
            proxy=self.proxy,
            retry_handlers=self.retry_handlers,
            logger=quiet_logger(),
        )

    def execute(self, context: Any) -> dict[str, int]:
        """Drain the channel."""
        return drain_from_task(f"slack:{self.channel}", send=self.sender(), context=context)

    def sender(self) -> Callable[..., Mapping[str, Any]]:
        """Return how messages go to this channel; without a token, each is refused: that is what fallbacks are for."""
        from include.orchestration.settings import is_configured

        by_webhook = not is_configured(self.slack_conn_id) and is_configured(self.webhook_conn_id)
        try:
            return self._by_webhook() if by_webhook else send_by_bot(self.hook.client, channel=self.channel)
        except AirflowNotFoundException:
            return refusing_without(self.webhook_conn_id if by_webhook else self.slack_conn_id)

    def _by_webhook(self) -> Callable[..., Mapping[str, Any]]:
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

        hook = SlackWebhookHook(
            slack_webhook_conn_id=self.webhook_conn_id,
            retry_handlers=[],
            timeout=SLACK_TIMEOUT_SECONDS,
            logger=quiet_logger(),
        )
        return send_by_webhook(hook.client)


class EmailDrainOperator(EmailOperator):
    """
    Sends what is due to one mail address.

    Args:
        to: one address.

    Returns:
        Counts: sent, waiting, dead, handed_over.
    """

    template_fields: Sequence[str] = ()  # see SlackDrainOperator
    ui_color = "#36c5f0"

    def __init__(self, *, to: str, conn_id: str = "alert_email", **kwargs: Any) -> None:
        super().__init__(to=to, conn_id=conn_id, **kwargs)

    def execute(self, context: Any) -> dict[str, int]:
        """Drain the address."""
        return drain_from_task(f"email:{self.to}", send=self.sender(), context=context)

    def sender(self) -> Callable[..., Mapping[str, Any]]:
        """Return how mail goes to this address."""
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        from include.orchestration.mail_sender import send_by_mail

        return send_by_mail(lambda: SmtpHook(smtp_conn_id=self.conn_id), to=str(self.to), clock=wall_clock)


def sender_to(channel: str) -> Send:
    """Return how messages go to any channel, by its key, with the connections that the DAGs use."""
    operator: Any
    if kind_of(channel) == "slack":
        operator = SlackDrainOperator(task_id="sender", channel=address_of(channel))
    else:
        operator = EmailDrainOperator(task_id="sender", to=address_of(channel))
    send: Send = operator.sender()
    return send


def drain_from_task(channel: str, *, send: Send, context: Any) -> dict[str, int]:
    """
    Drain a channel from within a task, and its fallback where it refuses us; return the counts.

    Raises:
        AirflowFailException: a person is needed, such as for a token that was revoked; the messages stay due, or went to
            the fallback.
        AirflowException: the channel did not answer; the task's own retry carries on.
    """
    from include.orchestration.delivery import Drain
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import postgres_conninfo
    from include.sync_health.links import links_in

    ti = context["ti"]
    storage = postgres_conninfo(storage_connection())
    alerting = _alerting_policy(storage)
    results = drain_with_fallback(
        Drain(
            channel=channel,
            monitoring_conninfo=storage,
            owner=f"{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.try_number}",
            send=send,
            clock=wall_clock,
            sleep=time.sleep,
            links=links_in(alerting.links, dag_id=ti.dag_id, run_id=ti.run_id),
            fallback=usable_fallback(channel, alerting),
        )
    )
    told = "; ".join(_in_words(name, result) for name, result in results.items())
    if any(result.needs_a_person or result.dead for result in results.values()):
        raise AirflowFailException(told)
    if any(result.waiting for result in results.values()):
        raise AirflowException(told)
    return {
        "sent": sum(result.sent for result in results.values()),
        "waiting": sum(result.waiting for result in results.values()),
        "dead": sum(result.dead for result in results.values()),
        "handed_over": sum(result.handed_over for result in results.values()),
    }


def drain_with_fallback(drain: Drain, *, sender: Callable[[str], Send] = sender_to) -> dict[str, DrainResult]:
    """
    Drain a channel, and its fallback too where something was handed over; return what each did, by channel.

    Args:
        drain: of the channel; its ``fallback`` is the one.
        sender: returns how messages go to a channel.

    Raises:
        StorageError: our schema is missing or cannot be reached.
    """
    from include.orchestration.delivery import drain_channel

    results = {drain.channel: drain_channel(drain)}
    if drain.fallback is not None and results[drain.channel].handed_over:
        results[drain.fallback] = drain_channel(
            replace(
                drain,
                channel=drain.fallback,
                owner=f"{drain.owner}/fallback",
                send=sender(drain.fallback),
                fallback=None,
            )
        )
    return results


def usable_fallback(channel: str, alerting: AlertingPolicy) -> str | None:
    """Return where the policy sends what a channel refuses; None also where that has no connection: it would wait there."""
    from include.orchestration.settings import configured_kinds

    fallback = alerting.fallback.get(channel)
    return fallback if fallback is not None and configured_kinds([kind_of(fallback)]) else None


def _alerting_policy(storage: str) -> AlertingPolicy:
    """Return what the policy in force says of alerts; its defaults where there is none: what is due must still go out."""
    from include.orchestration.settings import policy_in_force
    from include.sync_health.alerting_policies import AlertingPolicy
    from include.sync_health.errors import PolicyError

    try:
        return policy_in_force(storage_conninfo=storage, now=wall_clock()).loaded.policy.alerting
    except PolicyError:
        return AlertingPolicy()


def _in_words(channel: str, result: DrainResult) -> str:
    handed_over = f", {result.handed_over} handed over" if result.handed_over else ""
    trouble = f": {result.trouble}" if result.trouble else ""
    return f"{channel}: {result.sent} sent, {result.waiting} waiting, {result.dead} given up{handed_over}{trouble}"


def wall_clock() -> datetime:
    """Return the wall clock, aware."""
    return datetime.now(UTC)
