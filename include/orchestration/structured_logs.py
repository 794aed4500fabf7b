"""
What the log says: sentences for people, and the same as fields for a collector.

    log = DecisionLog("servicetitan.delivery")
    log.info("delivery_sent", "sent delivery %(delivery_id)s to %(channel)s", delivery_id=7, channel="slack:#ops")

One line is one decision, never one row. A sentence is a literal that is filled in from its fields, so that whatever it
says went through the same redaction. `bound` adds fields to every line until it ends, also to those that the core
writes with plain `logging`.

Airflow drops ``extra`` of a line of `logging`; it keeps structlog's context, into which the fields go where Airflow has
loaded structlog (decision 0014). Airflow is not imported here, nor is structlog: that costs a shell 0.1 s.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, date, datetime
from numbers import Integral, Real
from typing import Any, TextIO, TypedDict, Unpack, cast

from include.sync_health.errors import RequestError
from include.sync_health.redacted_errors import without_secrets
from include.sync_health.redaction import clean, redact, shorten

ROOT = "servicetitan"
"""The logger whose children write all lines."""

FORMAT_VARIABLE = "SERVICETITAN_LOG_FORMAT"
"""``json`` lets a shell command write its log to stderr, one JSON object a line; ``text``, as it is without, warnings."""

TEXT_LIMIT = 1_000
"""Characters of one text; a longer one keeps its head and its tail."""

WORD_LIMIT = 80
"""Characters of the key of a count."""

COUNTS_LIMIT = 40
"""Entries of one field of counts; the smallest of more are summed as ``others``."""


class Fields(TypedDict, total=False):
    """
    Every field that a line may have, and its type. None is as if it were not given.

    Instants are aware and written in UTC, days as ``YYYY-MM-DD``, durations in seconds. Counts map a word to a number.
    None has the name of what Airflow puts into a line by itself (``dag_id``, ``run_id``, ``task_id`` ...).
    """

    # The run
    check: str
    window_from: datetime  # exclusive
    window_to: datetime  # inclusive; the run's as_of
    mode: str  # "live" or "historical"
    dry_run: bool | None  # True where all that the line tells was undone
    check_run_id: str | None
    # The alert
    rule: str
    about: str  # whose it is, in words
    fingerprint: str | None
    episode_id: str | None
    credential_id: str | None
    company_id: str | None
    environment: str | None
    data_type: str | None
    severity: str
    previous_severity: str
    change: str
    verdict: str | None
    reason: str
    close_reason: str | None
    # The delivery
    channel: str | None
    delivery_id: int
    notify_reason: str
    not_sent_because: str
    alerts: int
    attempts: int
    wait_seconds: int
    # What was done, and how much of it
    rows_read: int
    rows_written: int
    milliseconds: int
    verdicts: Mapping[str, int]
    opened: int
    closed: int
    deliveries: int
    not_sent: Mapping[str, int]
    lines_of: str
    left_out: int
    rules: Mapping[str, int]
    counts: Mapping[str, int]
    first_day: date
    last_day: date
    days: int
    days_done: int
    days_total: int
    month: str
    progress: str
    step: str
    before: datetime
    deleted: int
    # What is wrong, and where
    cause: str | None
    error: str
    note: str
    now: datetime
    connection: str
    kind: str
    policy_version: str
    what: str
    file: str
    lines: int
    requests: int
    offset: int
    status: str
    parts: str
    probes: int
    duty: str
    outage: str
    variable: str


Value = str | int | float | bool | Mapping[str, int]
"""A field as it is written."""

_SHAPES: Mapping[str, re.Pattern[str]] = {
    # Redaction would take a fingerprint for a secret, and an address that the policy names for personal data.
    "fingerprint": re.compile(r"[0-9a-f]{64}"),
    "policy_version": re.compile(r"[0-9a-f]{12}"),
    "channel": re.compile(
        r"none|slack:(?:#[\w-]{1,80}|[CG][A-Z0-9]{8,20})"
        r"|email:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*"
    ),
}
"""Fields whose values stay as they are when they look like this; all others are redacted."""

_NOTHING: Mapping[str, Value] = {}
_IN_FORCE: ContextVar[Mapping[str, Value]] = ContextVar("servicetitan_log_fields", default=_NOTHING)


class DecisionLog:
    """
    Writes one line per decision to a logger of `logging`.

    Args:
        name: of the logger, such as ``servicetitan.delivery``.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, decision: str, sentence: str, /, **fields: Unpack[Fields]) -> None:
        """
        Tell a decision.

        Args:
            decision: its name for a collector, one of those in docs/logging.md; the field ``decision``.
            sentence: a literal with ``%(field)s`` of fields that are given here or were `bound`.
            fields: see `Fields`.
        """
        self._write(logging.INFO, decision, sentence, fields)

    def warning(self, decision: str, sentence: str, /, **fields: Unpack[Fields]) -> None:
        """Tell a decision that somebody should look at; arguments as `info`."""
        self._write(logging.WARNING, decision, sentence, fields)

    def error(self, decision: str, sentence: str, /, **fields: Unpack[Fields]) -> None:
        """Tell what went wrong; arguments as `info`."""
        self._write(logging.ERROR, decision, sentence, fields)

    def exception(self, decision: str, sentence: str, /, **fields: Unpack[Fields]) -> None:
        """Tell what went wrong with the traceback of the exception being handled, its text redacted; as `info`."""
        self._write(logging.ERROR, decision, sentence, fields, error=sys.exc_info()[1])

    def _write(
        self, level: int, decision: str, sentence: str, fields: Fields, *, error: BaseException | None = None
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        values = _written({"decision": decision, **fields})
        shown = None if error is None else without_secrets(error)
        with _in_force(values):
            said = sentence % _Said(_IN_FORCE.get())
            self._logger.log(
                level,
                said,  # without arguments, so that nobody fills it in once more
                exc_info=None if shown is None else (type(shown), shown, shown.__traceback__),
                extra={"fields": dict(_IN_FORCE.get())},
                stacklevel=3,
            )


class _Said(dict[str, Any]):
    """Fills a field that was not given in with a dash: a line that lacks one is better than none."""

    def __missing__(self, name: str) -> str:
        return "-"


@contextmanager
def bound(**fields: Unpack[Fields]) -> Iterator[None]:
    """Give these fields to every line that is written until it ends, in this thread or coroutine."""
    with _in_force(_written(fields)):
        yield


@contextmanager
def _in_force(values: Mapping[str, Value]) -> Iterator[None]:
    structlog = sys.modules.get("structlog.contextvars")
    token = _IN_FORCE.set({**_IN_FORCE.get(), **values})
    try:
        with nullcontext() if structlog is None else structlog.bound_contextvars(**values):
            yield
    finally:
        _IN_FORCE.reset(token)


def _written(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Return fields as they are written, redacted, and none that has no value."""
    written = ((name, _value(name, given)) for name, given in fields.items())
    return {name: value for name, value in written if value is not None}


def _value(name: str, given: Any) -> Value | None:
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, Integral):
        return int(given)
    if isinstance(given, Real):
        return float(given) if math.isfinite(given) else None
    if isinstance(given, datetime) and given.tzinfo is not None:
        return given.astimezone(UTC).isoformat()
    if isinstance(given, Mapping):
        return _counts(cast("Mapping[str, int]", given))
    text = str(given)
    shape = _SHAPES.get(name)
    if shape is not None and shape.fullmatch(text):
        return text
    return shorten(redact(text).replace("\n", " "), limit=TEXT_LIMIT)  # spaces stay: some sentences are a table's rows


def _counts(given: Mapping[str, int]) -> Mapping[str, int]:
    numbers: Counter[str] = Counter()
    for place, (word, number) in enumerate(sorted(given.items(), key=lambda each: (-each[1], each[0]))):
        # Words that are one and the same once they are cut or masked share their number: none is lost.
        numbers[clean(str(word), limit=WORD_LIMIT) if place < COUNTS_LIMIT else "others"] += int(number)
    return dict(sorted(numbers.items()))


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object on one line, with the keys that Airflow's task logs have."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; lines of plain `logging` are redacted here, with the fields of `bound`."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": redact(record.getMessage()) if not hasattr(record, "fields") else record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", _IN_FORCE.get()),
        }
        if record.exc_info and record.exc_info[1] is not None:
            shown = without_secrets(record.exc_info[1])
            line["exception"] = self.formatException((type(shown), shown, shown.__traceback__))
        return json.dumps(line, ensure_ascii=False)


def configure_shell_log(
    environment: Mapping[str, str] = os.environ, *, stream: TextIO | None = None
) -> logging.Handler | None:
    """
    Write the log of a shell command as `FORMAT_VARIABLE` says, and return the handler; None leaves everything as it is.

    Args:
        environment: with the variable, or without.
        stream: where lines go; stderr by default, since stdout is the command's answer.

    Raises:
        RequestError: there is no such format.
    """
    wanted = environment.get(FORMAT_VARIABLE, "").strip().lower() or "text"
    if wanted not in ("json", "text"):
        raise RequestError(f"{FORMAT_VARIABLE}: {clean(wanted, limit=40)!r} is not known; choose one of json, text")
    if wanted == "text":
        return None
    logger, handler = logging.getLogger(ROOT), logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a command that imports Airflow would write each line once more, to stdout
    return handler
