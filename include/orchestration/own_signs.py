"""The monitor's signs of its own life: what a run says of the other checks and of the channels, and its heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.sync_health.alerts import Alert, Delivery
from include.sync_health.checks import CHECKS
from include.sync_health.heartbeats import heartbeats
from include.sync_health.observations import Observation
from include.sync_health.own_health import judge_surroundings, overdue_checks, refusing_channels

if TYPE_CHECKING:
    import psycopg

    from include.orchestration.evaluation_request import Evaluation


def own_observations(
    conn: psycopg.Connection[Any], evaluation: Evaluation, known: Mapping[str, Alert]
) -> list[Observation]:
    """
    Return what a live run over everybody says of the monitor beside what it could see; a narrower one says nothing.

    Raises:
        StorageError: the schema is missing or unreachable.
    """
    from include.warehouse.channel_states import channel_states
    from include.warehouse.check_ages import check_states

    if evaluation.filters.narrow:
        return []
    states = check_states(conn, CHECKS.values())
    # One that the policy no longer names is sent nothing more: it could never be seen to take our messages again.
    named = set(evaluation.policy.alerting.fallback.values()).union(
        *(receiver.channels() for receiver in evaluation.policy.receivers.values())
    )
    refusals = {
        name: state.refusal or "no reason given"
        for name, state in channel_states(conn).items()
        if state.refuses and name in named
    }
    return judge_surroundings(
        policy_error=str(evaluation.policy_error) if evaluation.policy_error is not None else None,
        alerts=known,
        policy=evaluation.policy.rules.monitor_health,
        as_of=evaluation.window.as_of,
        now=evaluation.now,
        check=evaluation.check.name,
        found_beside=[
            *overdue_checks(states, check=evaluation.check.name, as_of=evaluation.window.as_of),
            *refusing_channels(refusals),
        ],
    )


def due_heartbeats(
    conn: psycopg.Connection[Any], evaluation: Evaluation, known: Mapping[str, Alert]
) -> tuple[Delivery, ...]:
    """
    Return the heartbeats that are due; of every check's runs the first that finds one due sends it.

    Raises:
        StorageError: the schema is missing or unreachable.
    """
    from include.warehouse.check_ages import check_states
    from include.warehouse.heartbeat_times import last_heartbeats

    if evaluation.policy.alerting.heartbeat.every is None:
        return ()
    return heartbeats(
        evaluation.policy,
        last=last_heartbeats(conn),
        as_of=evaluation.window.as_of,
        configured=evaluation.configured,
        ran={
            **{name: each.window_to for name, each in check_states(conn, CHECKS.values()).items() if each.window_to},
            evaluation.check.name: evaluation.window.as_of,
        },
        open_alerts=sum(alert.state.is_open for alert in known.values()),
    )
