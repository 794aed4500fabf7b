"""
What an answer of ServiceTitan means: the data in it, or an error with its class, one line for a person and, where
ServiceTitan says so, how long to wait.

    ServiceTitanError       has ``error_class``, ``status_code`` and ``retry_after``
    ├── SignInRefused       auth: the token server refuses the client, or the API the token or the application key
    ├── AccessRefused       permission: a scope or a licence is missing
    ├── RateLimited         rate_limit: too many calls; has ``retry_after``, if ServiceTitan gives it
    ├── ServerFailed        server: ServiceTitan itself is in trouble
    ├── NoAnswer            timeout: nothing came in time, or the connection failed
    ├── UnreadableAnswer    decode: no JSON, or not what was asked for
    ├── RequestRefused      validation: ServiceTitan understood, and refuses
    └── UnexpectedAnswer    unknown: every other answer, such as a redirect

The token server answers in OAuth's manner (``{"error": "invalid_client"}``, RFC 6749 section 5.2), the API with
problem documents (``{"status": 429, "title": ...}``, RFC 7807). Their texts are untrusted: what is quoted is redacted
and cut, and every secret that the caller names is blotted out first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

from include.sync_health.errors import MonitorError
from include.sync_health.redaction import REDACTED, clean, redact
from include.sync_health.verdicts import ErrorClass

QUOTE_LIMIT = 200
"""Characters of ServiceTitan's own words that an error repeats."""

LONGEST_WAIT = 86_400.0
"""Seconds; a longer wait that an answer asks for is cut to this."""

LONGEST_LIFETIME = 86_400.0
"""Seconds; a token that is said to live longer is not kept (ServiceTitan's live 900)."""

PROBE_SCOPE = "tn.stt.businessunits:r"
"""What the application must be allowed in ServiceTitan for the probe's call."""


class ServiceTitanError(MonitorError):
    """
    ServiceTitan did not do what was asked.

    Args:
        detail: what was asked, what came, and the fix; without any secret.
        status_code: the HTTP status; None without an answer.
        retry_after: seconds that ServiceTitan asks us to wait, if it does.
    """

    error_class: ClassVar[ErrorClass] = ErrorClass.UNKNOWN

    def __init__(self, detail: str, *, status_code: int | None = None, retry_after: float | None = None) -> None:
        self.status_code, self.retry_after = status_code, retry_after
        super().__init__(detail)


class SignInRefused(ServiceTitanError):
    """The client id, its secret, the token or the application key is refused."""

    error_class = ErrorClass.AUTH


class AccessRefused(ServiceTitanError):
    """The application may not do this."""

    error_class = ErrorClass.PERMISSION


class RateLimited(ServiceTitanError):
    """Too many calls of this application and tenant."""

    error_class = ErrorClass.RATE_LIMIT


class ServerFailed(ServiceTitanError):
    """ServiceTitan is in trouble."""

    error_class = ErrorClass.SERVER


class NoAnswer(ServiceTitanError):
    """Nothing came in time, or the connection failed."""

    error_class = ErrorClass.TIMEOUT


class UnreadableAnswer(ServiceTitanError):
    """An answer that is no JSON, too large, or not what was asked for."""

    error_class = ErrorClass.DECODE


class RequestRefused(ServiceTitanError):
    """ServiceTitan understood what was asked, and refuses."""

    error_class = ErrorClass.VALIDATION


class UnexpectedAnswer(ServiceTitanError):
    """An answer that fits nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer, read in full; header names are in lower case."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token, and for how many seconds it is good; 0 where the server did not say."""

    value: str = field(repr=False)
    lifetime: float


_OAUTH_CLASSES: Mapping[str, type[ServiceTitanError]] = {
    "invalid_client": SignInRefused,
    "invalid_grant": SignInRefused,
    "unauthorized_client": SignInRefused,
    "access_denied": SignInRefused,
    "invalid_scope": AccessRefused,
    "invalid_request": RequestRefused,
    "unsupported_grant_type": RequestRefused,
    "server_error": ServerFailed,
    "temporarily_unavailable": ServerFailed,
}
"""Error codes of RFC 6749, sections 4.1.2.1 and 5.2."""

_STATUS_CLASSES: Mapping[int, type[ServiceTitanError]] = {
    400: RequestRefused,
    401: SignInRefused,
    403: AccessRefused,
    404: RequestRefused,
    405: RequestRefused,
    408: NoAnswer,
    422: RequestRefused,
    429: RateLimited,
}

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")  # what a header can carry
_WORD = re.compile(r"[a-z][a-z_]{1,40}")
_TRACE = re.compile(r"[0-9A-Za-z:|.-]{8,64}")
_WAIT = re.compile(r"\b(\d{1,6})(?:\.\d{1,6})? ?(?:seconds?|secs?)\b", re.IGNORECASE)
_WHOLE_SECONDS = re.compile(r"\d{1,9}")

_CREDENTIALS = (
    "check client id and secret (login and password of the connection), and that they belong to its environment"
)


def read_token(answer: Answer, *, now: datetime, secrets: Iterable[str] = ()) -> Token | ServiceTitanError:
    """
    Return the token in an answer of the token server, or what is wrong with the answer.

    Args:
        answer: of ``POST /connect/token``.
        now: the wall clock, for a ``Retry-After`` that is a date; aware.
        secrets: texts that no error may hold.
    """
    document = _document(answer)
    if answer.status_code != 200:
        word = _plain(document.get("error"), _WORD, secrets)
        told = " ".join(part for part in (word, _quoted(document.get("error_description"), secrets)) if part)
        kind = _class_of(answer.status_code, word=word)
        fix = _CREDENTIALS if kind is SignInRefused else _FIXES.get(kind, "")
        return _error(kind, answer, who="ServiceTitan's token server", told=told, fix=fix, now=now)
    value, lifetime = document.get("access_token"), document.get("expires_in")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return UnreadableAnswer("ServiceTitan's token server answered 200 without an access token", status_code=200)
    is_told = isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and 0 < lifetime < LONGEST_LIFETIME
    return Token(value=value, lifetime=float(lifetime or 0) if is_told else 0.0)


def read_document(
    answer: Answer, *, now: datetime, secrets: Iterable[str] = ()
) -> Mapping[str, Any] | ServiceTitanError:
    """
    Return the JSON object in an answer of the API, or what is wrong with the answer.

    Args:
        answer: of a call of the API.
        now: the wall clock, for a ``Retry-After`` that is a date; aware.
        secrets: texts that no error may hold.
    """
    document = _document(answer)
    if not 200 <= answer.status_code < 300:
        kind = _class_of(answer.status_code)
        told = _quoted(document.get("title"), secrets)
        trace = _plain(document.get("traceId"), _TRACE, secrets)
        told = f"{told} (trace {trace})".strip() if trace else told
        return _error(kind, answer, who="ServiceTitan", told=told, fix=_api_fix(kind, told=told), now=now)
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        return UnreadableAnswer(
            f"ServiceTitan answered {answer.status_code} in an encoding that was not asked for",
            status_code=answer.status_code,
        )
    if not document:
        return UnreadableAnswer(
            f"ServiceTitan answered {answer.status_code}, but not with a JSON object", status_code=answer.status_code
        )
    return document


def seconds_to_wait(answer: Answer, *, now: datetime) -> float | None:
    """
    Return for how many seconds an answer asks us to wait, None where it does not say; at most `LONGEST_WAIT`.

    ``Retry-After`` counts, in seconds or as a date; else the seconds in the problem's title ("Rate limit is exceeded. Try
    again in 12 seconds."). ServiceTitan is known to send the title; the header is what other APIs send.

    Args:
        answer: of the API or the token server.
        now: the wall clock; aware.
    """
    given = answer.headers.get("retry-after", "").strip()
    if _WHOLE_SECONDS.fullmatch(given):
        return min(float(given), LONGEST_WAIT)
    if given:
        try:
            until = parsedate_to_datetime(given)
        except (ValueError, OverflowError):
            pass
        else:
            until = until if until.tzinfo else until.replace(tzinfo=UTC)
            return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    title = _document(answer).get("title")
    found = _WAIT.search(title[:1_000]) if isinstance(title, str) else None
    return min(float(found[1]), LONGEST_WAIT) if found else None


def _class_of(status: int, *, word: str = "") -> type[ServiceTitanError]:
    if status == 429:
        return RateLimited
    if status >= 500:
        return ServerFailed
    return _OAUTH_CLASSES.get(word) or _STATUS_CLASSES.get(status, UnexpectedAnswer)


_FIXES: Mapping[type[ServiceTitanError], str] = {
    AccessRefused: f"give the application the scope {PROBE_SCOPE}, and let the tenant accept it again",
    RequestRefused: "check tenant_id and environment of the connection",
}


def _api_fix(kind: type[ServiceTitanError], *, told: str) -> str:
    if kind is not SignInRefused:
        return _FIXES.get(kind, "")
    if "application key" in told.lower() or "st-app-key" in told.lower():
        return "check app_key of the connection: it is the application's key, not the client id"
    return "check app_key and environment of the connection: it refuses a token that its token server has just given"


def _error(
    kind: type[ServiceTitanError], answer: Answer, *, who: str, told: str, fix: str, now: datetime
) -> ServiceTitanError:
    detail = "; ".join(
        part for part in (f"{who} answered {answer.status_code}" + (f": {told}" if told else ""), fix) if part
    )
    wait = seconds_to_wait(answer, now=now) if kind in (RateLimited, ServerFailed) else None
    return kind(detail, status_code=answer.status_code, retry_after=wait)


def _document(answer: Answer) -> Mapping[str, Any]:
    """Return the JSON object in the body, an empty one where there is none."""
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        return {}
    return found if isinstance(found, dict) else {}


def _quoted(text: object, secrets: Iterable[str]) -> str:
    """Return ServiceTitan's own words fit to be shown, on one line, without a full stop."""
    if not isinstance(text, str):
        return ""
    forms = _forms(secrets)
    # Once more after redacting: that takes invisible characters away, which may have stood within a secret.
    text = _blotted(redact(_blotted(text, forms)), forms)
    return clean(text, limit=QUOTE_LIMIT).rstrip(".")


def _plain(text: object, pattern: re.Pattern[str], secrets: Iterable[str]) -> str:
    """Return a word or an id of ServiceTitan's that looks like one and hides nothing, else an empty text."""
    return text if isinstance(text, str) and pattern.fullmatch(text) and _quoted(text, secrets) == text else ""


def _forms(secrets: Iterable[str]) -> list[str]:
    """Return every form in which a server may repeat a secret, the longest first."""
    forms = {
        form
        for secret in secrets
        if secret
        for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    }
    return sorted(forms, key=len, reverse=True)


def _blotted(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        text = text.replace(form, REDACTED)
    return text
