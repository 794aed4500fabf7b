"""Probes: whom they call, whom they never call, and that each credential has its turn."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration import api_probe
from include.orchestration.api_probe import LOOKUPS, TURN, in_turn, run_probes
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.api_probes import ProbeResult
from include.sync_health.errors import FrameError
from include.sync_health.verdicts import ErrorClass

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def credentials(*ids: int | str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "credential_id": list(ids),
            "environment": pd.Categorical(["production"] * len(ids), ["production", "integration", "unknown"]),
            "company_id": [f"c{each}" for each in ids],
        }
    )


def probe(frame: pd.DataFrame, **changes: Any) -> list[ProbeResult]:
    arguments: dict[str, Any] = {"sample": 3, "timeout": timedelta(seconds=10), "now": NOW, "salt": "a"}
    return run_probes(frame, **(arguments | changes))


@pytest.fixture
def server() -> Iterator[ServiceTitanServer]:
    with ServiceTitanServer() as server:
        yield server


@pytest.fixture
def configure(server: ServiceTitanServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives credentials a connection to the server; ``changes`` are to its fields."""

    def give(*ids: int | str, **changes: Any) -> None:
        values = {
            "conn_type": "servicetitan",
            "login": server.client.client_id,
            "password": server.client.client_secret,
            "extra": server.extra(),
        }
        for each in ids:
            monkeypatch.setenv(f"AIRFLOW_CONN_SERVICETITAN_{each}".upper(), json.dumps(values | changes))

    return give


# --- who is called ---


def test_without_a_connection_nothing_is_ever_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert probe(credentials(*range(1, 51))) == []


def test_without_a_connection_no_http_client_is_even_loaded() -> None:
    script = (
        "import sys, datetime, pandas as pd\n"
        "from include.orchestration.api_probe import run_probes\n"
        "frame = pd.DataFrame({'credential_id': [1], 'environment': ['production'], 'company_id': [1]})\n"
        "now = datetime.datetime.now(datetime.UTC)\n"
        "print(run_probes(frame, sample=3, timeout=datetime.timedelta(seconds=1), now=now, salt=''))\n"
        "print('httpx' in sys.modules, 'airflow' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert told.stdout.splitlines() == ["[]", "False False"]


def test_only_credentials_with_a_connection_are_called(
    server: ServiceTitanServer, configure: Callable[..., None]
) -> None:
    configure(2, 5)
    results = probe(credentials(1, 2, 3, 4, 5))

    assert {result.credential_id for result in results} == {"2", "5"}
    assert [result.status for result in results] == ["success", "success"]
    assert len(server.called("api")) == 2


def test_a_result_bears_its_credential_and_the_instant_of_the_run(configure: Callable[..., None]) -> None:
    uuid = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    configure(uuid)
    (result,) = probe(credentials(uuid))

    assert (result.credential_id, result.company_id, result.environment) == (uuid, f"c{uuid}", "production")
    assert result.at == NOW
    assert result.response_ms is not None


def test_no_more_than_the_sample_are_called(server: ServiceTitanServer, configure: Callable[..., None]) -> None:
    configure(*range(1, 8))

    assert len(probe(credentials(*range(1, 8)))) == 3
    assert len(server.called("api")) == 3
    assert probe(credentials(*range(1, 8)), sample=0) == []


def test_each_probe_makes_one_try(server: ServiceTitanServer, configure: Callable[..., None]) -> None:
    configure(1)
    server.fail_next(status=503, title="Service Unavailable", times=5)
    (result,) = probe(credentials(1))

    assert (result.error_class, result.status_code) == (ErrorClass.SERVER, 503)
    assert server.called("api") == [503]


def test_one_that_fails_keeps_no_other_from_its_turn(
    server: ServiceTitanServer, configure: Callable[..., None]
) -> None:
    configure(1, 2, 3)
    server.fail_next(mode="reset")
    results = probe(credentials(1, 2, 3))

    assert Counter(result.error_class for result in results) == {ErrorClass.TIMEOUT: 1, None: 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"extra": {"app_key": "x"}}, "needs the tenant's number", id="something is missing"),
        pytest.param({"conn_type": "http"}, "give it conn_type servicetitan", id="it is of another type"),
        pytest.param({"port": "many"}, "port must be a whole number", id="it cannot be read"),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_and_not_called(
    server: ServiceTitanServer, configure: Callable[..., None], changes: Mapping[str, Any], words: str
) -> None:
    configure(1, **changes)
    (result,) = probe(credentials(1))

    assert (result.status, result.error_class) == ("error", ErrorClass.VALIDATION)
    assert (result.credential_id, result.endpoint, result.status_code) == ("1", None, None)
    assert words in (result.error or "")
    assert server.calls == []


def test_the_shorter_time_of_the_policy_and_the_connection_counts(
    server: ServiceTitanServer, configure: Callable[..., None]
) -> None:
    configure(1, extra=server.extra(timeout=0.3))
    server.fail_next(mode="hang")
    (result,) = probe(credentials(1))
    assert (result.error or "").endswith("no answer within 0.3 s")

    configure(1, extra=server.extra(timeout=50))
    server.fail_next(mode="hang")
    (result,) = probe(credentials(1), timeout=timedelta(seconds=0.2))
    assert (result.error or "").endswith("no answer within 0.2 s")


@pytest.mark.parametrize(
    ("seconds", "timeout", "probed"),
    [
        pytest.param([0, 0, 45, 50, 50.1], 10, 3, id="one that ends with the box still begins"),
        pytest.param([0, 0, 45, 50.1], 10, 2, id="one that might outlast it does not"),
        pytest.param([0, 0, 1], 120, 1, id="the first begins whatever its time"),
        pytest.param([0, 60], 10, 0, id="none begins once the box is over, however long looking up took"),
    ],
)
def test_a_run_is_boxed_in_time(
    server: ServiceTitanServer,
    configure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    timeout: float,
    probed: int,
) -> None:
    configure(1, 2, 3, 4)
    monkeypatch.setattr(api_probe, "time", _Steps(iter(seconds)))

    assert len(probe(credentials(1, 2, 3, 4), timeout=timedelta(seconds=timeout))) == probed
    assert len(server.called("api")) == probed


class _Steps:
    """A clock that tells one time after the other."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        return next(self._seconds)


def test_a_frame_without_its_columns_and_a_naive_time_are_refused() -> None:
    with pytest.raises(FrameError, match="company_id"):
        probe(credentials(1).drop(columns="company_id"))
    with pytest.raises(ValueError, match="timezone-aware"):
        probe(credentials(1), now=datetime(2026, 7, 1))  # noqa: DTZ001 - what is refused


def test_none_to_probe_is_an_empty_list() -> None:
    assert probe(credentials()) == []


def test_tokens_are_kept_from_run_to_run(server: ServiceTitanServer, configure: Callable[..., None]) -> None:
    configure(1)
    for minute in range(3):
        probe(credentials(1), now=NOW + timedelta(minutes=minute))

    assert server.called("token") == [200]


# --- whose turn it is ---


def test_the_same_salt_chooses_the_same_and_another_one_others() -> None:
    ids = [str(number) for number in range(40)]

    assert in_turn(ids, now=NOW, salt="a") == in_turn(list(reversed(ids)), now=NOW, salt="a")
    assert in_turn(ids, now=NOW, salt="a") != in_turn(ids, now=NOW, salt="b")


def test_by_the_salt_alone_every_credential_is_among_the_first_three_now_and_then() -> None:
    ids = [str(number) for number in range(20)]
    ticks = (NOW + TURN * tick for tick in range(200))

    assert {each for tick in ticks for each in in_turn(ids, now=tick, salt=tick.isoformat())[:3]} == set(ids)


def test_the_one_that_was_never_probed_comes_first_then_the_oldest() -> None:
    probed = {"a": NOW - timedelta(hours=1), "b": NOW - timedelta(hours=3), "c": NOW - timedelta(hours=2)}

    assert in_turn(["a", "b", "c", "d"], now=NOW, salt="x", probed=probed) == ["d", "b", "c", "a"]


@given(
    count=st.integers(1, 30),
    sample=st.integers(1, 5),
    start=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_with_memory_nobody_waits_longer_than_a_whole_round(count: int, sample: int, start: datetime) -> None:
    ids = [str(number) for number in range(count)]
    probed: dict[str, datetime] = {}
    now = start.replace(tzinfo=UTC)
    for _ in range(-(-count // sample)):
        for each in in_turn(ids, now=now, salt=now.isoformat(), probed=probed, environ={})[:sample]:
            probed[each] = now
        now += TURN

    assert set(probed) == set(ids)


@given(count=st.integers(0, 5 * LOOKUPS), start=st.integers(0, 4 * 10**9))
def test_all_are_looked_at_within_a_round_and_never_more_than_so_many_at_once(count: int, start: int) -> None:
    ids = [str(number) for number in range(count)]
    looked: set[str] = set()
    first = datetime.fromtimestamp(start, UTC)
    for tick in range(-(-count // LOOKUPS)):
        now = first + TURN * tick
        turn = in_turn(ids, now=now, salt="s", environ={})
        assert len(turn) == len(set(turn)) == min(count, LOOKUPS)
        looked |= set(turn)

    assert looked == set(ids)


def test_those_that_are_known_to_have_a_connection_are_looked_at_every_time() -> None:
    ids = [str(number) for number in range(1000)]
    environ = {"AIRFLOW_CONN_SERVICETITAN_17": "x"}
    for tick in range(20):
        now = NOW + TURN * tick
        turn = in_turn(ids, now=now, salt=str(tick), probed={"23": NOW}, environ=environ)
        assert {"17", "23"} <= set(turn)
        assert len(turn) <= LOOKUPS + 2
        # Its turn comes after those of which nobody knows yet: they may be new.
        assert turn[-1] == "23"


def test_one_that_is_gone_is_not_looked_at() -> None:
    assert in_turn(["1"], now=NOW, salt="", probed={"2": NOW}, environ={"AIRFLOW_CONN_SERVICETITAN_3": "x"}) == ["1"]
