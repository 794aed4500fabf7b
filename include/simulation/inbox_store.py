"""
The inbox's memory: a file of JSON lines, so that a restart of the demo keeps what was sent.

Each line is one event: ``{"kind": "slack", ...}`` for a message posted or edited (the last line of a message wins), or
``{"kind": "mail", ...}`` with the mail's raw bytes in base64. Lines are flushed as they are written; a last line that
a killed process left torn is cut off when the file is read. Only the file's owner may read it.
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from include.simulation.mail_server import Mail
from include.simulation.slack_workspace import SlackEdit, SlackMessage


class InboxStore:
    """
    A store in ``path``, which need not exist yet; safe to call from several threads.

    Raises:
        ValueError: a line in the middle of the file is not one of ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.slack: list[SlackMessage] = []
        self.mails: list[Mail] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read()
        path.touch(mode=0o600)
        path.chmod(0o600)  # one that an earlier version made
        self._file = path.open("a", encoding="utf-8")

    def keep_slack(self, message: SlackMessage) -> None:
        """Append a message, new or edited."""
        record = asdict(message)
        for edit in record["edits"]:
            edit["replaced_at"] = edit["replaced_at"].isoformat()
        self._append({"kind": "slack", **record})

    def keep_mail(self, mail: Mail) -> None:
        """Append a mail."""
        self._append(
            {
                "kind": "mail",
                "received_at": mail.received_at.isoformat(),
                "sender": mail.sender,
                "recipients": list(mail.recipients),
                "raw": base64.b64encode(mail.raw).decode("ascii"),
            }
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _append(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()

    def _read(self) -> None:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                event = json.loads(line)
                if event["kind"] == "slack":
                    self.slack.append(_slack(event))
                else:
                    self.mails.append(_mail(event, number=len(self.mails) + 1))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self._path}, line {number}: not an inbox event; delete the file") from error


def _slack(event: dict[str, Any]) -> SlackMessage:
    del event["kind"]
    edits = tuple(
        SlackEdit(
            text=edit["text"], blocks=tuple(edit["blocks"]), replaced_at=datetime.fromisoformat(edit["replaced_at"])
        )
        for edit in event.pop("edits")
    )
    event |= {"blocks": tuple(event["blocks"]), "attachments": tuple(event["attachments"]), "edits": edits}
    return SlackMessage(**event)


def _mail(event: dict[str, Any], *, number: int) -> Mail:
    return Mail.parse(
        base64.b64decode(event["raw"]),
        number=number,
        received_at=datetime.fromisoformat(event["received_at"]),
        sender=event["sender"],
        recipients=event["recipients"],
    )
