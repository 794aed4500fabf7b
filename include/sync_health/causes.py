"""
Why a sync failed, read from its error text: the class of the error, and a fingerprint of its root cause.

The texts are those that Hub Plus and ServiceTitan write. The text is untrusted, may be missing, empty or
huge, and holds ids, numbers, names and times that differ from run to run. Precedence, first match wins:

    1  cancelled    upstream's "Sync cancelled by user", and nothing beside it
    2  rate_limit   its words, or status 429
    3  auth         an OAuth error code, or ServiceTitan's words for a missing application key
    4  by status    401 auth, 403 permission, 408 timeout, 422 validation, 5xx server; the first status in the text
    5  permission   its words ("forbidden", "insufficient scope")
    6  server       its words ("bad gateway", "server error")
    7  timeout      timeouts and every failure of transport (DNS, TLS, refused, reset)
    8  auth         its words ("Failed to refresh access token"): after 6 and 7, for a refresh that
                    failed because the token server was down is no fault of the credential
    9  decode       an answer that is no JSON
    10 validation   records or a request that were refused; status 400 without any words above
    11 unknown      everything else, such as "Unknown API error" and "Maximum retry attempts exceeded"

A number is a status only where it stands like one ("HTTP 503", "status_code: 401", "502 Bad Gateway"),
never in "order 4012", "401 records" or "area code 503". Addresses (URLs, mail) are ignored: they hold other
people's words. Every pattern has bounded repeats and reads a text cut to `TEXT_LIMIT`, so time is linear.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from include.sync_health.frames import CANCELLED_BY_USER
from include.sync_health.verdicts import ErrorClass

if TYPE_CHECKING:
    import pandas as pd

CAUSE_VERSION = 1
"""Version of the masks and classes behind `root_cause`; raise it when either changes, as fingerprints then change."""

TEXT_LIMIT = 4_000
"""Characters of a text that are read; the reader cuts at 2,000 already."""

TEMPLATE_LIMIT = 500
"""Characters of a template that count."""

_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]+", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}")

OAUTH_CODES = (
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "invalid_token",
    "invalid_request",
    "unauthorized_client",
    "unsupported_grant_type",
    "insufficient_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
)
"""Error codes of RFC 6749 (sections 4.1.2.1, 5.2) and RFC 6750 (section 3.1): kept in templates though quoted."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_RATE_LIMIT = _words(
    r"\brate[ _-]?limit(?:ed|ing|s)?\b", r"\btoo many requests\b", r"\b(?:request|api) quota\b", r"\bquota exceeded\b"
)
_AUTH_CODE = _words(
    r"\binvalid_(?:client|grant|token)\b",
    r"\bunauthorized_client\b",
    r"\bapplication key not present\b",
    r"\bST-App-Key\b",
)
_PERMISSION = _words(
    r"\bforbidden\b",
    r"\b(?:access|permission)[ _]denied\b",
    r"\binsufficient[ _](?:scope|permission|privilege)s?\b",
    r"\b(?:missing|invalid)[ _](?:required )?scopes?\b",
    r"\bnot (?:licensed|permitted)\b",
)
_SERVER = _words(
    r"\b(?:internal )?server[ _]error\b",
    r"\bbad gateway\b",
    r"\bservice (?:is )?(?:temporarily )?unavailable\b",
    r"\btemporarily_unavailable\b",
    r"\bgateway time-?out\b",
    r"\bunder maintenance\b",
)
_TIMEOUT = _words(
    r"\btime[ds]?[ -]?outs?\b",
    r"\bcurl(?: error)? ?\(?\d{1,2}\b",
    r"\btransport (?:error|exception|failure)\b|\bTransportException",
    r"\b(?:could not|couldn't|failed to) (?:resolve|connect)\b",
    r"\bconnection (?:was )?(?:refused|reset|closed|aborted|lost|failed)\b|\bconnect(?:ion)? error\b",
    r"\bempty reply from server\b",
    r"\b(?:network|host) (?:is )?(?:unreachable|down)\b|\bno route to host\b",
    r"\bname or service not known\b|\bgetaddrinfo\b",
    r"\b(?:SSL|TLS)\b[^.]{0,40}\b(?:error|failed|failure|problem|expired)\b|\bhandshake failure\b",
    r"\bcertificate (?:verify failed|has expired)\b|\bself[ -]signed certificate\b",
    r"\bbroken pipe\b|\bunexpected (?:EOF|end of file)\b|\bmax(?:imum)? execution time\b|\bhas gone away\b",
)
_AUTH = _words(
    r"\b(?:refresh|access|bearer)[ _]?token\b",
    r"\btoken (?:has |is |was )?(?:expired|invalid|revoked|missing|rejected)\b|\b(?:expired|invalid) token\b",
    r"\btoken (?:refresh|validation) failed\b|\brefreshing (?:the )?token\b",
    r"\bunauthori[sz]ed\b|\bnot authori[sz]ed\b",
    r"\bauthentication (?:has |is )?(?:failed|required|error|failure)\b|\bnot authenticated\b|\bunauthenticated\b",
    r"\bOAuth\b",
    r"\b(?:invalid|wrong|bad|incomplete|missing) (?:client )?credentials?\b|\bclient (?:id|secret)\b",
)
_DECODE = _words(
    r"\b(?:invalid|malformed|unexpected|bad|corrupt) (?:json|xml|utf-?8)\b",
    r"\b(?:failed|unable) to (?:decode|parse|unserialize|deserialize)\b|\bcould not (?:decode|parse)\b",
    r"\bjson(?:_decode)?\b[^.]{0,20}\b(?:error|exception|failed)\b|\bJsonException\b",
    r"\bsyntax error\b|\bunexpected token\b|\bempty response\b|\bmalformed (?:response|UTF-8 characters)\b",
)
_VALIDATION = _words(
    r"\brequired fields? (?:is|are) missing\b|\bmissing required (?:fields?|propert(?:y|ies))\b",
    r"\bis (?:empty|required|invalid)\b",
    r"\bvalidation\b",
    r"\binvalid (?:[\w-]{1,30} ){0,4}(?:format|status|value|amount|date|e-?mail|phone)\b",
    r"\bcannot be (?:negative|empty|blank|null)\b|\bmust (?:not )?be\b",
    r"\bcustomer_first_name, customer_last_name, or customer_name\b",
    r"\bunprocessable\b|\binvalid_request\b|\bbad request\b|\binvalid customers found\b",
)

# A status and its own reason: "Customer 401 not found" is none.
_REASONED = (
    r"(?:400[^\w<>]{1,4}bad request|401[^\w<>]{1,4}unauthori[sz]ed|403[^\w<>]{1,4}forbidden|404[^\w<>]{1,4}not found"
    r"|408[^\w<>]{1,4}request time-?out|409[^\w<>]{1,4}conflict|422[^\w<>]{1,4}unprocessable"
    r"|429[^\w<>]{1,4}too many requests|500[^\w<>]{1,4}internal server error|502[^\w<>]{1,4}bad gateway"
    r"|503[^\w<>]{1,4}service (?:temporarily )?unavailable|504[^\w<>]{1,4}gateway time-?out"
    r"|4\d\d[^\w<>]{1,4}client error|5\d\d[^\w<>]{1,4}server error)\b"
)
_NOT_A_COUNT = (
    r"(?![\d%/]|[.,-]\d|[ _-]?(?:records?|rows?|items?|customers?|invoices?|orders?|errors|jobs?|times|attempts?"
    r"|retries|ms|milliseconds?|s|secs?|seconds?|min|minutes?|hours?|days?|bytes?|[kmg]b|chars?|lines?|of \d)\b)"
)
_STATUS = re.compile(
    r"(?<!zip )(?<!post )(?<!postal )(?<!area )(?<!country )(?<!dial )(?<!promo )"
    r"\b(?:https?(?:/\d(?:\.\d)?)?|(?:http[ _-]?)?(?:status|response)(?:[ _-]?code)?"
    r"|(?:(?:status|http|error|response)[ _-]?)?code|error|failed|returned|responded|response|received|got)"
    r"[\"']?(?: (?:with|was|is|of|status|code|a|an|http)){0,3}[\"']? ?[:=(\[#-]? ?[\"'(\[]?"
    rf"(?P<named>[45]\d\d)\b{_NOT_A_COUNT}"
    rf"|(?<![\w.,#/-])(?={_REASONED})(?P<reasoned>[45]\d\d)"
    rf"|^[\[(\"']?(?P<leading>[45]\d\d)[\])\"']?(?: ?[:-] |$)",
    re.IGNORECASE,
)

_BY_STATUS = {
    401: ErrorClass.AUTH,
    403: ErrorClass.PERMISSION,
    408: ErrorClass.TIMEOUT,
    422: ErrorClass.VALIDATION,
    429: ErrorClass.RATE_LIMIT,
}

_TIME = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,9})?(?: ?(?:am|pm|utc|gmt|z\b|[+-]\d{2}:?\d{2}))?"
_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_MASKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), mask)
    for pattern, mask in (  # on lower-cased text, in this order: what holds others comes first
        (r"\b(?:bearer|basic) [\w.~+/=-]{4,}", "<token>"),
        (r"\beyj[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*)?", "<token>"),
        (
            r"\b((?:access_?|refresh_?|id_?)?token|(?:client_?|app_?)?secret|client_?id|(?:api_?|app_?)?key|passw(?:or)?d|pwd)"
            # after ": " only what looks like a secret, for "access token: HTTP 503" is prose
            r"( ?[:=] ?)(?:(?<==)|(?<== )|(?=[a-z]{0,60}\d)|(?=[^\s<>]{16}))[^\s\"',;&<>{}]{1,400}",
            r"\1\2<token>",
        ),
        (r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]+", "<url>"),
        (r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}", "<email>"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b", "<host>"),
        (rf"\b\d{{4}}-\d{{2}}-\d{{2}}(?:[t ]{_TIME})?", "<time>"),
        (rf"\b(?:{_DAY},? )?\d{{1,2}} {_MONTH},? \d{{4}}(?:,? {_TIME})?", "<time>"),
        (rf"\b(?:{_DAY},? )?{_MONTH} \d{{1,2}}(?:,? \d{{4}})?(?:,? {_TIME})?\b", "<time>"),
        (rf"\b\d{{1,2}}/\d{{1,2}}/\d{{2,4}}(?: {_TIME})?", "<time>"),
        (rf"\b{_TIME}", "<time>"),
        (r"(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b", "<host>"),
        (
            r"\b[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,6}\."
            r"(?:com|net|org|io|co|us|ca|dev|app|cloud|biz|info|local|internal|lan|localdomain|corp)\b(?::\d{1,5})?",
            "<host>",
        ),
        (r"\b(?:localhost|[a-z0-9-]{1,63})(?=:\d{2,5}\b):\d{2,5}\b", "<host>"),
        (r"\b0x[0-9a-f]{2,}\b|\b(?=[a-f]{0,40}\d)(?=\d{0,40}[a-f])[0-9a-f]{8,}\b", "<id>"),
        (r"(?<![\w<])(?=[a-z_-]{0,60}\d)[\w-]{20,}", "<id>"),
        (r"(?<!\w)[+-]?\d+(?:[.,]\d+){0,9}%?|\d+", "<n>"),
    )
)
_QUOTED = re.compile(r"(?<![\w<])(?:\"([^\"]{0,400})\"|'([^'\n]{0,400})'(?!\w)|`([^`]{0,400})`)( ?:)?")
_REPEATED = re.compile(r"(<[a-z]+>)(?: ?[,;/|] ?(?:and |or )?\1| (?:and|or) \1| \1)+")


def classify(message: str | None) -> ErrorClass:
    """
    Return the class of an error text; `ErrorClass.UNKNOWN` for none, an empty one, or one that tells nothing.

    Never raises, whatever the text holds. The module's docstring gives the precedence.
    """
    text = _readable(message)
    if not text:
        return ErrorClass.UNKNOWN
    if text.rstrip(".! ").casefold() == CANCELLED_BY_USER.casefold():
        return ErrorClass.CANCELLED
    text = _EMAIL.sub(" ", _URL.sub(" ", text))
    status = _status_in(text)
    if status == 429 or _RATE_LIMIT.search(text):
        return ErrorClass.RATE_LIMIT
    if _AUTH_CODE.search(text):
        return ErrorClass.AUTH
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is not None and status >= 500:
        return ErrorClass.SERVER
    for words, error_class in (
        (_PERMISSION, ErrorClass.PERMISSION),
        (_SERVER, ErrorClass.SERVER),
        (_TIMEOUT, ErrorClass.TIMEOUT),
        (_AUTH, ErrorClass.AUTH),
        (_DECODE, ErrorClass.DECODE),
        (_VALIDATION, ErrorClass.VALIDATION),
    ):
        if words.search(text):
            return error_class
    return ErrorClass.VALIDATION if status == 400 else ErrorClass.UNKNOWN


def template_of(message: str | None) -> str:
    """
    Return the text with what differs from run to run masked: lower case, one line, at most `TEMPLATE_LIMIT` characters.

    Masks: ``<token> <url> <email> <uuid> <time> <host> <id> <n>`` and ``<text>`` for quoted values; JSON keys and
    the error codes of OAuth stay. A list of like masks becomes one ("ids 1, 2, 3" is "ids <n>").
    "" for None and for a text without content.
    """
    text = _QUOTED.sub(_mask_quoted, _readable(message).lower())
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return _REPEATED.sub(r"\1", text)[:TEMPLATE_LIMIT].strip()


def root_cause(message: str | None, error_class: ErrorClass) -> str:
    """Return the fingerprint of a root cause: 16 hex digits of sha256 over class, template and `CAUSE_VERSION`."""
    parts = f"{error_class.value}\n{template_of(message)}\n{CAUSE_VERSION}"
    return hashlib.sha256(parts.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def classify_messages(messages: pd.Series) -> pd.DataFrame:
    """
    Return the class and root cause of each text; work is done once per different text.

    Args:
        messages: str or null; anything else is read as its ``str``.

    Returns:
        The same index and order.
            error_class  str    value of an `ErrorClass`
            cause        str    see `root_cause`; a null text has one too
    """
    import pandas as pd

    codes, uniques = pd.factorize(messages)
    texts: list[str | None] = [str(value) for value in uniques]
    texts.append(None)  # code -1, a null, takes the last
    classes = [classify(text) for text in texts]
    causes = [root_cause(text, error_class) for text, error_class in zip(texts, classes, strict=True)]
    return pd.DataFrame(
        {
            "error_class": [classes[code].value for code in codes],
            "cause": [causes[code] for code in codes],
        },
        index=messages.index,
        dtype=object,
    )


def _readable(message: str | None) -> str:
    return _SPACES.sub(" ", message[:TEXT_LIMIT]).strip() if message else ""


def _status_in(text: str) -> int | None:
    match = _STATUS.search(text)
    return int(next(group for group in match.groups() if group)) if match else None


def _mask_quoted(match: re.Match[str]) -> str:
    value = next(group for group in match.groups()[:3] if group is not None)
    if match[4] or value in OAUTH_CODES:
        return match[0]
    return "<text>"
