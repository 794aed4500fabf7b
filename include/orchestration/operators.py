"""
The operators that drain the outbox: the providers' own, one task per channel.

They take nothing but the channel from the DAG: texts never pass through XCom or templates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from airflow.providers.slack.hooks.slack import SlackHook
from airflow.providers.slack.operators.slack import SlackAPIPostOperator
from airflow.providers.smtp.operators.smtp import EmailOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.orchestration.slack_sender import SLACK_TIMEOUT_SECONDS, quiet_logger, send_by_bot, send_by_webhook


class SlackDrainOperator(SlackAPIPostOperator):
    """
    Sends what is due to one Slack channel.

    Uses the bot token of ``slack_conn_id``; where that connection is missing, the incoming webhook of
    ``webhook_conn_id``, whose messages can be neither edited nor threaded.

    Args:
        channel: ``#name`` or a channel id.

    Returns:
        Counts: sent, waiting, dead.
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
        """Return how messages go to this channel."""
        from include.orchestration.settings import is_configured

        if is_configured(self.slack_conn_id):
            return send_by_bot(self.hook.client, channel=self.channel)
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
        Counts: sent, waiting, dead.
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


def drain_from_task(channel: str, *, send: Callable[..., Mapping[str, Any]], context: Any) -> dict[str, int]:
    """
    Drain a channel from within a task and return the counts.

    Raises:
        AirflowFailException: a person is needed, such as for a token that was revoked; the messages stay due.
        AirflowException: the channel did not answer; the task's own retry carries on.
    """
    from include.orchestration.delivery import Drain, drain_channel
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import postgres_conninfo

    ti = context["ti"]
    result = drain_channel(
        Drain(
            channel=channel,
            monitoring_conninfo=postgres_conninfo(storage_connection()),
            owner=f"{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.try_number}",
            send=send,
            clock=wall_clock,
            sleep=time.sleep,
        )
    )
    if result.waiting or result.dead:
        told = f"{channel}: {result.sent} sent, {result.waiting} waiting, {result.dead} given up: {result.trouble}"
        raise AirflowFailException(told) if result.needs_a_person or result.dead else AirflowException(told)
    return {"sent": result.sent, "waiting": result.waiting, "dead": result.dead}


def wall_clock() -> datetime:
    """Return the wall clock, aware."""
    return datetime.now(UTC)
