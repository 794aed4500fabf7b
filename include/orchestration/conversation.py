"""What a message is sent into: nothing, a conversation that it begins, or one that it goes on with or brings up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.sync_health.alerts import NotifyReason

PARENT_GONE = "parent_gone"
"""Code of a `DeliveryError`: the conversation's first message can be neither edited nor replied to any more."""

CANNOT_EDIT = "cannot_edit"
"""Code of a `DeliveryError`: this way of sending knows no edits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """
    What a message is sent into.

    Args:
        parent: the receipt of the conversation's first message; None where there is none.
        begins: the message becomes that first one, and its receipt says ``"parent": True``.
        edits: the message takes the place of what the first one says; nobody is notified.
        broadcast: a reply is shown in the channel as well, so that those who do not follow the conversation see it.
    """

    parent: Mapping[str, Any] | None = None
    begins: bool = False
    edits: bool = False
    broadcast: bool = False


ALONE = Conversation()
"""No conversation: a summary, a test."""


def conversation_of(
    reason: NotifyReason, *, thread: str | None, parent: Mapping[str, Any] | None, is_open: bool = False
) -> Conversation:
    """
    Return what a delivery is sent into.

    A close is a quiet reply: the first message, edited, shows it in the channel. One that goes out late and finds an alert
    open again is not: it is the message that tells of that.

    Args:
        reason: the delivery's.
        thread: its conversation; None for a summary.
        parent: the receipt of the first message sent there; None if none was, or none that can be referred to.
        is_open: one of the alerts that it speaks of is open now.
    """
    if thread is None:
        return ALONE
    if parent is None:
        return Conversation(begins=True)
    if reason is NotifyReason.UPDATED:
        return Conversation(parent=parent, edits=True)
    return Conversation(parent=parent, broadcast=is_open or reason is not NotifyReason.CLOSED)
