"""
Log files as the monitored application writes them with Monolog, of any size, and the truth about the calls in them.

Some processes make calls one after the other, at the same time as each other: each line is one of theirs, or belongs to
something else. What a call writes follows the client of the application: the request, at level debug its answer, retries,
refusals for the rate, failures. Among them stands what files hold in practice: other channels, blank lines, a stack trace,
lines cut off, broken bytes, whole arrays.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

START = datetime(2026, 3, 1, 8, tzinfo=UTC)

ENDPOINTS = (
    "/api/v2/tenant/tenant/crm/customers",
    "/api/v2/tenant/tenant/accounting/invoices",
    "/api/v2/tenant/tenant/companies",
    "/crm/v2/tenant/829374/customers/{number}",
    "/jpm/v2/tenant/829374/jobs/{number}?page=1&secret=s3cr3t-in-a-query",
)
"""Endpoints as the application logs them; ``{number}`` is an id that differs from call to call."""

TEMPLATES = (
    "/api/v2/tenant/{id}/crm/customers",
    "/api/v2/tenant/{id}/accounting/invoices",
    "/api/v2/tenant/{id}/companies",
    "/crm/v2/tenant/{id}/customers/{id}",
    "/jpm/v2/tenant/{id}/jobs/{id}",
)
"""What must become of each of them."""

SECRETS = ("s3cr3t-in-a-query", "ada.lovelace@example.com", "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.x", "+1 555 010 9999")
"""What stands in the lines and must not get out of them."""

_INFO, _DEBUG, _WARNING, _ERROR = (200, "INFO"), (100, "DEBUG"), (300, "WARNING"), (400, "ERROR")

Level = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlan:
    """
    What a log file is like; the same plan gives the same bytes.

    Args:
        lines: about so many; calls that have begun are ended.
        seed: of everything random.
        start: of the first line.
        gap: seconds between two lines, on average.
        credentials: so many; every fourth has a UUID, the others numbers.
        ids: of the credentials, instead of those made up.
        processes: that write at the same time.
        names_process: whether a line tells its process.
        debug: whether answers are logged.
        version: of Monolog, 1 to 3.
        is_told: whether an answer tells how long it took.
        odd: share of lines that belong to no call.
        ordinary: share of these that are lines of Monolog with nothing odd about them.
        batches: whether some lines are arrays.
    """

    lines: int = 1_000
    seed: int = 1
    start: datetime = START
    gap: float = 0.05
    credentials: int = 20
    ids: tuple[str, ...] = ()
    processes: int = 4
    names_process: bool = True
    debug: bool = True
    version: int = 3
    is_told: bool = False
    odd: float = 0.2
    ordinary: float = 0.9
    batches: bool = True


@dataclass(slots=True)
class LogTruth:
    """
    What the lines of a file say, as it was planned.

    Args:
        requests, errors: by (hour, credential id, templated endpoint, status).
        retries, rate_limited, circuit_opened: by (hour, credential id).
        times_ms: of the answers, by the key of `errors`.
        lines: all that were written.
        broken: that begin like JSON and are none.
        not_json, not_utf8, blank: as they say.
    """

    requests: Counter[tuple[datetime, str, str, int]] = field(default_factory=Counter)
    errors: Counter[tuple[datetime, str, str, int]] = field(default_factory=Counter)
    retries: Counter[tuple[datetime, str]] = field(default_factory=Counter)
    rate_limited: Counter[tuple[datetime, str]] = field(default_factory=Counter)
    circuit_opened: Counter[tuple[datetime, str]] = field(default_factory=Counter)
    times_ms: dict[tuple[datetime, str, str, int], list[float]] = field(default_factory=dict)
    lines: int = 0
    broken: int = 0
    not_json: int = 0
    not_utf8: int = 0
    blank: int = 0


@dataclass(slots=True)
class _Call:
    """One call on its way: its steps, and what is known of it so far."""

    credential: str
    template: str
    began: datetime | None = None
    steps: deque[tuple[str, Level, str]] = field(default_factory=deque)


def write_log(path: Path, plan: LogPlan, *, errors_to: Path | None = None) -> LogTruth:
    """
    Write a log file and return the truth about it.

    Args:
        path: is replaced.
        plan: what it is like.
        errors_to: a file that gets the lines of level error once more, as the application's second handler does.
    """
    truth = LogTruth()
    with path.open("wb") as file:
        if errors_to is None:
            _write(file, None, plan, truth)
        else:
            with errors_to.open("wb") as errors:
                _write(file, errors, plan, truth)
    return truth


def _write(file: BinaryIO, errors: BinaryIO | None, plan: LogPlan, truth: LogTruth) -> None:
    held: list[bytes] = []
    for line, is_error in _lines(plan, truth):
        held.append(line)
        if errors is not None and is_error:
            errors.write(line)
        if len(held) >= 10_000:
            file.writelines(held)
            held.clear()
    file.writelines(held)


def _lines(plan: LogPlan, truth: LogTruth) -> Iterator[tuple[bytes, bool]]:
    chance = random.Random(plan.seed)  # noqa: S311 - a plan, not a secret
    clock = _Clock(plan, chance)
    calls: list[_Call | None] = [None] * plan.processes
    made_up = [str(1_000 + n) if n % 4 else f"0f8fad5b-d9cb-469f-a165-{n:012d}" for n in range(plan.credentials)]
    ids = list(plan.ids) or made_up
    while truth.lines < plan.lines or any(calls):
        if truth.lines < plan.lines and chance.random() < plan.odd:
            yield _odd_line(plan, chance, clock, truth), False
            truth.lines += 1
            continue
        process = chance.randrange(plan.processes)
        call = calls[process]
        if call is None:
            if truth.lines >= plan.lines:
                continue
            call = calls[process] = _new_call(plan, chance, ids)
        step, level, body = call.steps.popleft()
        at = clock.tick()
        _record(step, call, at, truth)
        line = _line(body, level, clock.text(at), process + 4_200, plan, chance)
        if plan.batches and chance.random() < 0.002:
            line = f"[{line}]"
        if not call.steps:
            calls[process] = None
        truth.lines += 1
        yield line.encode() + b"\n", level is _ERROR


class _Clock:
    """Time as the lines tell it: ever later, to the microsecond, or to the second for an old Monolog's plan."""

    def __init__(self, plan: LogPlan, chance: random.Random) -> None:
        self._chance, self._at, self._version = chance, plan.start, plan.version
        self._most = round(plan.gap * 2_000_000)

    def tick(self) -> datetime:
        """Return the time of the next line."""
        self._at += timedelta(microseconds=self._chance.randrange(1, max(self._most, 2)))
        return self._at

    def text(self, at: datetime) -> str:
        """Return it as JSON."""
        if self._version == 1:
            return f'{{"date":"{at:%Y-%m-%d %H:%M:%S.%f}","timezone_type":3,"timezone":"UTC"}}'
        return f'"{at:%Y-%m-%dT%H:%M:%S.%f}+00:00"'


def _new_call(plan: LogPlan, chance: random.Random, ids: list[str]) -> _Call:
    """Return a call with all the lines that it is going to write."""
    credential = ids[chance.randrange(len(ids))]
    place = chance.choices(range(len(ENDPOINTS)), weights=(40, 40, 5, 10, 5))[0]
    endpoint = ENDPOINTS[place].replace("{number}", str(chance.randrange(10_000_000)))
    told = credential if credential.isdigit() else f'"{credential}"'
    whose = f'"credential_id":{told}'
    call = _Call(credential, TEMPLATES[place])
    path = f'"endpoint":"{endpoint}"'
    call.steps.append(
        (
            "request",
            _INFO,
            f'"message":"ServiceTitan API GET request","context":{{{path},"params":{{"page":{chance.randrange(1, 90)},'
            f'"pageSize":500,"email":"{SECRETS[1]}"}},{whose}}}',
        )
    )
    luck = chance.random()
    add = call.steps.append
    if luck < 0.03:
        if luck < 0.01:  # refused for the rate, then served; the client tells the same refusal twice
            add(
                (
                    "rate",
                    _WARNING,
                    f'"message":"ServiceTitan API rate limit exceeded","context":{{{whose},"retry_after_seconds":60}}',
                )
            )
            add(
                (
                    "",
                    _INFO,
                    '"message":"ServiceTitan API rate limited, waiting before retry","context":'
                    f'{{"retry_count":1,"delay_seconds":60,{whose}}}',
                )
            )
        else:
            for number in range(1, chance.randrange(2, 4)):
                add(
                    (
                        "retry",
                        _WARNING,
                        '"message":"ServiceTitan API request failed, retrying","context":'
                        f'{{"retry_count":{number},"error":"Bearer {SECRETS[2]}",{whose}}}',
                    )
                )
        if luck > 0.015:
            is_told_again = luck > 0.02
            add(
                (
                    "" if is_told_again else "exhausted",
                    _ERROR,
                    '"message":"ServiceTitan API request failed after all retries","context":'
                    f'{{"retry_count":5,"error":"timeout for {SECRETS[1]}",{whose}}}',
                )
            )
            if is_told_again:
                add(
                    (
                        "failed",
                        _ERROR,
                        f'"message":"ServiceTitan API GET request failed","context":{{{path},'
                        f'"error":"timeout","credentialId":{told}}}',
                    )
                )
            return call
    status = 404 if luck > 0.98 else 200
    if plan.debug:
        took = f',"duration_ms":{chance.randrange(40, 9_000)}' if plan.is_told else ""
        add(
            (
                f"answer {status}{took}",
                _DEBUG,
                '"message":"ServiceTitan API response processed","context":{'
                f'"method":"GET",{path},"status_code":{status},{whose}{took}}}',
            )
        )
    if 0.5 < luck < 0.503:
        add(
            (
                "undecoded",
                _ERROR,
                f'"message":"Failed to decode ServiceTitan API response","context":{{"method":"GET",'
                f'{path},"error":"Syntax error",{whose}}}',
            )
        )
    if luck > 0.9995:
        add(("circuit", _WARNING, f'"message":"Circuit breaker opened","context":{{{whose},"failure_count":5}}'))
    return call


def _record(step: str, call: _Call, at: datetime, truth: LogTruth) -> None:
    """Write down what a line means, when it is written."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    if step == "request":
        call.began = at
        answers = [each for each, _, _ in call.steps if each.startswith("answer")]
        status = int(answers[0].split(",")[0].split()[1]) if answers else 0
        truth.requests[hour, call.credential, call.template, status] += 1
    elif step.startswith("answer"):
        status = int(step.split(",")[0].split()[1])
        key = (hour, call.credential, call.template, status)
        if status >= 400:
            truth.errors[key] += 1
        began = call.began or at
        took = float(step.split(":")[1]) if ":" in step else (at - began) / timedelta(milliseconds=1)
        truth.times_ms.setdefault(key, []).append(took)
    elif step in ("failed", "undecoded"):
        truth.errors[hour, call.credential, call.template, 0] += 1
    elif step == "exhausted":
        truth.errors[hour, call.credential, "", 0] += 1
    elif step:
        counted = {"retry": truth.retries, "rate": truth.rate_limited, "circuit": truth.circuit_opened}[step]
        counted[hour, call.credential] += 1


def _line(body: str, level: Level, moment: str, process: int, plan: LogPlan, chance: random.Random) -> str:
    channel = "app" if chance.random() < 0.3 else "servicetitan"
    extra = f'{{"process_id":{process}}}' if plan.names_process else "[]" if plan.version == 1 else "{}"
    return (
        f'{{{body},"level":{level[0]},"level_name":"{level[1]}","channel":"{channel}","datetime":{moment},'
        f'"extra":{extra}}}'
    )


def _odd_line(plan: LogPlan, chance: random.Random, clock: _Clock, truth: LogTruth) -> bytes:
    """Return a line that belongs to no call."""
    moment = clock.text(clock.tick())
    rest = f'"level":200,"level_name":"INFO","channel":"app","datetime":{moment},"extra":{{}}}}'
    luck = chance.random()
    if luck < plan.ordinary:
        body = chance.choice(_OTHERS)
        return f"{{{body},{rest}".encode() + b"\n"
    luck = 0.9 + chance.random() / 10
    if luck < 0.92:
        truth.blank += 1
        return chance.choice((b"\n", b"   \n", b"\r\n"))
    if luck < 0.95:
        truth.not_json += 1
        return b"PHP Warning:  ServiceTitan API GET request is not a line of Monolog in /srv/app/src/Client.php on line 8\n"
    if luck < 0.97:
        truth.broken += 1
        return b'{"message":"ServiceTitan API GET request","context":{"endpoint":"/api/v2/tena\n'
    if luck < 0.98:
        truth.not_utf8 += 1
        return b'{"message":"ServiceTitan API GET request","context":{"endpoint":"/\xff\xfe","params":[]}}\n'
    return f'{{"message":{json.dumps("Café ☕ " + chr(0x1F600))},"context":{{}},{rest}'.encode() + b"\n"


_OTHERS = (
    '"message":"Matched route \\"{route}\\".","context":{"route":"app_home","route_parameters":{"_route":"app_home"},'
    f'"request_uri":"https://hub.example.com/?mail={SECRETS[1]}","method":"GET"}}',
    '"message":"Executing statement: COMMIT (parameters: {params})","context":'
    f'{{"params":{{"1":7,"phone":"{SECRETS[3]}"}}}}',
    '"message":"Rate limit throttling applied","context":{"credential_id":1001,"delay_seconds":1}',
    '"message":"ServiceTitan sync progress updated","context":{"syncLogId":5,"credentialId":1001,"totalProcessed":40}',
    '"message":"Cafetière prête","context":[]',
)
