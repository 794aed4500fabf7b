"""
A worker that drains Slack, as a process of its own that may be killed: ``python -m include.simulation.delivery_worker``.

It reads what it needs from its standard input, as JSON, so that no password stands on a command line: ``dsn``, ``base_url``,
``token``, ``now`` (ISO 8601, aware: its clock stands still), ``owner``.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime

from slack_sdk import WebClient

from include.orchestration.delivery import Drain, Send, drain_channel
from include.orchestration.slack_sender import quiet_logger, send_by_bot

SLACK = "slack:#servicetitan-alerts"
SLACK_TIMEOUT_SECONDS = 30


def slack_sender(base_url: str, *, token: str, timeout: int) -> Send:
    """Return a sender to `SLACK` over a client that waits so many seconds for an answer."""
    client = WebClient(token=token, base_url=base_url, timeout=timeout, retry_handlers=[], logger=quiet_logger())
    return send_by_bot(client, channel=SLACK.partition(":")[2])


def main() -> int:
    """Drain the channel once."""
    asked = json.load(sys.stdin)
    now = datetime.fromisoformat(asked["now"])
    drain_channel(
        Drain(
            channel=SLACK,
            monitoring_conninfo=asked["dsn"],
            owner=asked["owner"],
            send=slack_sender(asked["base_url"], token=asked["token"], timeout=SLACK_TIMEOUT_SECONDS),
            clock=lambda: now,
            sleep=time.sleep,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
