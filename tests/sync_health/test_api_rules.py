"""Errors, slowness and incidents of the API at their boundaries, and what is said without calls or without a source."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.api_incidents import judge_api_incidents
from include.sync_health.api_rule_policies import ApiErrorsPolicy, ApiIncidentsPolicy, ApiLatencyPolicy
from include.sync_health.api_rules import judge_api_errors, judge_api_latency
from include.sync_health.api_window import SETTLED_AFTER, ApiWindow, judged_hours
from include.sync_health.errors import FrameError
from include.sync_health.log_calls import OPEN_FOR
from include.sync_health.observations import Observation
from include.sync_health.verdicts import ErrorClass, Severity, Verdict
from tests.sync_health.api_windows import AS_OF, state, stored, window
from tests.sync_health.call_rows import T0, Call
from tests.sync_health.frames_of import subject

HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
SUBJECTS = {"1": subject(1), "2": subject(2)}
KEY = ("production", "/customers")


def calls(good: int, bad: int = 0, **values: Any) -> list[Call]:
    """So many that succeeded and so many that failed."""
    return [Call(**values)] * good + [Call(status=503, **values)] * bad


def errors(api: ApiWindow, **known: Any) -> list[Observation]:
    """What the rule says."""
    given = {"policy": ApiErrorsPolicy(), "as_of": AS_OF, **known}
    return Observation.from_frame(judge_api_errors(api, **given))


def latency(api: ApiWindow, **known: Any) -> list[Observation]:
    """What the rule says."""
    given = {"policy": ApiLatencyPolicy(), "as_of": AS_OF, **known}
    return Observation.from_frame(judge_api_latency(api, **given))


def incidents(api: ApiWindow, **known: Any) -> list[Observation]:
    """What the rule says."""
    given = {"policy": ApiIncidentsPolicy(), "as_of": AS_OF, "subjects": SUBJECTS, **known}
    return Observation.from_frame(judge_api_incidents(api, **given))


@pytest.mark.parametrize(
    ("good", "bad", "verdict", "severity"),
    [
        pytest.param(1_000, 0, "clear", "medium", id="no error is clear"),
        pytest.param(996, 4, "clear", "medium", id="less than half a percent is clear"),
        pytest.param(995, 5, "band", "medium", id="half a percent is neither"),
        pytest.param(990, 10, "band", "medium", id="exactly one percent is neither"),
        pytest.param(989, 11, "breach", "medium", id="more than one percent is too many"),
        pytest.param(901, 99, "breach", "medium", id="less than ten percent is not high"),
        pytest.param(900, 100, "breach", "high", id="ten percent is high"),
        pytest.param(0, 100, "breach", "high", id="all of just enough calls"),
        pytest.param(0, 99, "insufficient", "high", id="ninety-nine calls prove nothing, whatever they came to"),
    ],
)
def test_errors_at_their_boundaries(good: int, bad: int, verdict: str, severity: str) -> None:
    """By the share of the hour's calls."""
    (found,) = errors(window(stored(calls(good, bad))))

    assert (str(found.verdict), str(found.severity)) == (verdict, severity)
    assert (found.identity, found.environment) == ({"environment": KEY[0], "endpoint": KEY[1]}, KEY[0])


@pytest.mark.parametrize(
    ("at", "is_judged"),
    [
        pytest.param(T0 - MICROSECOND, False, id="the hour before is over"),
        pytest.param(T0, True, id="the first instant of the judged hour"),
        pytest.param(T0 + HOUR - MICROSECOND, True, id="its last"),
        pytest.param(T0 + HOUR, False, id="the hour that runs is not whole"),
    ],
)
def test_the_last_whole_hour_is_judged(at: Any, is_judged: bool) -> None:
    """Twenty past, it is the one before."""
    api = window(stored(calls(0, 200, at=at)))

    assert bool(errors(api)) == bool(latency(api)) == is_judged


def test_a_longer_window_has_more_whole_hours() -> None:
    """Two of them, together enough."""
    rows = stored([*calls(0, 60, at=T0), *calls(0, 60, at=T0 - HOUR)])

    (found,) = errors(window(rows), policy=ApiErrorsPolicy(window=2 * HOUR))

    assert found.verdict is Verdict.BREACH
    assert found.evidence["calls"] == 120
    assert judged_hours(AS_OF, window=2 * HOUR) == (T0 - HOUR, T0 + HOUR)
    settled = T0 + HOUR + SETTLED_AFTER
    assert judged_hours(settled, window=HOUR) == (T0, T0 + HOUR), "the one whose requests have all counted"
    assert judged_hours(settled - MICROSECOND, window=HOUR) == (T0 - HOUR, T0), "a moment before, the one before it"


@pytest.mark.parametrize(
    ("p95", "verdict"),
    [
        pytest.param(3_900, "clear", id="less than four seconds is clear"),
        pytest.param(4_200, "band", id="more than four is neither"),
        pytest.param(4_850, "band", id="less than five is neither"),
        pytest.param(5_150, "breach", id="more than five is too slow"),
    ],
)
def test_latency_at_its_boundaries_within_two_percent(p95: float, verdict: str) -> None:
    """Of 200 calls, the 190th by time."""
    rows = stored([Call(ms=10.0)] * 189 + [Call(ms=float(p95))] + [Call(ms=60_000.0)] * 10)

    (found,) = latency(window(rows))

    assert str(found.verdict) == verdict
    assert found.evidence["p95_ms"] == pytest.approx(p95, rel=0.02)


@given(times=st.lists(st.floats(1, 100_000), min_size=100, max_size=150))
def test_the_percentile_that_is_judged_is_that_of_all_times(times: list[float]) -> None:
    """Whatever credentials and statuses they are spread over."""
    spread = [
        Call(ms=ms, credential="1", status=200 if number % 3 else 404, at=T0 + number * timedelta(seconds=1))
        for number, ms in enumerate(times)
    ]

    (found,) = latency(window(stored(spread)))

    assert found.evidence["p95_ms"] == pytest.approx(sorted(times)[math.ceil(0.95 * len(times)) - 1], rel=0.02, abs=1)
    assert found.evidence["timed_calls"] == len(times)
    assert found.metadata["average_ms"] == pytest.approx(sum(times) / len(times), rel=1e-6, abs=0.06)


@pytest.mark.parametrize(
    ("timed", "verdict"),
    [pytest.param(99, "insufficient", id="ninety-nine are too few"), pytest.param(100, "breach", id="a hundred tell")],
)
def test_calls_without_a_time_do_not_count_towards_latency(timed: int, verdict: str) -> None:
    """However many there are."""
    (found,) = latency(window(stored([*calls(500, ms=None), *calls(timed, ms=9_000.0)])))

    assert str(found.verdict) == verdict


@pytest.mark.parametrize(
    ("rate_limited", "verdict"),
    [
        pytest.param(4, "clear", id="less than half of ten is clear"),
        pytest.param(5, "band", id="half is neither"),
        pytest.param(9, "band", id="nine are neither"),
        pytest.param(10, "breach", id="ten are told"),
    ],
)
def test_rate_limits_at_their_boundaries(rate_limited: int, verdict: str) -> None:
    """By credential."""
    (found,) = incidents(window(stored([*calls(50), *[Call(status=429)] * rate_limited])))

    assert (str(found.verdict), str(found.severity)) == (verdict, "medium")
    assert found.identity == {"credential": "1", "kind": "rate_limit"}
    assert found.error_class is ErrorClass.RATE_LIMIT


def test_one_opening_of_a_circuit_breaker_is_told_and_is_high() -> None:
    """It is beside the rate limit, not one with it; and a second hour without is clear."""
    rows = stored([Call(status=0, ms=None)], source="log", requests=0, errors=0, circuit_opened=1)
    log = {"log": state(timed=False)}

    (found,) = incidents(window(rows, sources=log))
    (over,) = incidents(window(stored(calls(5), source="log"), sources=log), open_keys=[("1", "circuit_breaker")])

    assert (found.verdict, found.severity) == (Verdict.BREACH, Severity.HIGH)
    assert found.title == "ServiceTitan Circuit Breaker Opened"
    assert (over.verdict, over.metadata["incidents"]) == (Verdict.CLEAR, 0)


def test_a_breaker_after_which_nothing_is_called_is_not_clear() -> None:
    """While it is open nobody calls: silence is no recovery."""
    (found,) = incidents(window(), open_keys=[("1", "circuit_breaker")])

    assert found.verdict is Verdict.NO_DATA


def test_two_sources_that_tell_of_the_same_incidents_are_not_added_up() -> None:
    """The larger number speaks."""
    table = stored([Call(status=429)] * 6)
    log = stored([Call(status=0, ms=None)] * 9, source="log", rate_limited=1)

    (found,) = incidents(window(table, log, sources={"table": state(), "log": state()}))

    assert found.metadata["incidents"] == 9


def test_incidents_of_nobody_known_are_told_as_such() -> None:
    """A log line without a credential is not lost."""
    rows = stored([Call(credential="", status=429)] * 12)

    (found,) = incidents(window(rows))

    assert (found.identity["credential"], found.verdict) == ("unknown", Verdict.BREACH)


def test_an_alert_whose_credential_is_gone_closes_as_removed() -> None:
    """Neither the source nor the calls know it any more."""
    (found,) = incidents(window(stored(calls(5))), open_keys=[("9", "rate_limit")])

    assert found.verdict is Verdict.REMOVED


@pytest.mark.parametrize(
    ("sources", "verdict"),
    [
        pytest.param({"table": state()}, "clear", id="a table that was just read proves it"),
        pytest.param({"table": state("failing")}, "no_data", id="one that fails proves nothing"),
        pytest.param(
            {"table": state(looked_at=T0 + HOUR + SETTLED_AFTER)}, "clear", id="read when the hour settled is enough"
        ),
        pytest.param(
            {"table": state(looked_at=T0 + HOUR + SETTLED_AFTER - MICROSECOND)}, "no_data", id="a moment before is not"
        ),
        pytest.param({}, "no_data", id="without a source nobody knows"),
        pytest.param({"log": state()}, "no_data", id="what a table told is not what the log tells"),
    ],
)
def test_an_open_alert_needs_a_source_that_has_told_the_hour(sources: Any, verdict: str) -> None:
    """Of every rule."""
    api = window(stored(calls(500, ms=10.0)), sources=sources)

    for said in (
        errors(api, open_keys=[KEY]),
        latency(api, open_keys=[KEY]),
        incidents(api, open_keys=[("1", "rate_limit")]),
    ):
        assert [str(each.verdict) for each in said] == [verdict]


def test_open_alerts_of_what_is_not_called_any_more_have_no_data() -> None:
    """Nothing was called, and nothing proves that it would work."""
    api = window(stored(calls(500)))
    other = ("production", "/gone")

    for said in (errors(api, open_keys=[other]), latency(api, open_keys=[other])):
        assert {(each.identity["endpoint"], str(each.verdict)) for each in said} == {
            ("/customers", "clear"),
            ("/gone", "no_data"),
        }


def test_times_are_taken_from_the_log_where_the_table_has_none() -> None:
    """Errors are not."""
    table = stored(calls(200, ms=None))
    log = stored(calls(150, 50, ms=9_000.0), source="log")
    api = window(table, log, sources={"table": state(timed=False), "log": state()})

    assert [str(each.verdict) for each in latency(api)] == ["breach"]
    assert [str(each.verdict) for each in errors(api)] == ["clear"]


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        pytest.param(0, ErrorClass.TIMEOUT, id="no answer"),
        pytest.param(401, ErrorClass.AUTH, id="401"),
        pytest.param(403, ErrorClass.PERMISSION, id="403"),
        pytest.param(429, ErrorClass.RATE_LIMIT, id="429"),
        pytest.param(503, ErrorClass.SERVER, id="503"),
        pytest.param(404, ErrorClass.UNKNOWN, id="404 may be anything"),
    ],
)
def test_the_class_of_errors_is_that_of_the_commonest_status(status: int, error_class: ErrorClass) -> None:
    """Which an outage of that class explains."""
    rows = [*calls(100), Call(status=500), *[Call(status=status, ms=None)] * 3]
    (found,) = errors(window(stored(rows, errors=[int(each.status == 0 or each.status >= 400) for each in rows])))

    assert found.error_class is error_class


def test_environments_and_endpoints_are_judged_apart() -> None:
    """The sandbox's errors are not production's."""
    rows = stored([*calls(200), *calls(0, 200, credential="2"), *calls(0, 200, endpoint="/jobs")])

    assert {(each.environment, each.identity["endpoint"]): str(each.verdict) for each in errors(window(rows))} == {
        ("production", "/customers"): "clear",
        ("integration", "/customers"): "breach",
        ("production", "/jobs"): "breach",
    }


def test_errors_of_which_a_log_lost_the_requests_are_no_more_than_all() -> None:
    """A share of more than a hundred percent is none."""
    rows = stored([Call(status=500)] * 200, source="log", requests=0)

    (found,) = errors(window(rows, sources={"log": state()}))

    assert found.evidence["share_percent"] == 100


@pytest.mark.parametrize(
    ("made", "verdict", "share"),
    [
        pytest.param(50_000, "clear", 0.4, id="of many calls they are few"),
        pytest.param(1_000, "breach", 20.0, id="of few they are many"),
        pytest.param(50, "breach", 100.0, id="more than all that the log tells"),
    ],
)
def test_failures_of_which_a_log_tells_no_endpoint_are_a_share_of_all_calls(
    made: int, verdict: str, share: float
) -> None:
    """The last of several tries is logged without one: the call itself is among those of some endpoint."""
    tries = stored([Call(endpoint="", status=0, ms=None)] * 200, source="log", requests=0, errors=1)
    answered = stored([Call()], source="log", requests=made)
    sandbox = stored([Call(credential="2")], source="log", requests=1_000_000)

    found = {
        (each.environment, each.identity["endpoint"]): each
        for each in errors(window(tries, answered, sandbox, sources={"log": state()}))
    }

    said = found["production", ""]
    assert (str(said.verdict), said.evidence["share_percent"]) == (verdict, share)
    assert said.evidence["failed_calls"] == 200


def test_what_is_wrong_is_refused() -> None:
    """A naive instant, a frame of something else."""
    with pytest.raises(ValueError, match="aware"):
        errors(window(), as_of=AS_OF.replace(tzinfo=None))
    with pytest.raises(FrameError, match="endpoint"):
        ApiWindow(hours=pd.DataFrame({"hour": []}))


def test_an_hour_has_settled_when_no_request_of_it_waits_any_more() -> None:
    """What `SETTLED_AFTER` stands for."""
    assert pd.Timedelta(OPEN_FOR, unit="us") == SETTLED_AFTER
