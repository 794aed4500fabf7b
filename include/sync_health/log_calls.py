"""
Calls of the ServiceTitan API out of what a log tells of them, by hour.

    request          a line "ServiceTitan API ... request" is one call, however often the client tries. It takes the status
                     of its answer, where that is logged (level debug); else its status is 0, not known
    error            an answer of status 400 and above; a call that came to nothing; an answer that is no JSON; and the last
                     of several tries that failed, unless the next line of the same credential and process tells the
                     failure of that call itself
    response time    what the line of the answer tells of it. Without: from the request to its answer, which is an
                     estimate (it holds the client's waits and retries). Where neither can be said there is none

An answer belongs to the request before it of the same credential, process, method and templated endpoint, when no other
line of these lies between and it is not older than `OPEN_FOR`. Without a number of the process two requests at once
cannot be told apart: then an answer after them still gives its status to the one before it, and no response time.

A request counts in the hour of its own line; what else happens, in the hour of the line that tells it. So a request
counts once it is closed: by its answer, by the next line like it, or by time; `OpenCalls` are those that wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.log_events import Events
from include.sync_health.log_tally import CallTally, Counter, Happened, Names
from include.sync_health.monolog_lines import METHODS, Kind
from include.sync_health.monolog_times import MINUTE

OPEN_FOR = 15 * MINUTE
"""
Microseconds for which a request may wait for its answer: ServiceTitan ends a call after 100 seconds, the client tries
five times and waits a minute after a refusal for the rate.
"""

MOST_OPEN = 20_000
"""Requests of one file that may wait at once; of more, the oldest are closed without an answer."""


@dataclass(frozen=True, slots=True)
class OpenCalls:
    """
    What a later line may still close; texts and numbers that JSON can hold.

    Args:
        requests: (credential id, endpoint, writer, method, microseconds since 1970, whether a response time would be
            wrong), one per key.
        exhausted: (credential id, writer, microseconds since 1970) of the last of several tries.
    """

    requests: tuple[tuple[str, str, str, int, int, bool], ...] = ()
    exhausted: tuple[tuple[str, str, int], ...] = ()

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "requests": [list(each) for each in self.requests],
            "exhausted": [list(each) for each in self.exhausted],
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> OpenCalls:
        """Return it from what `told` gave; without its keys, nothing is open."""
        return cls(
            requests=tuple((c, e, w, m, at, doubt) for c, e, w, m, at, doubt in value.get("requests", ())),
            exhausted=tuple((c, w, at) for c, w, at in value.get("exhausted", ())),
        )

    def __len__(self) -> int:
        return len(self.requests) + len(self.exhausted)


@dataclass(frozen=True, slots=True)
class Counted:
    """
    What was counted.

    Args:
        open_calls: what still waits.
        requests: calls that were counted.
        times_told: response times that the log tells.
        times_estimated: response times from a request to its answer.
    """

    open_calls: OpenCalls
    requests: int = 0
    times_told: int = 0
    times_estimated: int = 0


def count_calls(events: Events, *, waiting: OpenCalls, tally: CallTally) -> Counted:
    """
    Count events of one file, after those that left ``waiting``.

    Args:
        events: of the lines that follow.
        waiting: what the lines before them left open.
        tally: is added to.
    """
    names = Names.of(events.credentials, events.endpoints, events.writers)
    happened = Happened()
    requests, times = _pair(events, waiting, names, happened)
    number = len(happened)
    exhausted = _settle(events, waiting, names, happened)
    for kind, counter in (
        (Kind.FAILED, Counter.ERRORS),
        (Kind.UNDECODED, Counter.ERRORS),
        (Kind.REFUSED, Counter.ERRORS),
        (Kind.RETRIED, Counter.RETRIES),
        (Kind.RATE_LIMITED, Counter.RATE_LIMITED),
        (Kind.CIRCUIT_OPENED, Counter.CIRCUIT_OPENED),
    ):
        _add(events, events.kind == kind, counter, happened)
    is_answer = events.kind == Kind.RESPONSE
    _add(events, is_answer & (events.status >= 400), Counter.ERRORS, happened)
    is_told = is_answer & ~np.isnan(events.response_ms)
    times = np.where(is_told, events.response_ms, times)
    is_timed = ~np.isnan(times)
    _add(events, is_timed, Counter.TIMED, happened)
    tally.add(happened, names, times[is_timed])
    return Counted(
        open_calls=OpenCalls(requests, exhausted),
        requests=number,
        times_told=int(is_told.sum()),
        times_estimated=int((is_timed & ~is_told).sum()),
    )


def close_calls(waiting: OpenCalls, *, tally: CallTally, before: int | None = None) -> Counted:
    """
    Count what waits as what it comes to without its answer.

    Args:
        waiting: what waits.
        tally: is added to.
        before: only what is older than this (microseconds since 1970); None for all.
    """
    old = [each for each in waiting.requests if before is None or each[4] < before]
    spent = [each for each in waiting.exhausted if before is None or each[2] < before]
    names = Names.of((), ("",), ())
    happened = Happened()
    happened.add(
        Counter.REQUESTS,
        [each[4] for each in old],
        [names.credential(each[0]) for each in old],
        [names.endpoint(each[1]) for each in old],
    )
    happened.add(
        Counter.ERRORS,
        [each[2] for each in spent],
        [names.credential(each[0]) for each in spent],
        names.endpoint(""),
    )
    tally.add(happened, names, np.zeros(0))
    gone, done = set(old), set(spent)
    return Counted(
        open_calls=OpenCalls(
            tuple(each for each in waiting.requests if each not in gone),
            tuple(each for each in waiting.exhausted if each not in done),
        ),
        requests=len(old),
    )


def _pair(
    events: Events, waiting: OpenCalls, names: Names, happened: Happened
) -> tuple[tuple[tuple[str, str, str, int, int, bool], ...], NDArray[np.float64]]:
    """Count requests; return those that still wait, and for each event the response time that pairing gives it."""
    carried = np.array(
        [
            (names.credential(c), names.endpoint(e), names.writer(w), method, at, doubt)
            for c, e, w, method, at, doubt in waiting.requests
        ],
        dtype=np.int64,
    ).reshape(-1, 6)
    place = np.flatnonzero(events.kind <= Kind.FAILED)
    credential = np.concatenate([carried[:, 0], events.credential[place]])
    endpoint = np.concatenate([carried[:, 1], events.endpoint[place]])
    writer = np.concatenate([carried[:, 2], events.writer[place]])
    method = np.concatenate([carried[:, 3], events.method[place]])
    at = np.concatenate([carried[:, 4], events.at[place]])
    kind = np.concatenate([np.full(len(carried), Kind.REQUEST), events.kind[place]])
    status = np.concatenate([np.zeros(len(carried), np.int64), events.status[place]])
    was_doubtful = np.concatenate([carried[:, 5] > 0, np.zeros(len(place), bool)])
    place = np.concatenate([np.full(len(carried), -1), place])
    key = ((credential * len(names.endpoints) + endpoint) * len(names.writers) + writer) * len(METHODS) + method
    order = _by_key(key)
    key, at, kind, status = key[order], at[order], kind[order], status[order]
    is_request, is_same = kind == Kind.REQUEST, _like_the_one_before(key)
    follows = is_same & _shifted(is_request) & _is_near(at)
    is_answer = follows & (kind == Kind.RESPONSE)
    nobody = names.writers.get("", -1)
    is_doubtful = was_doubtful[order] | (follows & is_request & (writer[order] == nobody))
    is_paired = is_answer & ~_shifted(is_doubtful)

    is_last = np.ones(len(key), bool)
    is_last[:-1] = ~is_same[1:]
    newest = int(events.at[-1]) if len(events.at) else 0
    is_open = is_request & is_last & (newest - at <= OPEN_FOR)
    is_answered = np.zeros(len(key), bool)
    is_answered[:-1] = is_answer[1:]
    answer = np.zeros(len(key), np.int64)
    answer[:-1] = status[1:]
    open_at = np.flatnonzero(is_open)
    if len(open_at) > MOST_OPEN:
        oldest = open_at[np.argsort(at[open_at], kind="stable")[: len(open_at) - MOST_OPEN]]
        is_open[oldest] = False
        open_at = np.flatnonzero(is_open)
    closed = np.flatnonzero(is_request & ~is_open)
    happened.add(
        Counter.REQUESTS,
        at[closed],
        credential[order][closed],
        endpoint[order][closed],
        np.where(is_answered, answer, 0)[closed],
    )
    times = np.full(len(events.at), np.nan)
    paired = np.flatnonzero(is_paired)
    times[place[order][paired]] = (at[paired] - at[paired - 1]) / 1_000
    texts = tuple(list(each) for each in (names.credentials, names.endpoints, names.writers))
    still = order[open_at]
    requests = tuple(
        (texts[0][c], texts[1][e], texts[2][w], m, moment, doubt)
        for c, e, w, m, moment, doubt in zip(
            *(each[still].tolist() for each in (credential, endpoint, writer, method)),
            at[open_at].tolist(),
            is_doubtful[open_at].tolist(),
            strict=True,
        )
    )
    return requests, times


def _settle(events: Events, waiting: OpenCalls, names: Names, happened: Happened) -> tuple[tuple[str, str, int], ...]:
    """Count the last of several tries where nothing else tells of the same call; return those that still wait."""
    if not waiting.exhausted and not (events.kind == Kind.EXHAUSTED).any():
        return ()
    carried = np.array(
        [(names.credential(c), names.writer(w), at) for c, w, at in waiting.exhausted], dtype=np.int64
    ).reshape(-1, 3)
    credential = np.concatenate([carried[:, 0], events.credential])
    writer = np.concatenate([carried[:, 1], events.writer])
    at = np.concatenate([carried[:, 2], events.at])
    kind = np.concatenate([np.full(len(carried), Kind.EXHAUSTED), events.kind])
    key = credential * len(names.writers) + writer
    # Few have tried in vain, and of nobody else does the order matter.
    theirs = np.flatnonzero(np.isin(key, np.unique(key[kind == Kind.EXHAUSTED])))
    key, at, kind, credential, writer = key[theirs], at[theirs], kind[theirs], credential[theirs], writer[theirs]
    order = np.argsort(key, kind="stable")
    key, at, kind, credential, writer = key[order], at[order], kind[order], credential[order], writer[order]
    is_spent, is_same = kind == Kind.EXHAUSTED, _like_the_one_before(key)
    is_told_again = np.zeros(len(key), bool)
    is_told_again[:-1] = (is_same & _is_near(at) & (kind == Kind.FAILED))[1:]
    is_last = np.ones(len(key), bool)
    is_last[:-1] = ~is_same[1:]
    newest = int(events.at[-1]) if len(events.at) else 0
    is_open = is_spent & is_last & (newest - at <= OPEN_FOR)
    counted = np.flatnonzero(is_spent & ~is_open & ~is_told_again)
    happened.add(Counter.ERRORS, at[counted], credential[counted], names.endpoint(""))
    credentials, writers = list(names.credentials), list(names.writers)
    return tuple(
        (credentials[credential[place]], writers[writer[place]], int(at[place])) for place in np.flatnonzero(is_open)
    )


def _by_key(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order that brings the same keys together, each in the order in which they come."""
    code, different = pd.factorize(key)
    # NumPy sorts narrow numbers by their digits, which takes a tenth of the time.
    narrow = code.astype(np.uint16) if len(different) <= 1 << 16 else code
    return np.argsort(narrow, kind="stable")


def _like_the_one_before(key: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros(len(key), bool)
    found[1:] = key[1:] == key[:-1]
    return found


def _is_near(at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each comes after the one before it, and soon enough."""
    found = np.zeros(len(at), bool)
    waited = at[1:] - at[:-1]
    found[1:] = (waited >= 0) & (waited <= OPEN_FOR)
    return found


def _shifted(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each what holds for the one before it."""
    found = np.zeros(len(values), bool)
    found[1:] = values[:-1]
    return found


def _add(events: Events, which: NDArray[np.bool_], counter: Counter, happened: Happened) -> None:
    if which.any():
        happened.add(counter, events.at[which], events.credential[which], events.endpoint[which], events.status[which])
