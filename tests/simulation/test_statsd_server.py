"""The StatsD of the tests understands what Airflow sends, and refuses what a real one would misread."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from statsd import StatsClient

from include.simulation.statsd_server import Line, StatsdServer, parse_line


@pytest.fixture
def server() -> Iterator[StatsdServer]:
    """A listener."""
    with StatsdServer() as server:
        yield server


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("a.b:1|c", Line(name="a.b", tags={}, kind="counter", value=1)),
        ("a,x=1,y=b/c:2.5|ms", Line(name="a", tags={"x": "1", "y": "b/c"}, kind="timing", value=2.5)),
        ("a:7|g", Line(name="a", tags={}, kind="gauge", value=7)),
        ("a:-7|g", Line(name="a", tags={}, kind="gauge", value=-7, is_change=True)),
        ("a:1e-05|g", Line(name="a", tags={}, kind="gauge", value=0.00001)),
    ],
    ids=["a counter", "a timing with tags", "a gauge", "a gauge with a sign is a change", "a number in short form"],
)
def test_a_line_says_what_it_says(line: str, parsed: Line) -> None:
    """Name, tags, kind and value."""
    assert parse_line(line) == parsed


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a:1",
        "a:|c",
        "a:x|c",
        "a:1|q",
        "a:1|c|@0.1",
        ":1|c",
        "a,:1|c",
        "a,x:1|c",
        "a,x=:1|c",
        "a,x=1=2:1|c",
        "a,x=1,x=2:1|c",
        "a:nan|g",
        "a:inf|g",
        "a:-1|ms",
        "a:1|c,x=1",
        "a:1:2|c",
    ],
)
def test_a_malformed_line_is_refused(line: str) -> None:
    """An empty tag, a tag twice, no number, sampling: none of it is guessed at."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_line(line)


@pytest.mark.parametrize("line", ["", "a b:1|c", "a,x=b c:1|c", "a: 1|c"])
def test_spaces_are_refused(line: str) -> None:
    """And so is nothing at all."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_line(line)


@pytest.fixture
def client(server: StatsdServer) -> Iterator[StatsClient]:
    """The client that Airflow has."""
    client = StatsClient(server.host, server.port, prefix="p")
    yield client
    client.close()


def test_a_real_client_is_understood(server: StatsdServer, client: StatsClient) -> None:
    """Several lines in a datagram, a negative gauge as a 0 and a change, and lines in their order."""
    client.incr("hits,at=home", 3)
    client.incr("hits,at=home", 4)
    client.gauge("left", 12)
    client.gauge("left", -5)
    client.timing("took", 1.5)
    client.timing("took", 2)

    assert server.counters() == {("p.hits", (("at", "home"),)): 7}
    assert server.gauges("p.") == {("p.left", ()): -5}
    assert server.timings("p.took") == {("p.took", ()): [1.5, 2.0]}
    assert server.refused() == []


def test_what_is_malformed_is_kept_with_its_reason(server: StatsdServer) -> None:
    """And the other lines of its datagram count."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"bad\ngood:1|c\n\xff:1|c\nhuge:9e999|g", (server.host, server.port))

    assert [line.name for line in server.lines()] == ["good"]
    assert [line for line, _ in server.refused()] == ["bad", "\\xff:1|c", "huge:9e999|g"]


def test_it_forgets(server: StatsdServer, client: StatsClient) -> None:
    """What came before is gone."""
    client.incr("hits")
    server.forget()
    client.incr("more")

    assert [line.name for line in server.lines()] == ["p.more"]
