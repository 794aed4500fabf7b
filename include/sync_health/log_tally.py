"""What several blocks of a log come to, gathered as arrays and summed by hour once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.api_calls import COUNTS, no_hours
from include.sync_health.monolog_times import HOUR
from include.sync_health.response_times import HISTOGRAM_MS, LONGEST_MS, buckets_of

Array = NDArray[np.int64]

_STATUSES = 600

_Rows = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int16], NDArray[np.int8]]
"""Hours since 1970, codes of credentials and endpoints, statuses, `Counter`; narrow, for there are millions of them."""


class Counter(IntEnum):
    """What something that happened counts as: the places of `COUNTS`, and an answer that is timed."""

    REQUESTS = 0
    ERRORS = 1
    RETRIES = 2
    RATE_LIMITED = 3
    CIRCUIT_OPENED = 4
    TIMED = 5


@dataclass(frozen=True, slots=True)
class Names:
    """The texts that codes stand for, by text."""

    credentials: dict[str, int]
    endpoints: dict[str, int]
    writers: dict[str, int]

    @classmethod
    def of(cls, credentials: Iterable[str], endpoints: Iterable[str], writers: Iterable[str]) -> Names:
        """Return names whose codes are the places of the texts."""
        return cls(*({name: code for code, name in enumerate(each)} for each in (credentials, endpoints, writers)))

    def credential(self, name: str) -> int:
        """Return the code of a credential, a new one where it has none."""
        return self.credentials.setdefault(name, len(self.credentials))

    def endpoint(self, name: str) -> int:
        """Return the code of an endpoint, a new one where it has none."""
        return self.endpoints.setdefault(name, len(self.endpoints))

    def writer(self, name: str) -> int:
        """Return the code of a writer, a new one where it has none."""
        return self.writers.setdefault(name, len(self.writers))


@dataclass(slots=True)
class Happened:
    """What is to be counted: as what, when (microseconds since 1970), whose, where, with which status."""

    pieces: list[tuple[Counter, Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, counter: Counter, at: Any, credential: Any, endpoint: Any, status: Any = 0) -> None:
        """Add some of one kind; one value of a column stands for all."""
        at = np.asarray(at, np.int64)
        columns = [np.broadcast_to(np.asarray(each, np.int64), at.shape) for each in (credential, endpoint, status)]
        self.pieces.append((counter, at, columns[0], columns[1], columns[2]))

    def __len__(self) -> int:
        return sum(len(piece[1]) for piece in self.pieces)


class CallTally:
    """Gathers what is counted, until it is asked for."""

    def __init__(self) -> None:
        self._names = Names.of((), (), ())
        self._rows: list[_Rows] = []
        self._times: list[NDArray[np.float64]] = []

    def add(self, happened: Happened, names: Names, times: NDArray[np.float64]) -> None:
        """
        Add what happened.

        Args:
            happened: with the codes of ``names``.
            names: of credentials and endpoints.
            times: milliseconds, not negative, of what counts as `Counter.TIMED`, in that order.
        """
        pieces = happened.pieces
        if not len(happened):
            return
        at, credential, endpoint, status = (
            np.concatenate([piece[place] for piece in pieces]).astype(np.int64) for place in range(1, 5)
        )
        credentials = np.array([self._names.credential(name) for name in names.credentials], np.int32)
        endpoints = np.array([self._names.endpoint(name) for name in names.endpoints], np.int32)
        counter = np.concatenate([np.full(len(piece[1]), piece[0], np.int8) for piece in pieces])
        hour = (at // HOUR).astype(np.int32)
        self._rows.append((hour, credentials[credential], endpoints[endpoint], status.astype(np.int16), counter))
        self._times.append(times)

    def hours(self) -> pd.DataFrame:
        """Return `HOURLY_COLUMNS` of all that was added, one row per key."""
        if not self._rows:
            return no_hours()
        hour, credential, endpoint, status, counter = (
            np.concatenate(column) for column in zip(*self._rows, strict=True)
        )
        times = np.minimum(np.concatenate(self._times), LONGEST_MS)
        first_hour = int(hour.min())
        key = (hour - first_hour).astype(np.int64)
        for column, size in ((credential, len(self._names.credentials)), (endpoint, len(self._names.endpoints))):
            key *= size
            key += column
        key *= _STATUSES
        key += status
        row, different = pd.factorize(key)
        place, status = np.divmod(different, _STATUSES)
        place, endpoint = np.divmod(place, len(self._names.endpoints))
        hour, credential = np.divmod(place, len(self._names.credentials))
        size, is_timed = len(different), counter == Counter.TIMED
        width = len(Counter)
        counts = np.bincount(row * width + counter, minlength=size * width).reshape(size, width)
        timed = row[is_timed]
        longest = np.full(size, np.nan)
        np.fmax.at(longest, timed, times)
        frame = pd.DataFrame(
            {
                "hour": pd.to_datetime((hour + first_hour) * HOUR, unit="us", utc=True).astype("datetime64[us, UTC]"),
                "credential_id": np.array(list(self._names.credentials), dtype=object)[credential],
                "endpoint": np.array(list(self._names.endpoints), dtype=object)[endpoint],
                "status_code": status,
                **{name: counts[:, place] for place, name in enumerate(COUNTS)},
                "response_count": counts[:, Counter.TIMED],
                "response_ms_sum": np.bincount(timed, weights=times, minlength=size),
                "response_ms_max": longest,
            }
        )
        bounds = len(HISTOGRAM_MS) + 1
        place = np.searchsorted(np.array(HISTOGRAM_MS), times, side="left")
        histogram = np.bincount(timed * bounds + place, minlength=size * bounds).reshape(size, bounds)
        frame["buckets"] = pd.Series(_by_row(timed, buckets_of(times), size=size), dtype=object)
        frame["histogram"] = pd.Series(histogram.tolist(), dtype=object)
        return frame


def _by_row(row: Array, bucket: Array, *, size: int) -> list[dict[int, int]]:
    """Return for each row how many are in each bucket."""
    found: list[dict[int, int]] = [{} for _ in range(size)]
    if len(row):
        width = int(bucket.max()) + 1
        code, different = pd.factorize(row * width + bucket, sort=True)
        numbers = np.bincount(code)
        for at, name, number in zip(
            (different // width).tolist(), (different % width).tolist(), numbers.tolist(), strict=True
        ):
            found[at][name] = number
    return found
