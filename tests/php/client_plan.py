"""What the application's client is to log (`ServiceTitanClientLog.php`), and the truth about it, which no reader has told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from include.simulation.monolog_files import ENDPOINTS, SECRETS, START, TEMPLATES, LogTruth

CREDENTIALS = (1001, 1002, "0f8fad5b-d9cb-469f-a165-70867728950e")
"""Numbers, as the application's code has them, and a UUID, as its stories have it."""

_TOLD = {"duration_ms": 1.0, "response_time": 1.0, "duration": 1_000.0, "sync_duration": 1_000.0}
_ERRORS = {"failed", "exhausted", "undecoded", "refused"}
_ERROR_OTHERS = {4, 7, 11}
"""Which of the lines that tell of no call are errors; they stand in the error file too."""
_OTHERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPlan:
    """
    What one process of the application does.

    Args:
        seed: of everything random.
        calls: how many.
        start: of the first line, in UTC.
        gap: most seconds between two lines.
        is_debug: whether answers are written, which are of level debug.
        is_fine: whether times have microseconds.
        told: the key with which an answer tells how long it took; None: it does not.
        is_smooth: every call is answered at once, and there is nothing else.
        is_live: lines have the time at which they are written, by the clock of the machine.
    """

    seed: int = 1
    calls: int = 150
    start: datetime = START + timedelta(minutes=50)
    gap: float = 6.0
    is_debug: bool = True
    is_fine: bool = True
    told: str | None = None
    is_smooth: bool = False
    is_live: bool = False


@dataclass(slots=True)
class Planned:
    """
    The events, for PHP, and what they come to.

    Args:
        events: in the order in which they are logged.
        truth: what must be counted.
        entries: how many lines tell of a call.
        errors: how many lines are of level error and above.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    truth: LogTruth = field(default_factory=LogTruth)
    entries: int = 0
    errors: int = 0


def planned(plan: ClientPlan) -> Planned:
    """Return the events of a plan; the same ones for the same plan."""
    chance = random.Random(plan.seed)  # noqa: S311 - a plan, not a secret
    done, at = Planned(), plan.start
    for number in range(plan.calls):
        call = _Call(plan, chance, number)
        steps = list(call.steps())
        answered = next((step["status"] for step in steps if step["event"] == "answer"), 0) if plan.is_debug else 0
        call.is_told_again = any(step["event"] == "failed" for step in steps)
        for step in steps:
            gap = timedelta(seconds=chance.uniform(0.001, plan.gap))
            at += gap if plan.is_fine else timedelta(seconds=round(gap.total_seconds()))
            step |= call.own | {"at": None if plan.is_live else [int(at.timestamp()), at.microsecond]}
            done.events.append(step)
            _count(step, call, at, answered=answered, plan=plan, done=done)
    return done


class _Call:
    """One call, and what else is logged beside it."""

    def __init__(self, plan: ClientPlan, chance: random.Random, number: int) -> None:
        self._plan, self._chance = plan, chance
        # The last endpoint has a query with a secret, the one before it an id: neither is rare here.
        place = number % len(ENDPOINTS)
        self.template = TEMPLATES[place]
        self.credential = chance.choice(CREDENTIALS)
        self.began: datetime | None = None
        self.is_told_again = False
        self.own = {
            "credential": self.credential,
            "channel": chance.choice(["servicetitan", "app"]),
            "method": chance.choice(["GET", "GET", "POST", "PUT", "DELETE"]),
            "endpoint": ENDPOINTS[place].replace("{number}", str(chance.randrange(10_000_000))),
            "secret": chance.choice(SECRETS),
        }

    def steps(self) -> Iterator[dict[str, Any]]:
        """Yield what the call logs, with other lines in between."""
        for step in self._own_steps():
            if not self._plan.is_smooth and self._chance.random() < 0.3:
                yield {"event": "other", "number": self._chance.randrange(_OTHERS)}
            yield step

    def _own_steps(self) -> Iterator[dict[str, Any]]:
        luck = 1.0 if self._plan.is_smooth else self._chance.random()
        if luck < 0.03:
            yield {"event": "login limited", "number": 1}
        yield {"event": "request"}
        if luck < 0.10:
            yield {"event": "limited"}
            yield {"event": "limited again", "number": 1}
        elif luck < 0.25:
            for number in range(1, self._chance.randrange(2, 5)):
                yield {"event": "retried", "number": number}
        if 0.15 < luck < 0.30:
            yield {"event": "exhausted", "number": 5}
        if 0.20 < luck < 0.35:
            yield {"event": "failed"}
        elif 0.35 < luck < 0.40:
            yield {"event": "refused", "status": self._chance.choice([401, 403, 500])}
        elif not 0.15 < luck < 0.35:
            status = self._chance.choice([400, 404, 503]) if luck < 0.55 else 200
            yield {"event": "answer", "status": status, "took": self._took()}
        if 0.55 < luck < 0.60:
            yield {"event": "undecoded"}
        elif 0.60 < luck < 0.65:
            yield {"event": "opened"}

    def _took(self) -> dict[str, float]:
        if self._plan.told is None:
            return {}
        # 0.0 and 120.0 are floats to PHP; an int is told by its milliseconds alone.
        return {self._plan.told: self._chance.choice([0.0, 120.0, 0.25, 1.5, 17, self._chance.uniform(0, 30)])}


def _count(step: dict[str, Any], call: _Call, at: datetime, *, answered: int, plan: ClientPlan, done: Planned) -> None:
    """Add what a line comes to."""
    event, truth = step["event"], done.truth
    if event == "answer" and not plan.is_debug:
        return
    if event == "other":
        done.errors += step["number"] in _ERROR_OTHERS
        truth.lines += plan.is_debug or step["number"] != 2
        return
    truth.lines += 1
    done.errors += event in _ERRORS
    done.entries += event != "limited again"
    hour, credential = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0), str(call.credential)
    if event == "request":
        call.began = at
        truth.requests[hour, credential, call.template, answered] += 1
    elif event == "answer":
        assert call.began is not None
        key = (hour, credential, call.template, step["status"])
        if step["status"] >= 400:
            truth.errors[key] += 1
        told = [value * _TOLD[name] for name, value in step["took"].items()]
        truth.times_ms.setdefault(key, []).append(told[0] if told else (at - call.began) / timedelta(milliseconds=1))
    elif event in ("failed", "undecoded"):
        truth.errors[hour, credential, call.template, 0] += 1
    elif event == "refused":
        truth.errors[hour, credential, call.template, step["status"]] += 1
    elif event == "exhausted":
        if not call.is_told_again:
            truth.errors[hour, credential, "", 0] += 1
    elif event == "login limited":
        truth.rate_limited[hour, ""] += 1
    elif event != "limited again":
        counted = {"retried": truth.retries, "limited": truth.rate_limited, "opened": truth.circuit_opened}[event]
        counted[hour, credential] += 1
