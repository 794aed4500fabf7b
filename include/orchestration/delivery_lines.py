"""The log lines of a drain: what became of each delivery, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from include.orchestration.structured_logs import DecisionLog

if TYPE_CHECKING:
    from datetime import timedelta

    from include.warehouse.outbox import DroppedDelivery, LeasedDelivery

log = DecisionLog("servicetitan.delivery")


class DeliveryFields(TypedDict):
    """What every line of a delivery has; its alert's fingerprint where it speaks of one alone."""

    delivery_id: int
    channel: str
    notify_reason: str
    alerts: int
    fingerprint: str | None
    attempts: int


def log_sent(leased: LeasedDelivery, *, in_time: bool) -> None:
    """Tell that the channel took it; late: when another worker could have been given it."""
    if in_time:
        log.info(
            "delivery_sent",
            "sent delivery %(delivery_id)s (%(notify_reason)s) to %(channel)s",
            **_fields(leased),
        )
    else:
        log.warning(
            "delivery_sent_late",
            "delivery %(delivery_id)s was sent to %(channel)s after its lease had ended",
            **_fields(leased),
        )


def log_dropped(leased: LeasedDelivery | DroppedDelivery, *, why: str) -> None:
    """Tell that it has nothing to say any more."""
    log.info(
        "delivery_dropped",
        "delivery %(delivery_id)s to %(channel)s is not sent: %(not_sent_because)s",
        not_sent_because=why,
        **_fields(leased),
    )


def log_coalesced(dropped: DroppedDelivery) -> None:
    """Tell that others have said it: what `outbox.lease_next` passed over."""
    log_dropped(dropped, why="a message that went out since has said it, or a newer edit will show it")


def log_paused(leased: LeasedDelivery, *, pause: timedelta) -> None:
    """Tell that the drain waits because the channel asks it to."""
    log.info(
        "delivery_paused",
        "%(channel)s asks to wait %(wait_seconds)s s",
        wait_seconds=round(pause.total_seconds()),
        **_fields(leased),
    )


def log_failed(leased: LeasedDelivery, *, error: str, pause: timedelta) -> None:
    """Tell that it is tried again later; ``error`` is redacted."""
    log.warning(
        "delivery_failed",
        "delivery %(delivery_id)s to %(channel)s waits until it is tried again: %(error)s",
        error=error,
        wait_seconds=round(pause.total_seconds()),
        **_fields(leased),
    )


def log_given_up(leased: LeasedDelivery, *, error: str) -> None:
    """Tell that it is dead; ``error`` is redacted."""
    log.error(
        "delivery_given_up",
        "gave up delivery %(delivery_id)s to %(channel)s: %(error)s",
        error=error,
        **_fields(leased),
    )


def log_handed_over(leased: LeasedDelivery, *, deliveries: int, error: str) -> None:
    """Tell how many deliveries went to the fallback since this one was refused; ``error`` is redacted."""
    log.error(
        "delivery_handed_over",
        "%(channel)s refuses delivery %(delivery_id)s, %(deliveries)s are handed over to its fallback: %(error)s",
        error=error,
        deliveries=deliveries,
        **_fields(leased),
    )


def _fields(leased: LeasedDelivery | DroppedDelivery) -> DeliveryFields:
    return DeliveryFields(
        delivery_id=leased.id,
        channel=leased.channel,
        notify_reason=str(leased.reason),
        alerts=len(leased.members),
        fingerprint=leased.members[0].fingerprint if len(leased.members) == 1 else None,
        attempts=leased.attempts,
    )
