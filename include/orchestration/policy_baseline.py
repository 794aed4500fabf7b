"""
Adopting a baseline: what is broken already when monitoring begins is recorded, and told in one message per channel.

Without it, the first run over a neglected source would send a message for every credential that has been broken for
months, and bury the one that broke today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from include.orchestration.evaluation import evaluate_check
from include.orchestration.evaluation_request import Evaluation
from include.orchestration.settings import configured_kinds, policy_in_force, postgres_conninfo
from include.sync_health.checks import EVERYTHING
from include.sync_health.windows import RunMode, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """
    What was adopted, or would be.

    Args:
        as_of: the instant judged; aware.
        adopted: how many alerts were opened, by rule, in the order of `include.sync_health.checks.RULES`.
        messages: how many messages now wait in the outbox for the next run of a check: one per channel, beside the
            repeats and closes that were due anyway.
        not_sent: how many alerts a channel is not told of, by reason.
    """

    as_of: datetime
    adopted: Mapping[str, int]
    messages: int
    not_sent: Mapping[str, int]


def adopt_baseline(*, now: datetime, dry_run: bool = False) -> Baseline:
    """
    Judge everything now, as a live run over everyone; whatever opens is told as what was broken before.

    A second run adopts nothing but what has broken since: an alert that is open stays as it is.

    Args:
        now: the wall clock; aware.
        dry_run: undo it all: the answer says what would be adopted.

    Raises:
        PolicyError: the policy file is wrong: nothing is adopted by an older one.
        StorageError: our schema is missing, of another version, or unreachable.
        SourceError: the source cannot be read, or is in doubt: there is nothing to adopt.
        MonitorError: a connection is missing or unusable.
    """
    policy = policy_in_force().loaded.policy
    outcome = evaluate_check(
        Evaluation(
            check=EVERYTHING,
            source_conninfo=postgres_conninfo(policy.source.connection),
            monitoring_conninfo=postgres_conninfo(policy.storage_connection),
            policy=policy,
            window=Window(start=now - EVERYTHING.every, as_of=now),
            mode=RunMode.LIVE,
            configured=configured_kinds(),
            now=now,
            as_baseline=True,
            dry_run=dry_run,
        )
    )
    return Baseline(
        as_of=now,
        adopted={rule: n for rule in (*EVERYTHING.rules, "monitor_health") if (n := outcome.opened_by_rule.get(rule))},
        messages=outcome.deliveries,
        not_sent=outcome.not_sent,
    )
