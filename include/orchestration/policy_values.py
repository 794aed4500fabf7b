"""
The single values of a policy file, each with what it allows in words: the leaves of `policy_schema`.

A value that is not allowed raises pydantic's ``PydanticCustomError`` of type ``policy``, whose context has ``allowed``
(in words). Nothing is converted silently: ``window: 60`` has no unit, ``threshold: "3"`` is a text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from pydantic_core import PydanticCustomError

from include.orchestration.policy_mistakes import choose_from, looks_secret
from include.sync_health import durations
from include.sync_health.routing import address_of, kind_of
from include.sync_health.zones import known_zones

NEVER = "never"
EVERY_RUN = "every run"
ENVIRONMENTS = ("integration", "production")  # the credential's environment enum in Hub Plus
CONNECTION_STATUSES = ("active", "connected", "error", "inactive", "pending")  # all that its shapes and code know
SYNC_LOG_TABLES = ("servicetitan_sync_log", "servicetitan_sync_logs")

# Slack: names are lower case without spaces or periods, at most 80 characters (https://api.slack.com/methods/conversations.create);
# ids begin with C, or G for older private channels.
SLACK_NAME_CHARACTERS = 80
_SLACK_ID = re.compile(r"[CG][A-Z0-9]{8,20}")
_SLACK_NAME = re.compile(rf"#[\w-]{{1,{SLACK_NAME_CHARACTERS}}}")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_CONNECTION_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")  # PostgreSQL: 63 bytes
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

Word = TypeVar("Word", bound=StrEnum)
Value = TypeVar("Value")
Meaning = TypeVar("Meaning")


def refused(allowed: str) -> PydanticCustomError:
    """Return the error that says what would be allowed."""
    return PydanticCustomError("policy", "{allowed}", {"allowed": allowed})


def duration(*, at_least: timedelta = timedelta(0), at_most: timedelta) -> Callable[[Any], timedelta]:
    """Return a validator of durations in ``[at_least, at_most]``."""
    bounds = f"use {durations.format_duration(at_least)} to {durations.format_duration(at_most)}"

    def validate(value: Any) -> timedelta:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise refused(f"a duration needs its unit: {durations.ALLOWED}")
        try:
            parsed = durations.parse_duration(value)
        except (ValueError, TypeError):
            raise refused(durations.ALLOWED) from None
        if not at_least <= parsed <= at_most:
            raise refused(bounds)
        return parsed

    return validate


def whole_hours(duration: timedelta) -> timedelta:
    """Validate a duration of whole hours: what is counted by the hour cannot be cut finer."""
    if duration % timedelta(hours=1) or not duration:
        raise refused("use whole hours, such as 1h or 24h")
    return duration


def or_never(of_value: Callable[[Any], Value]) -> Callable[[Any], Value | None]:
    """Return a validator of what ``of_value`` takes, or of the word ``never`` (None)."""
    return _or_word(of_value, word=NEVER, meaning=None)


def or_every_run(of_wait: Callable[[Any], Value]) -> Callable[[Any], Value | timedelta]:
    """Return a validator of what ``of_wait`` takes, or of ``every run`` (0: as often as it is judged)."""
    return _or_word(of_wait, word=EVERY_RUN, meaning=timedelta(0))


def _or_word(of_value: Callable[[Any], Value], *, word: str, meaning: Meaning) -> Callable[[Any], Value | Meaning]:
    def validate(value: Any) -> Value | Meaning:
        if value == word:
            return meaning
        try:
            return of_value(value)
        except PydanticCustomError as error:
            raise refused(f"{error.message()}; or {word}") from None

    return validate


def log_files(value: Any) -> str:
    """Validate a path, glob or URL of log files; a secret has no place in it."""
    is_text = isinstance(value, str) and 0 < len(value) <= 1_000 and value == value.strip() and value.isprintable()
    if not is_text:
        raise refused(
            "use a path or URL of log files, such as /var/log/hub-plus/servicetitan*.log or s3://bucket/logs/*.gz"
        )
    scheme, found, rest = value.partition("://")
    if not found and not value.startswith("/"):
        raise refused("use an absolute path: a relative one means another file in each process")
    if found and not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise refused("use a scheme that Airflow's ObjectStoragePath knows, such as file, s3 or gs")
    if found and "@" in rest.partition("/")[0] and ":" in rest.partition("@")[0]:
        raise refused("put a password into an Airflow connection, and name that in logs_connection")
    return value


def whole_number(*, at_least: int, at_most: int) -> Callable[[Any], int]:
    """Return a validator of whole numbers in ``[at_least, at_most]``."""

    def validate(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            raise refused(f"use a whole number from {at_least} to {at_most}")
        return value

    return validate


def number(*, at_least: float, at_most: float) -> Callable[[Any], float]:
    """Return a validator of numbers in ``[at_least, at_most]``."""

    def validate(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not at_least <= value <= at_most:
            raise refused(f"use a number from {at_least:g} to {at_most:g}, such as 5 or 2.5")
        return float(value)

    return validate


def percentage(
    *, at_least: float | None = None, above: float = 0, at_most: float | None = None, below: float = 100
) -> Callable[[Any], float]:
    """Return a validator of percentages as numbers; ``at_least`` and ``at_most`` allow the bound itself."""
    low = f"{at_least:g}" if at_least is not None else f"more than {above:g}"
    high = f"to {at_most:g}" if at_most is not None else f"to less than {below:g}"

    def validate(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not is_number
            or not (value >= at_least if at_least is not None else value > above)
            or not (value <= at_most if at_most is not None else value < below)
        ):
            raise refused(f"use a percentage from {low} {high}, without the sign: 20 or 12.5")
        return float(value)

    return validate


def word(words: type[Word]) -> Callable[[Any], Word]:
    """Return a validator of the words of an enum."""

    def validate(value: Any) -> Word:
        # Membership first: an unhashable or odd value must not reach the enum's own lookup.
        if isinstance(value, str) and value in {str(choice) for choice in words}:
            return words(value)
        raise refused(choose_from((str(choice) for choice in words), wrong=value))

    return validate


def one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    """Return a validator of a fixed list of texts."""

    def validate(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise refused(choose_from(choices, wrong=value))

    return validate


def switch(value: Any) -> bool:
    """Validate true or false, and no other word for them."""
    if not isinstance(value, bool):
        raise refused("use true or false")
    return value


def zone(value: Any) -> str:
    """Validate an IANA time zone that this machine knows."""
    if isinstance(value, str) and value in known_zones():
        return value
    known = {name.lower(): name for name in known_zones()}
    near = difflib.get_close_matches(str(value).lower(), known, n=1, cutoff=0.7)
    hint = f"did you mean {known[near[0]]}? " if near else ""
    raise refused(f"{hint}use an IANA time zone such as UTC or America/New_York")


def connection_id(value: Any) -> str:
    """Validate the id of an Airflow connection: a name, not the connection itself."""
    return _matching(value, _CONNECTION_ID, "use the id of an Airflow connection: letters, digits, _ . -")


def identifier(value: Any) -> str:
    """Validate a PostgreSQL name that needs no quotes."""
    return _matching(value, _IDENTIFIER, "use a PostgreSQL name: letters, digits, _ and $; at most 63")


def receiver_name(value: Any) -> str:
    """Validate the name of a receiver."""
    return _matching(value, _NAME, "name it with a letter, then letters, digits, _ or -; at most 64")


def slack_channel(value: Any) -> str:
    """Validate ``#name`` or a channel id."""
    allowed = (
        f"use #channel-name (lower case letters, digits, - and _; at most {SLACK_NAME_CHARACTERS}) "
        "or a channel id such as C0123456789"
    )
    if isinstance(value, str) and (
        _SLACK_ID.fullmatch(value) or (_SLACK_NAME.fullmatch(value) and value == value.lower())
    ):
        return value
    if isinstance(value, str) and _SLACK_NAME.fullmatch("#" + value) and not looks_secret(value):
        allowed = f"did you mean '#{value.lower()}'? {allowed}"
    elif value is None:
        allowed = f'{allowed}; in YAML a # begins a comment unless it is quoted: "#name"'
    raise refused(allowed)


def email_address(value: Any) -> str:
    """Validate a bare address: ``name@host``, without a display name."""
    is_address = isinstance(value, str) and len(value) <= 254 and _EMAIL.fullmatch(value)  # RFC 5321, 4.5.3.1.3
    if not is_address or ".." in value or value.startswith(".") or ".@" in value:
        raise refused("use one bare address such as ops@example.org")
    return str(value)


def channel_key(value: str) -> str:
    """Validate ``slack:#name`` or ``email:address``: a receiver's channel with its kind before it."""
    form = "write slack:#name or email:address"
    check = {"slack": slack_channel, "email": email_address}.get(kind_of(value))
    if check is None:
        raise refused(form)
    try:
        check(address_of(value))
    except PydanticCustomError as error:
        raise refused(f"{form}: {error.message()}") from None
    return value


def _matching(value: Any, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise refused(allowed)
    return value
