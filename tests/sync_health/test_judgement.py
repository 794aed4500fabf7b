"""One tick over all rules: caps, modes, scope, and what blindness does to the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from include.sync_health.judgement import SYNC_FAILURES_CHECK, TickInput, judge_nothing, judge_tick
from include.sync_health.observations import Observation
from include.sync_health.policy import ConsecutiveFailuresPolicy, Policy, RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Severity, Verdict
from include.sync_health.visibility import Blindness, clock_blindness
from tests.sync_health.alert_histories import World, saw, with_timers
from tests.sync_health.frames_of import AS_OF, SECOND, credentials_frame, runs_frame
from tests.sync_health.oracle import Row

HOUR = timedelta(hours=1)


def failing(credential: int, *, number: int = 3) -> list[Row]:
    """So many failures of a credential, seconds apart."""
    return [
        Row(
            id=credential * 100 + each,
            credential=credential,
            data_type="both",
            status="failed",
            started_at=AS_OF - each * SECOND - HOUR / 4,
            completed_at=AS_OF - each * SECOND,
            updated_at=AS_OF - each * SECOND,
            error_message="HTTP 401 invalid_client",
        )
        for each in range(number)
    ]


def tick(rows: list[Row], *, environment: str = "production", **known: object) -> TickInput:
    ids = sorted({row.credential for row in rows})
    return TickInput(
        runs=runs_frame(rows),
        credentials=credentials_frame(ids, environment=environment),
        as_of=AS_OF,
        **known,  # type: ignore[arg-type]
    )


def judged(given: TickInput, **options: object) -> list[Observation]:
    """What the rules and the monitor's health say."""
    return list(judge_tick(given, **options).observations)  # type: ignore[arg-type]


def test_the_sandbox_is_capped_at_low() -> None:
    """Integration does not page."""
    severities = {each.severity for each in judged(tick(failing(1), environment="integration"), policy=Policy())}

    assert severities == {Severity.LOW}


def test_a_rule_that_is_off_says_nothing() -> None:
    """But that it is off, of its open alerts; and the others go on."""
    policy = Policy(rules=RulePolicies(consecutive_failures=ConsecutiveFailuresPolicy(mode=RuleMode.OFF)))

    assert {each.rule for each in judged(tick(failing(1)), policy=policy)} == {"sync_failures"}

    world = World(policy=with_timers())
    world.tick(AS_OF - HOUR, *judged(tick(failing(1)), policy=Policy(), rules=["consecutive_failures"]))
    verdicts = {each.rule: each.verdict for each in judged(tick(failing(1), open_alerts=world.alerts), policy=policy)}
    assert verdicts == {"sync_failures": Verdict.BREACH, "consecutive_failures": Verdict.RETIRED}


@pytest.mark.parametrize(
    ("quiet", "gap", "cause"),
    [
        pytest.param(2 * HOUR, timedelta(minutes=30), "stale_source", id="a busy platform silent for two hours"),
        pytest.param(timedelta(minutes=90), timedelta(minutes=30), None, id="three times its longest gap is not more"),
        pytest.param(5 * HOUR, 2 * HOUR, None, id="one with gaps of two hours may be silent for five"),
    ],
)
def test_rows_that_stop_coming_are_not_all_clear(quiet: timedelta, gap: timedelta, cause: str | None) -> None:
    """A replica that stopped, a platform that fell silent, or a zone that lies west: told, and nothing is cleared."""
    starts = [AS_OF - quiet - number * gap for number in range(90)]
    rows = [
        Row(
            id=number,
            credential=1,
            data_type="both",
            status="completed",
            started_at=start,
            completed_at=start + timedelta(minutes=1),
            updated_at=start,
        )
        for number, start in enumerate(reversed(starts), start=1)
    ]
    judgement = judge_tick(tick(rows), policy=Policy())

    assert [each.cause for each in judgement.blindness] == ([cause] if cause else [])
    verdicts = {each.verdict for each in judgement.observations if each.rule != "monitor_health"}
    assert verdicts == ({Verdict.NO_DATA} if cause else {Verdict.CLEAR})


def test_scope_leaves_the_rest_alone() -> None:
    """A filtered run speaks of what it was asked for, and not of the monitor's health."""
    observations = judged(
        tick(failing(1) + failing(2), scope=lambda subject: subject.credential_id == "2"), policy=Policy()
    )

    assert {each.credential_id for each in observations} == {"2"}


def test_a_rule_that_raises_becomes_an_alert_and_silences_no_other() -> None:
    """An evaluation error is not all clear."""
    broken = tick(failing(1))
    runs = broken.runs.assign(started_at=pd.Series(["not a time"] * len(broken.runs), dtype=object))
    observations = judged(replace(broken, runs=runs), policy=Policy())

    assert {(each.rule, each.verdict) for each in observations} == {
        ("sync_failures", Verdict.BREACH),
        ("consecutive_failures", Verdict.BREACH),
        ("monitor_health", Verdict.BREACH),
    }
    causes = {each.identity["cause"] for each in observations if each.rule == "monitor_health"}
    assert causes == {"evaluation_stuck_sync", "evaluation_silence"}


def test_a_doubtful_source_proves_no_recovery() -> None:
    """What breaches stands; what is clear is not believed."""
    doubt = Blindness(check=SYNC_FAILURES_CHECK, cause="wrong_time_zone", detail="stamps lie in the future")
    success = replace(failing(2)[0], status="completed", error_message=None)
    observations = judged(tick([*failing(1), success], blindness=[doubt]), policy=Policy())

    verdicts = {(each.rule, each.credential_id): each.verdict for each in observations}
    assert verdicts[("sync_failures", "1")] is Verdict.BREACH
    assert verdicts[("sync_failures", "2")] is Verdict.NO_DATA
    assert verdicts[("monitor_health", None)] is Verdict.BREACH


def test_health_is_clear_when_it_is_seen_again_and_not_before() -> None:
    """The open alert of the check's blindness closes by a run that could see."""
    world = World(policy=with_timers())
    found = Blindness(check=SYNC_FAILURES_CHECK, cause="unreachable", detail="connection refused")
    world.tick(AS_OF, *judge_nothing(found, open_alerts={}, policy=world.policy, as_of=AS_OF).observations)
    assert [alert.rule for alert in world.alerts.values()] == ["monitor_health"]

    observations = judged(tick(failing(1, number=0), open_alerts=world.alerts), policy=world.policy)
    assert [(each.rule, each.verdict) for each in observations] == [("monitor_health", Verdict.CLEAR)]


def test_blindness_freezes_what_is_open() -> None:
    """NO_DATA for each open alert of the check, and nothing clear."""
    world = World(policy=with_timers())
    world.tick(AS_OF, saw(Verdict.BREACH))
    found = Blindness(check=SYNC_FAILURES_CHECK, cause="timeout", detail="the statement took too long")
    observations = judge_nothing(found, open_alerts=world.alerts, policy=world.policy, as_of=AS_OF).observations

    assert {(each.rule, each.verdict) for each in observations} == {
        ("monitor_health", Verdict.BREACH),
        ("sync_failures", Verdict.NO_DATA),
    }


@pytest.mark.parametrize(
    ("newest", "cause"),
    [
        pytest.param(None, "no_rows", id="an empty table"),
        pytest.param(AS_OF, None, id="a row of just now"),
        pytest.param(AS_OF + timedelta(minutes=24), None, id="a clock that runs a little ahead"),
        pytest.param(AS_OF + timedelta(minutes=25), "wrong_time_zone", id="a lead like a zone's"),
        pytest.param(AS_OF + 5 * HOUR, "wrong_time_zone", id="five hours ahead"),
        pytest.param(AS_OF - HOUR, None, id="an hour old proves nothing: syncs may run on the hour"),
    ],
)
def test_what_the_newest_stamp_tells(newest: object, cause: str | None) -> None:
    """A lead is a wrong zone; silence is left to the rules."""
    found = clock_blindness(
        check=SYNC_FAILURES_CHECK,
        newest_started_at=newest,  # type: ignore[arg-type]
        timezone="UTC",
        now=AS_OF,
    )

    assert (found.cause if found else None) == cause


def test_the_policy_of_a_failure_threshold_is_the_policys() -> None:
    """Numbers are policy."""
    policy = Policy(rules=RulePolicies(sync_failures=SyncFailuresPolicy(threshold=4)))
    observations = judged(tick(failing(1)), policy=policy, rules=["sync_failures"])

    assert [each.verdict for each in observations] == [Verdict.BAND]
