"""
A StatsD that runs on this machine: real UDP on 127.0.0.1, every line parsed with its tags, and what is malformed refused.

It speaks the original protocol (https://github.com/statsd/statsd/blob/master/docs/metric_types.md) with InfluxDB's tags
(``name,tag=value:1|c``), as Airflow sends them. A gauge with a sign is a change of the one before it.
"""

from __future__ import annotations

import math
import re
import socket
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
BUFFER_BYTES = 8 * 1024 * 1024
DATAGRAM_BYTES = 65_535

KINDS = {"c": "counter", "g": "gauge", "ms": "timing"}

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TAG = re.compile(r"([A-Za-z0-9_.-]+)=([A-Za-z0-9_./-]+)")
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.IGNORECASE)
_SENTINEL = "sentinel."

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name, and its tags by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that was understood; ``is_change`` of a gauge that was sent with a sign."""

    name: str
    tags: Mapping[str, str]
    kind: str
    value: float
    is_change: bool = False

    @property
    def series(self) -> Series:
        """What it speaks of."""
        return self.name, tuple(sorted(self.tags.items()))


def parse_line(line: str) -> Line:
    """
    Return what a line says.

    Raises:
        ValueError: it is malformed; says why. Sampling (``|@0.1``) is refused too: nothing of ours samples.
    """
    name_and_tags, colon, rest = line.partition(":")
    name, *tags = name_and_tags.split(",")
    if not colon or not _NAME.fullmatch(name):
        raise ValueError("no name before a colon")
    value, *kind = rest.split("|")
    if len(kind) != 1 or kind[0] not in KINDS:
        raise ValueError(f"the type is none of {', '.join(KINDS)}")
    found = [_TAG.fullmatch(tag) for tag in tags]
    if any(match is None for match in found):
        raise ValueError("a tag is no name=value")
    pairs = [(str(match[1]), str(match[2])) for match in found if match is not None]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a tag comes twice")
    number = _NUMBER.fullmatch(value)
    if number is None or (number[1] and kind[0] == "ms"):
        raise ValueError("the value is no number of its type")
    return Line(
        name=name,
        tags=dict(pairs),
        kind=KINDS[kind[0]],
        value=float(value),
        is_change=bool(number[1]) and kind[0] == "g",
    )


class StatsdServer:
    """
    A simulated StatsD; also a context manager.

    Args:
        port: 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.host = HOST
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((HOST, port))
        self.port: int = self._socket.getsockname()[1]
        self._seen = threading.Condition()
        self._sentinels: set[str] = set()
        self._lines: list[Line] = []
        self._refused: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True, name="statsd")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Listen no more."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (self.host, self.port))
        self._thread.join()
        self._socket.close()

    def lines(self, prefix: str = "") -> list[Line]:
        """Return the lines received up to now whose name has the prefix, in their order; see `settle`."""
        self.settle()
        with self._seen:
            return [line for line in self._lines if line.name.startswith(prefix)]

    def refused(self) -> list[tuple[str, str]]:
        """Return the malformed lines, each with why."""
        self.settle()
        with self._seen:
            return list(self._refused)

    def forget(self) -> None:
        """Drop what was received up to now."""
        self.settle()
        with self._seen:
            self._lines.clear()
            self._refused.clear()

    def counters(self, prefix: str = "") -> dict[Series, float]:
        """Return what each counter rose by."""
        found: dict[Series, float] = {}
        for line in self.lines(prefix):
            if line.kind == "counter":
                found[line.series] = found.get(line.series, 0.0) + line.value
        return found

    def gauges(self, prefix: str = "") -> dict[Series, float]:
        """Return the last value of each gauge."""
        found: dict[Series, float] = {}
        for line in self.lines(prefix):
            if line.kind == "gauge":
                found[line.series] = (found.get(line.series, 0.0) if line.is_change else 0.0) + line.value
        return found

    def timings(self, prefix: str = "") -> dict[Series, list[float]]:
        """Return the observations of each timing, in milliseconds and in their order."""
        found: dict[Series, list[float]] = {}
        for line in self.lines(prefix):
            if line.kind == "timing":
                found.setdefault(line.series, []).append(line.value)
        return found

    def settle(self) -> None:
        """
        Wait until everything that was sent before this call is received.

        Datagrams on one machine come in the order in which they were sent: a sentinel follows them.

        Raises:
            TimeoutError: it does not come back.
        """
        sentinel = f"{_SENTINEL}{uuid.uuid4().hex}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(sentinel.encode(), (self.host, self.port))
        with self._seen:
            if not self._seen.wait_for(lambda: sentinel in self._sentinels, timeout=30):
                raise TimeoutError("the listener does not answer")

    def _listen(self) -> None:
        while datagram := self._socket.recv(DATAGRAM_BYTES):
            text = datagram.decode("utf-8", "backslashreplace")
            with self._seen:
                if text.startswith(_SENTINEL):
                    self._sentinels.add(text)
                    self._seen.notify_all()
                    continue
                for line in text.split("\n"):
                    self._take(line)

    def _take(self, line: str) -> None:
        try:
            parsed = parse_line(line)
            if not math.isfinite(parsed.value):
                raise ValueError("the value is infinite")
        except ValueError as error:
            self._refused.append((line, str(error)))
        else:
            self._lines.append(parsed)
