"""Which source is believed, and what stands where none is."""

from __future__ import annotations

import pytest

from include.sync_health.api_availability import SWITCH_ON, ApiMeasure, source_of

CALLS, TIMES = ApiMeasure.CALLS, ApiMeasure.RESPONSE_TIMES
LIMITS, CIRCUITS = ApiMeasure.RATE_LIMITS, ApiMeasure.CIRCUIT_OPENINGS
TIMED = {"table": True, "log": False, "probe": True}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param(
            ["table", "log", "probe"], ["table", "table", "table", "log"], id="the table knows each call once"
        ),
        pytest.param(["table"], ["table", "table", "table", None], id="but of no circuit breaker"),
        pytest.param(["log", "probe"], ["log", "probe", "log", "log"], id="a log has no times, our probe has"),
        pytest.param(["log"], ["log", None, "log", "log"], id="without a probe they are unavailable"),
        pytest.param(["probe"], ["probe", "probe", None, None], id="a probe says nothing of the application's limits"),
        pytest.param([], [None, None, None, None], id="nothing"),
    ],
)
@pytest.mark.parametrize("status", ["available", "failing"])
def test_one_source_is_believed_for_each_measure(status: str, there: list[str], expected: list[str | None]) -> None:
    """And one that fails at present has told what it told."""
    statuses = {source: status if source in there else "unavailable" for source in TIMED}
    assert [source_of(each, statuses=statuses, timed=TIMED) for each in (CALLS, TIMES, LIMITS, CIRCUITS)] == expected


def test_times_are_of_a_source_that_has_them() -> None:
    statuses = {"table": "available", "log": "available", "probe": "available"}
    assert source_of(TIMES, statuses=statuses, timed={"table": False, "log": True, "probe": True}) == "log"
    assert source_of(TIMES, statuses=statuses, timed={"table": False, "log": False, "probe": False}) is None
    assert source_of(TIMES, statuses=statuses, timed={}) is None


def test_a_source_that_nobody_looked_for_is_not_there() -> None:
    assert [source_of(each, statuses={}, timed={}) for each in ApiMeasure] == [None] * len(ApiMeasure)


@pytest.mark.parametrize("measure", list(ApiMeasure))
def test_each_sentence_names_what_can_be_switched_on_for_it(measure: ApiMeasure) -> None:
    """Exactly the sources that would be believed if they were there."""
    words = {"table": "servicetitan_api_calls", "log": "api_calls.logs", "probe": "servicetitan_<credential id>"}
    for source, word in words.items():
        would_tell = source_of(measure, statuses={source: "available"}, timed={source: source != "log"}) == source
        assert (word in SWITCH_ON[measure]) == would_tell
    assert SWITCH_ON[measure].endswith("see docs/api-calls.md.")
