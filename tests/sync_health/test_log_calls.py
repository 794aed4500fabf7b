"""Calls out of log lines: the fast reader against an oracle over hostile lines, and each rule of counting by itself."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.sync_health.api_calls import HOURLY_COLUMNS
from include.sync_health.endpoints import templated
from include.sync_health.log_calls import OpenCalls, close_calls, count_calls
from include.sync_health.log_events import _endpoint_of
from include.sync_health.log_reader import LineReader
from include.sync_health.log_tally import CallTally
from include.sync_health.monolog_lines import MAX_LINE_BYTES, MESSAGES, WORDS
from tests.sync_health.log_oracle import Told, calls_of

START = datetime(2026, 3, 1, 8, 58, tzinfo=UTC)
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
COUNTERS = ("requests", "errors", "retries", "rate_limited", "circuit_opened")


def counted(*blocks: bytes) -> tuple[Told, OpenCalls]:
    """Return what the product makes of blocks of one file, everything closed at their end."""
    reader, waiting, tallies = LineReader(zone=UTC), OpenCalls(), [CallTally(), CallTally()]
    number = 0
    for place, block in enumerate(blocks):
        found = count_calls(reader.read(block), waiting=waiting, tally=tallies[place % 2])
        waiting = OpenCalls.of(json.loads(json.dumps(found.open_calls.told())))
        number += found.requests
    number += close_calls(waiting, tally=tallies[0]).requests
    frames = [tally.hours() for tally in tallies]
    assert number == sum(int(frame["requests"].sum()) for frame in frames)
    told = Told(lines=Counter({name: number for name, number in reader.counts.told().items() if number}))
    for frame in frames:
        assert list(frame.columns) == list(HOURLY_COLUMNS)
        for row in frame.to_dict("records"):
            key = (row["hour"].to_pydatetime(), row["credential_id"], row["endpoint"], row["status_code"])
            for name in COUNTERS:
                if row[name]:
                    getattr(told, name)[key] += row[name]
            if row["response_count"]:
                told.times[key].append((row["response_count"], row["response_ms_sum"], row["response_ms_max"]))
                assert sum(row["buckets"].values()) == sum(row["histogram"]) == row["response_count"]
            else:
                assert pd.isna(row["response_ms_max"])
                assert row["buckets"] == {}
    return told, waiting


def require_same(found: Told, expected: Told) -> None:
    """Compare all that is counted."""
    for name in COUNTERS:
        assert getattr(found, name) == getattr(expected, name), name
    assert set(found.times) == set(expected.times)
    for key, pieces in found.times.items():
        times = expected.times[key]
        assert sum(number for number, _, _ in pieces) == len(times)
        assert sum(total for _, total, _ in pieces) == pytest.approx(sum(times))
        assert max(longest for _, _, longest in pieces) == pytest.approx(max(times))
    assert found.lines == +expected.lines


ENDPOINTS = (
    "/crm/v2/tenant/12/customers",
    "/crm/v2/tenant/9/customers/5",
    "jpm/v2/jobs/77?page=1",
    "",
    None,
    5,
    ["/a"],
)
IDS = (1, 12, "12", UUID, None, True, 1.5, "ada@example.com", -3, [], 10**30, "")
JUNK = st.sampled_from(
    (
        b"",
        b"  \r",
        b"PHP Warning: ServiceTitan API GET request",
        b"\x00\x00{}",
        b'{"message":"ServiceTitan API GET request"',
        b'{"message":"ServiceTitan API GET request"}}',
        b'{"message":"ServiceTitan API GET request","context":{"params":{"a":1},"credential_id":1},"datetime":"x"}',
        b'{"message":"ServiceTitan API GET request","context":{"params":{"a":1}},{"b":2},"credential_id":1},'
        b'"datetime":"2026-03-01T08:59:00.000000+00:00"}',
        b'{"message":"ServiceTitan API GET request","context":{"params":{"x":NaN},"credential_id":1},'
        b'"datetime":"2026-03-01T08:59:00.000000+00:00","extra":{}}',
        b'{"message":"ServiceTitan API GET request","context":{"endpoint":"\xff"},"datetime":"2026"}',
        b'{"message":"ServiceTitan API GET request","datetime":"2026-03-01T08:59:00.000000+00:00","zzz":"\xff"}',
        b'{"message":"\\u0053erviceTitan API GET request","datetime":"2026-03-01T08:59:00.000000+00:00"}',
        b'{"message":"ServiceTitan API GET request","datetime":"2026-03-01T08:59:00.000000+00:00",'
        b'"message":"something else"}',
        b'{"message":"ServiceTitan API GET request","context":{"credential_id":1},'
        b'"datetime":"2026-03-01T08:59:00.000000+00:00","extra":{},"context":{"credential_id":2}}',
        b'{"context":{"datetime":"2026-03-01T08:59:00.000000+00:00"},"message":"ServiceTitan API GET request",'
        b'"extra":{"datetime":"2026-03-01T08:59:00.000000+00:00"}}',
        b'{"message":"ServiceTitan API GET request","datetime":"2026-03-01T08:59:00.000000+00:00","datetime":"no"}',
        b'{"message":"ServiceTitan API GET request","datetime":"2026-03-01T08:59:00.00000\\u0030+"}',
        b'{"message":"ServiceTitan API GET request","context":"ServiceTitan","datetime":"2026-03-01T08:59:00Z"}',
        b'["ServiceTitan API GET request",7]',
        b"[]",
        b"null",
        b'{"message":["ServiceTitan API GET request"]}',
        b'{"message":"See /12: ServiceTitan API GET request","datetime":"2026-03-01T08:59:00.000000+00:00"}',
    )
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Return one line, at a time that comes with its place."""
    if draw(st.integers(0, 4)) == 0:
        return draw(JUNK)
    value: dict[str, Any] = {"message": draw(st.sampled_from((*MESSAGES, "Something else of ServiceTitan API")))}
    context: dict[str, Any] = {}
    for names, values in (
        (("endpoint", "api_endpoint"), st.sampled_from(ENDPOINTS[:2] * 4 + ENDPOINTS)),
        (("params",), st.sampled_from(({}, [], {"page": 1}, {"a": {"credential_id": 5}}, "x"))),
        (("method",), st.sampled_from(("GET", "GET", "get ", "POST", "BREW", 5))),
        (("status_code", "response_code"), st.sampled_from((200, 200, 404, "503", 42, "5", None, True))),
        (("credential_id", "credentialId"), st.sampled_from((1, 1, 1, 12, *IDS))),
        (
            ("duration_ms", "response_time", "duration", "sync_duration"),
            st.sampled_from((5, 0.25, -1, "7", None, 10**25, 1e300)),
        ),
    ):
        if draw(st.integers(0, 5 if "params" in names or len(names) == 4 else 7)) < (2 if len(names) == 4 else 5):
            context[draw(st.sampled_from(names))] = draw(values)
    value["context"] = draw(st.sampled_from((context, context, context, context, [], {}, None, "x")))
    value["datetime"] = None
    value["extra"] = draw(
        st.sampled_from(({"process_id": 7}, {"process_id": 7}, {"process_id": 8}, {}, [], None))
        | st.fixed_dictionaries(
            {"pid": st.sampled_from((7, "a b", None)), "hostname": st.sampled_from(("web1", "", 5))}
        )
    )
    for name in draw(st.lists(st.sampled_from(("extra", "context", "channel")), max_size=1)):
        value.pop(name, None)
    if draw(st.integers(0, 6)) == 0:
        value = dict(draw(st.permutations(list(value.items()))))
    text = json.dumps(value, separators=draw(st.sampled_from(((",", ":"), (",", ":"), (", ", ": ")))))
    if draw(st.integers(0, 9)) == 0:
        text = f"[{text}]"
    line = text.replace('"datetime":null', '"datetime":@').replace('"datetime": null', '"datetime": @').encode()
    if draw(st.integers(0, 14)) == 0:
        line = line[: draw(st.integers(0, len(line)))]
    if draw(st.integers(0, 14)) == 0:
        place = draw(st.integers(0, len(line)))
        line = (
            line[:place]
            + draw(st.sampled_from((b'"', b"\\", b"\xff", b"}", b"\x01", b"1", "é".encode())))
            + line[place:]
        )
    return line


@st.composite
def files(draw: st.DrawFn) -> list[bytes]:
    """Return lines with times that rise."""
    at, found = START, []
    for line in draw(st.lists(lines(), max_size=14)):
        at += timedelta(milliseconds=draw(st.integers(0, 40_000)))
        moment = draw(
            st.sampled_from(
                (
                    f'"{at:%Y-%m-%dT%H:%M:%S.%f}+00:00"',
                    f'"{at:%Y-%m-%dT%H:%M:%S.%f}+00:00"',
                    f'"{at + timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%f}+02:00"',
                    f'"{at:%Y-%m-%dT%H:%M:%S}+00:00"',
                    f'"{at:%Y-%m-%d %H:%M:%S.%f}"',
                    f'{{"date":"{at:%Y-%m-%d %H:%M:%S.%f}","timezone_type":3,"timezone":"UTC"}}',
                    f'{{"date":"{at - timedelta(hours=5):%Y-%m-%d %H:%M:%S.%f}","timezone_type":1,"timezone":"-05:00"}}',
                    f'"{at:%Y-%m-%dT%H:61:%S.%f}+00:00"',
                    '"2026-02-30T08:00:00.000000+00:00"',
                    "5",
                )
            )
        )
        found.append(line.replace(b"@", moment.encode(), 1))
    return found


@given(given_lines=files(), cuts=st.sets(st.integers(0, 14), max_size=4))
@example(given_lines=[b"{" * 5_000 + b'"ServiceTitan API"'], cuts=set())
def test_the_reader_agrees_with_the_oracle_however_the_file_is_cut(given_lines: list[bytes], cuts: set[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(given_lines)), len(given_lines)]
    blocks = [b"".join(line + b"\n" for line in given_lines[first:last]) for first, last in itertools.pairwise(bounds)]
    found, _ = counted(*blocks)

    require_same(found, calls_of(b"".join(blocks)))


@given(st.text(alphabet="/a1?#v-&:% ", max_size=30) | st.text(max_size=20))
def test_a_number_in_a_path_is_like_any_other(endpoint: str) -> None:
    assert _endpoint_of(endpoint) == templated(endpoint)


@pytest.mark.parametrize("message", MESSAGES)
def test_no_message_that_counts_is_passed_over_unread(message: str) -> None:
    assert any(word in message.encode() for word in WORDS)


def line(message: str, *, second: float = 0.0, extra: Any = None, **context: Any) -> bytes:
    """Return one line."""
    at = START + timedelta(seconds=second)
    value = {
        "message": message,
        "context": context,
        "datetime": at.isoformat(timespec="microseconds"),
        "extra": extra or {},
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


GET, ANSWER = "ServiceTitan API GET request", "ServiceTitan API response processed"
HERE = {"endpoint": "/customers", "credential_id": 1}
SPENT, LOST = "ServiceTitan API request failed after all retries", "ServiceTitan API GET request failed"
PID = {"process_id": 7}


def request(second: float = 0.0, **named: Any) -> bytes:
    """Return the line of a request."""
    return line(GET, second=second, **{**HERE, **named})


def answer(second: float, status: int = 200, **named: Any) -> bytes:
    """Return the line of an answer."""
    return line(ANSWER, second=second, **{**HERE, "method": "GET", "status_code": status, **named})


@pytest.mark.parametrize(
    ("log", "statuses", "times", "errors"),
    [
        pytest.param([request(), answer(2)], {200: 1}, [2_000], 0, id="a request takes the status of its answer"),
        pytest.param([request()], {0: 1}, [], 0, id="without answers no status and no time, which is not 0"),
        pytest.param([answer(2)], {}, [], 0, id="an answer without its request is no call"),
        pytest.param([request(), answer(2, 404)], {404: 1}, [2_000], 1, id="an answer of 404 is an error"),
        pytest.param([request(), answer(2, duration_ms=70)], {200: 1}, [70], 0, id="milliseconds that are told"),
        pytest.param([request(), answer(2, duration=0.5)], {200: 1}, [500], 0, id="seconds that are told"),
        pytest.param([request(), answer(2, response_time=80)], {200: 1}, [80], 0, id="the story's milliseconds"),
        pytest.param([request(), answer(900)], {200: 1}, [900_000], 0, id="exactly as long as a request may wait"),
        pytest.param([request(), answer(900.001)], {0: 1}, [], 0, id="longer than a request may wait"),
        pytest.param([request(5), answer(2)], {0: 1}, [], 0, id="an answer from before its request is none of it"),
        pytest.param(
            [request(), request(1), answer(2), answer(3)], {0: 1, 200: 1}, [], 0, id="two at once without a process"
        ),
        pytest.param(
            [request(), request(1, extra=PID), answer(2), answer(3, extra=PID)],
            {200: 2},
            [2_000, 2_000],
            0,
            id="two at once in processes of their own",
        ),
        pytest.param(
            [request(extra=PID), request(5, extra=PID), answer(6, extra=PID)],
            {0: 1, 200: 1},
            [1_000],
            0,
            id="a process that asks again had no answer",
        ),
        pytest.param([request(), line(LOST, second=1, **HERE)], {0: 1}, [], 1, id="a call that came to nothing"),
        pytest.param(
            [request(), line(SPENT, credential_id=1), line(LOST, second=1, **HERE)],
            {0: 1},
            [],
            1,
            id="the last try and the call that it ends are one error",
        ),
        pytest.param([request(), line(SPENT, credential_id=1)], {0: 1}, [], 1, id="the last try alone"),
        pytest.param(
            [request(), line(SPENT, credential_id=1), line(LOST, second=1, **HERE | {"credential_id": 2})],
            {0: 1},
            [],
            2,
            id="the last try of one credential and a failure of another",
        ),
        pytest.param(
            [line("ServiceTitan API error", api_endpoint="/x", response_code=500)],
            {},
            [],
            1,
            id="an error with a status",
        ),
        pytest.param(
            [request(), answer(1), line("Failed to decode ServiceTitan API response", second=1, **HERE)],
            {200: 1},
            [1_000],
            1,
            id="an answer that is no JSON",
        ),
    ],
)
def test_calls_are_counted(log: list[bytes], statuses: dict[int, int], times: list[float], errors: int) -> None:
    for blocks in ([b"".join(log)], log):
        told, _ = counted(*blocks)
        by_status: Counter[int] = Counter()
        for (*_, status), number in told.requests.items():
            by_status[status] += number
        pieces = [piece for found in told.times.values() for piece in found]
        assert by_status == Counter(statuses)
        assert sum(number for number, _, _ in pieces) == len(times)
        assert sum(total for _, total, _ in pieces) == pytest.approx(sum(times))
        assert sum(told.errors.values()) == errors


@pytest.mark.parametrize(
    ("message", "counters"),
    [
        ("ServiceTitan API rate limit exceeded", {"rate_limited": 1}),
        ("Rate limited, waiting before retry", {"rate_limited": 1}),
        ("ServiceTitan API rate limited, waiting before retry", {}),
        ("Rate limit throttling applied", {}),
        ("Waiting before retry due to server error", {}),
        ("ServiceTitan API request failed, retrying", {"retries": 1}),
        ("Circuit breaker opened", {"circuit_opened": 1}),
        ("Circuit breaker reset to closed state", {}),
    ],
)
def test_an_incident_counts_once(message: str, counters: dict[str, int]) -> None:
    told, _ = counted(line(message, credential_id=1))

    assert {name: sum(getattr(told, name).values()) for name in COUNTERS if getattr(told, name)} == counters


def test_a_line_above_the_limit_is_passed_over_and_counted() -> None:
    whole = request()
    padded = whole[:-2] + b"," + b'"x":"' + b"y" * MAX_LINE_BYTES + b'"}\n'

    told, _ = counted(whole + padded + whole)

    assert sum(told.requests.values()) == 2
    assert told.lines["too_long"] == 1


def test_what_waits_holds_no_id_of_a_customer() -> None:
    reader = LineReader(zone=UTC)
    found = count_calls(
        reader.read(request(endpoint="/crm/v2/tenant/77/customers/4711?mail=a@b.example")),
        waiting=OpenCalls(),
        tally=CallTally(),
    )

    assert json.dumps(found.open_calls.told()["requests"]).count("4711") == 0
    assert found.open_calls.requests[0][:2] == ("1", "/crm/v2/tenant/{id}/customers/{id}")
