"""Each point in which the story's letter differs from what ships is a switch of its own, and changes the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.orchestration.policy_file import OVERLAY_VARIABLE, load_policy
from include.orchestration.policy_schema import tree_of
from include.sync_health.alerts import AlertState
from include.sync_health.checks import OWN_RULES, SYNC_FAILURES
from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import aggregate_days
from include.sync_health.gaps import missed_instants
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.agreement.plain_frames import counted_runs, credentials_of
from tests.story.measured import BAD_CALLS, BURNT_DAYS
from tests.story.ticks import (
    ACME,
    DAY,
    HOUR,
    MINUTE,
    SHIPPED,
    STORY,
    STORY_FILE,
    completed,
    failed,
    run_check,
    running,
    three_failures,
)
from tests.sync_health.alert_histories import World, rule_saw
from tests.sync_health.frames_of import AS_OF
from tests.sync_health.oracle_trends import Day
from tests.sync_health.stored_frames import stored_days, weeks_of

B, C = Verdict.BREACH, Verdict.CLEAR
SLACK_CHANNEL = "slack:#servicetitan-alerts"
SANDBOX = replace(ACME, environment="integration")


def severities(rule: str, **given: Any) -> Callable[[Policy], list[str]]:
    """Return what the rule's breaches of one run are."""
    return lambda policy: [str(each.severity) for each in run_check(policy, **given).found(rule)]


def failures_after_a_success(policy: Policy) -> AlertState:
    first = run_check(policy, rows=three_failures())
    rows = [*three_failures(), completed(-MINUTE, number=1)]
    later = run_check(policy, rows=rows, as_of=AS_OF + 45 * MINUTE, alerts=first.alerts)
    (alert,) = (each for each in later.alerts.values() if each.rule == "sync_failures")
    return alert.state


def messages_of(**given: Any) -> Callable[[Policy], int]:
    """Return how many messages one run sends to Slack."""
    return lambda policy: len(run_check(policy, **given).sent())


def repeats(severity: str) -> Callable[[Policy], int]:
    """Return how many messages the second of two runs, 15 minutes apart, sends of what both find."""

    def of(policy: Policy) -> int:
        rules = replace(policy.rules, sync_failures=replace(policy.rules.sync_failures, severity=severity))
        # The shipped policy sends nothing of a low one; here all is routed, so that only the repeat can differ.
        told = replace(policy, rules=rules, routes=STORY.routes)
        first = run_check(told, rows=three_failures(), check=SYNC_FAILURES)
        later = {"as_of": AS_OF + 15 * MINUTE, "alerts": first.alerts}
        return len(run_check(told, rows=three_failures(), check=SYNC_FAILURES, **later).sent())

    return of


def lived(policy: Policy, *verdicts: Verdict) -> tuple[World, list[str]]:
    """An alert of a rule that closes at once, tick by tick, and what Slack was told of it."""
    world, told = World(policy=policy), list[str]()
    for number, verdict in enumerate(verdicts):
        said = world.tick(AS_OF + number * 15 * MINUTE, rule_saw("consecutive_failures", verdict))
        told += world.sent(said, channel=SLACK_CHANNEL)
    return world, told


def told_of(*verdicts: Verdict) -> Callable[[Policy], str]:
    """Return the last that Slack is told of an alert."""
    return lambda policy: lived(policy, *verdicts)[1][-1]


def flaps(policy: Policy) -> bool:
    """Whether an alert that came back three times within a day is flapping."""
    (alert,) = lived(policy, B, C, B, C, B, C, B)[0].alerts.values()
    return alert.flapping_since is not None


def messages_of_medium(number: int) -> Callable[[Policy], int]:
    """Return how many messages a day brings of so many alerts of medium severity, each alone."""

    def of(policy: Policy) -> int:
        world = World(policy=policy)
        observations = [
            rule_saw("stale_sync", severity=Severity.MEDIUM, identity={"credential": str(each)})
            for each in range(number)
        ]
        return len(world.sent(world.tick(AS_OF, *observations), channel=SLACK_CHANNEL))

    return of


def stale_alert_after_a_success(policy: Policy) -> AlertState:
    """A stale sync, then a success, seen by the 15-minute check."""
    first = run_check(policy, rows=[completed(3 * DAY, number=1)])
    rows = [completed(3 * DAY, number=1), completed(-MINUTE, number=2)]
    later = run_check(policy, rows=rows, check=SYNC_FAILURES, as_of=AS_OF + 15 * MINUTE, alerts=first.alerts)
    (alert,) = (each for each in later.alerts.values() if each.rule == "stale_sync")
    return alert.state


def average_duration(policy: Policy) -> float | None:
    daily = aggregate_days(
        counted_runs([completed(HOUR, number=1)]),
        names=CompanyNames.of(credentials_of([ACME])),
        days=[AS_OF.date()],
        timezone=policy.reporting_timezone,
        as_of=AS_OF,
        late_data_days=policy.late_data_days,
        duration_fallback=policy.duration_fallback,
    ).daily
    (seconds,) = daily["duration_avg_seconds"]
    return float(seconds) if seconds == seconds else None


CREDENTIALS_IN_TROUBLE = [replace(ACME, id=number, company_name=f"Company {number}") for number in range(1, 22)]
MANY_FAILURES = [row for each in CREDENTIALS_IN_TROUBLE for row in three_failures(credential=each.id)]
UNRELATED_FAILURES = [
    row for each in CREDENTIALS_IN_TROUBLE for row in three_failures(credential=each.id, error=f"odd {'a' * each.id}")
]
BUSY_THEN_SILENT = [completed(hours * HOUR + 30 * MINUTE, number=hours) for hours in range(3, 28)]
TODAY, YESTERDAY = AS_OF.date(), AS_OF.date() - DAY
USED_TO_BE_GOOD = stored_days(
    [
        Day(day=YESTERDAY, credential=str(ACME.id), successful=800),
        *(each for day in (TODAY, YESTERDAY) for each in weeks_of(day, credential=str(ACME.id))),
    ]
)
REFRESHED = replace(ACME, token_expires_at=AS_OF + 15 * MINUTE, updated_at=AS_OF)

SWITCHES = [
    pytest.param(
        "reporting.duration_fallback", average_duration, 60.0, None, id="a duration that is not stored is unknown"
    ),
    pytest.param(
        "environments.integration.severity_cap",
        severities("sync_failures", rows=three_failures(), credentials=[SANDBOX]),
        ["low"],
        ["high"],
        id="the sandbox has no cap",
    ),
    pytest.param(
        "credentials.monitored_statuses",
        severities("stale_sync", rows=[completed(3 * DAY, number=1)], credentials=[replace(ACME, status="inactive")]),
        [],
        ["medium"],
        id="all credentials are looked at",
    ),
    pytest.param(
        "rules.platform_outage.mode",
        severities("platform_outage", rows=MANY_FAILURES, credentials=CREDENTIALS_IN_TROUBLE),
        ["critical"],
        [],
        id="an outage is only its failures",
    ),
    pytest.param(
        "rules.no_syncs.mode",
        severities("no_syncs", rows=BUSY_THEN_SILENT),
        ["high"],
        [],
        id="silence is not looked for",
    ),
    pytest.param(
        "rules.token_expiry.judge_by",
        severities("token_expiry", credentials=[REFRESHED]),
        [],
        ["high"],
        id="a token is judged by its expiry alone",
    ),
    pytest.param(
        "rules.token_expiry.high_within",
        severities("token_expiry", credentials=[replace(REFRESHED, updated_at=AS_OF - 90 * DAY)]),
        ["high"],
        ["medium"],
        id="a token's alert does not escalate",
    ),
    pytest.param(
        "rules.connection_error.status_alone",
        severities(
            "connection_error",
            rows=[completed(5 * MINUTE, number=1)],
            credentials=[replace(ACME, status="error", updated_at=AS_OF - HOUR)],
        ),
        [],
        ["high"],
        id="a connection is judged by its status alone",
    ),
    pytest.param(
        "rules.sync_failures.keep_firing_for",
        failures_after_a_success,
        AlertState.RECOVERING,
        AlertState.INACTIVE,
        id="a success ends it at once",
    ),
    pytest.param(
        "rules.sync_failures.count_cancelled",
        severities("sync_failures", rows=three_failures(error="Sync cancelled by user")),
        [],
        ["high"],
        id="a cancelled sync counts as failed",
    ),
    pytest.param(
        "rules.consecutive_failures.mode",
        severities("consecutive_failures", rows=[failed(hours * HOUR, number=hours) for hours in (1, 2, 3)]),
        ["medium"],
        [],
        id="failures in a row are not counted",
    ),
    pytest.param(
        "rules.stuck_sync.mode",
        severities("stuck_sync", rows=[running(90 * MINUTE, number=1)]),
        ["medium"],
        [],
        id="open syncs are not looked at",
    ),
    pytest.param(
        "rules.stale_sync.high_after",
        severities("stale_sync", rows=[completed(5 * DAY, number=1)]),
        ["high"],
        ["medium"],
        id="a stale sync's alert does not escalate",
    ),
    pytest.param(
        "rules.data_quality.high_share",
        severities("data_quality", rows=[completed(HOUR, number=1, failures=60)]),
        ["high"],
        ["medium"],
        id="bad data's alert does not escalate",
    ),
    pytest.param(
        "rules.data_quality.identity",
        severities("data_quality", rows=[completed(hours * HOUR, number=hours, failures=30) for hours in (1, 2)]),
        ["medium"],
        ["medium", "medium"],
        id="each sync is told",
    ),
    pytest.param(
        "rules.data_quality.active_only",
        severities(
            "data_quality",
            rows=[completed(HOUR, number=1, failures=30)],
            credentials=[replace(ACME, status="error", updated_at=AS_OF - 2 * HOUR)],
        ),
        ["medium"],
        [],
        id="only active credentials' data is judged",
    ),
    pytest.param(
        "rules.quality_drop.mode",
        severities("quality_drop", stored=USED_TO_BE_GOOD),
        ["medium"],
        [],
        id="a day is not compared with others",
    ),
    pytest.param(
        "rules.empty_syncs.mode",
        severities(
            "empty_syncs",
            rows=[completed(hours * HOUR, number=hours, processed=0) for hours in (1, 2, 3)],
            stored=USED_TO_BE_GOOD,
        ),
        ["medium"],
        [],
        id="syncs may bring nothing",
    ),
    pytest.param(
        "rules.api_errors.mode",
        severities("api_errors", measured=BAD_CALLS),
        ["medium"],
        [],
        id="calls may fail",
    ),
    pytest.param(
        "rules.api_latency.mode", severities("api_latency", measured=BAD_CALLS), ["medium"], [], id="calls may be slow"
    ),
    pytest.param(
        "rules.api_incidents.mode",
        severities("api_incidents", measured=BAD_CALLS),
        ["medium"],
        [],
        id="calls may be refused for their rate",
    ),
    pytest.param(
        "rules.error_budget.mode",
        severities("error_budget", measured=BURNT_DAYS),
        ["medium"],
        [],
        id="no budget is watched",
    ),
    pytest.param(
        "recheck_open",
        stale_alert_after_a_success,
        AlertState.INACTIVE,
        AlertState.FIRING,
        id="the 15-minute check leaves the others' alerts alone",
    ),
    pytest.param(
        "inhibition",
        messages_of(rows=three_failures(), credentials=[replace(ACME, status="error", updated_at=AS_OF - HOUR)]),
        1,
        3,
        id="a cause hides nothing",
    ),
    pytest.param(
        "routes",
        messages_of(rows=[*three_failures()[:2], failed(2 * HOUR, number=1)], credentials=[SANDBOX]),
        0,
        1,
        id="an alert of any severity is sent",
    ),
    *(
        pytest.param(f"repeat.{severity}", repeats(severity), 0, 1, id=f"every run sends what it finds, {severity}")
        for severity in ("critical", "high", "medium", "low")
    ),
    pytest.param(
        "summary_above",
        messages_of(rows=UNRELATED_FAILURES, credentials=CREDENTIALS_IN_TROUBLE),
        1,
        21,
        id="there are no summaries",
    ),
    pytest.param(
        "alerting.grouping.by",
        messages_of(
            rows=[row for each in CREDENTIALS_IN_TROUBLE[:2] for row in three_failures(credential=each.id)],
            credentials=CREDENTIALS_IN_TROUBLE[:2],
            check=SYNC_FAILURES,
        ),
        1,
        2,
        id="one cause is a message for each credential",
    ),
    pytest.param("alerting.budget", messages_of_medium(12), 10, 12, id="a day has no budget"),
    pytest.param("alerting.lifecycle.reopen_within", told_of(B, C, B), "reopened", "first", id="nothing is remembered"),
    pytest.param(
        "alerting.lifecycle.settle_after", told_of(B, C, B, C), "reopened", "closed", id="each recovery is believed"
    ),
    pytest.param("alerting.lifecycle.flap_returns", flaps, True, False, id="nothing flaps"),
    pytest.param(
        "alerting.catch_up",
        lambda policy: len(
            missed_instants(AS_OF - HOUR, as_of=AS_OF, every=15 * MINUTE, within=policy.alerting.catch_up)
        ),
        3,
        0,
        id="what was missed is missed",
    ),
]


@pytest.mark.parametrize(("path", "outcome", "shipped", "literal"), SWITCHES)
def test_a_switch_changes_the_outcome(
    tmp_path: Path, path: str, outcome: Callable[[Policy], object], shipped: object, literal: object
) -> None:
    """The shipped policy with this one key as the story has it."""
    *sections, key = path.split(".")
    tree = {key: dict(leaves(tree_of(STORY)))[path]}
    alone = tmp_path / "one-switch.yaml"
    alone.write_text(yaml.safe_dump(reduce(lambda inner, name: {name: inner}, reversed(sections), tree)))

    assert outcome(SHIPPED) == shipped
    assert outcome(load_policy(overlay=alone).policy) == literal


def test_every_difference_between_the_story_and_what_ships_is_such_a_switch() -> None:
    ours, story = dict(leaves(tree_of(SHIPPED))), dict(leaves(tree_of(STORY)))

    assert {path for path in story if story[path] != ours[path]} == {str(each.values[0]) for each in SWITCHES}


def test_the_overlay_is_named_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """``SERVICETITAN_MONITOR_CONFIG=include/policies/story.yaml``, from the project's folder."""
    monkeypatch.chdir(STORY_FILE.parents[2])

    assert load_policy(environ={OVERLAY_VARIABLE: "include/policies/story.yaml"}).policy == STORY


def test_every_line_of_the_overlay_says_what_the_story_says() -> None:
    """Of the rules that are on, each key but mode and the timers that are nought is explained on its line."""
    lines = STORY_FILE.read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if ": " in line.partition("#")[0]]

    unexplained = {line.strip() for line in keys if "#" not in line}

    assert unexplained <= {
        *(f"{severity}: every run" for severity in ("critical", "high", "medium", "low")),
        *(f"{rule}: {{mode: off}}" for rule in ("platform_outage", "no_syncs", "consecutive_failures", "stuck_sync")),
        *(f"{rule}: {{mode: off}}" for rule in ("quality_drop", "empty_syncs", *OWN_RULES)),
        "monitor_health: {mode: live}",
        "monitored_statuses: [active, connected, error, inactive, pending]",
        "mode: live",
        "for: 0m",
        "keep_firing_for: 0m",
    }


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and value of every key that holds no further keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value
