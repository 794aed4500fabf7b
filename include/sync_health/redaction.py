"""
Secrets and personal data out of texts that others wrote, before any person or channel sees them.

Masked as secrets (``‹redacted›``): authorization headers and bearer or basic values; the values of keys that name a
secret (tokens, client id and secret, keys, passwords, cookies, signatures) in key=value, header, JSON, PHP array,
query-string and escaped forms; JWTs; tokens of Slack, AWS, ServiceTitan, GitHub, Google and the like by their
prefix; ``encrypted:`` values; PEM blocks; the user part of URLs; and long strings that look random.
Webhook URLs become ``‹webhook›``.
Masked as personal data: mail addresses (``‹email›``) and phone numbers that are written like one or stand after
such a word (``‹phone›``). Names and street addresses cannot be recognised in free text, and stay.
Kept, because on-call people search by them: UUIDs, W3C trace ids, integer ids, hosts and paths.

Masks are chosen so that none is masked again: `redact` is idempotent. Every pattern either has bounded repeats or
cannot begin again inside its own match, so time is linear in the text.
"""

from __future__ import annotations

import re

REDACTED, WEBHOOK, EMAIL, PHONE = "‹redacted›", "‹webhook›", "‹email›", "‹phone›"
"""What stands in place of a secret, a webhook URL, a mail address and a phone number."""

ELLIPSIS = "…"

_INVISIBLE = re.compile(
    # Control, soft hyphen, zero-width, bidi, variation and tag characters, fillers, surrogates, non-characters.
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    r"\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_LINE_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")
_SPACES = re.compile(r"\s+")

_QUOTE = r"(?:\\{0,4}[\"'`]|&quot;|&#3[49];|%22)"
_SEPARATOR = rf"(?:{_QUOTE})?[\])]?\s{{0,3}}(?:=>|:=|[:=]|%3[ad])\s{{0,3}}[\[({{]{{0,3}}\s{{0,3}}"
_QUOTED_VALUE = (
    r"(?:\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?|`[^`]*+`?|\\{1,4}[\"'][^\"'\\]*+(?:\\{1,4}[\"'])?"
    r"|(?P<entity>&quot;|&#3[49];|%22).*?(?:(?P=entity)|\Z))"
)
_SCHEME = r"(?:(?:bearer|basic|digest|token|negotiate)\s{1,3})?"
# A value that ends like a key ("password=apiKey: k0rz") takes what follows with it.
_BARE_VALUE = rf"(?:{REDACTED}(?=[\\\s,;&)}}\]]|\Z)|[^\s\"'`&<>]++(?:(?<=[:=])\s{{1,3}}{_SCHEME}[^\s\"'`&<>]++)*+)"

_KEY_NAMES = (
    r"(?:authorization|passw(?:or)?d|passwort|passphrase|pwd|secret|(?:client|app|shared|webhook)[ _-]?secret"
    r"|(?:api|app|application|access|private|secret|signing|encryption|account|fernet)[ _-]?key"
    r"|(?:access|refresh|id|auth|bearer|api|bot|session|csrf|xsrf|security)[_-]?token"
    r"|client[ _-]?id|php_?sessid|session[_-]?id|signature|\bsig|credentials?_json)"
    r"(?:[_-]?(?:preview|value|hash|id))?"
)
_KEY_HINTS = ("authorization", "pass", "pwd", "secret", "key", "token", "client", "sess", "sig", "credential")

_MASKS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    # What a text must hold, in lower case, for the pattern to be tried at all; the pattern; its replacement.
    (hints, re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for hints, pattern, replacement in (
        (("-----begin ",), r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", REDACTED),
        # What is quoted goes first: a bare value ends at a quote, and must not take the key of what follows away.
        (
            _KEY_HINTS,
            rf"((?:{_KEY_NAMES}|token){_SEPARATOR}){_QUOTED_VALUE}",
            rf"\1{REDACTED}",
        ),
        (
            ("hooks.",),
            r"(?:https?(?::|%3a)(?:/|%2f|\\/){2})?(?:hooks\.slack(?:-gov)?\.com|(?<![a-z0-9.-])hooks\.[a-z0-9.-]{1,100}+)"
            r"(?:/|%2f|\\/)[^\s\"'<>|]++",
            WEBHOOK,
        ),
        (
            ("authorization",),
            rf"(authorization{_SEPARATOR}){_SCHEME}{_BARE_VALUE}",
            rf"\1{REDACTED}",
        ),
        (_KEY_HINTS, rf"({_KEY_NAMES}{_SEPARATOR}){_BARE_VALUE}", rf"\1{REDACTED}"),
        # "token=abc" is one; "access token: Connection refused" is prose, "token: a1b2c3" is not.
        (("token",), rf"(token\s{{0,3}}(?:=>?|%3d)\s{{0,3}}){_BARE_VALUE}", rf"\1{REDACTED}"),
        (
            ("token",),
            rf"(token{_SEPARATOR})(?:(?=[^\s\"'`&<>\d]{{0,200}}\d)|(?=[^\s\"'`&<>]{{16}})){_BARE_VALUE}",
            rf"\1{REDACTED}",
        ),
        (("cookie",), r"(cookie2?\s{0,3}:\s{0,3})[^\n\"']++", rf"\1{REDACTED}"),
        (
            ("-p", "-t", "-s", "-a", "-c"),
            r"(-(?:password|passwd|pwd|token|secret|api-?key|client-(?:id|secret))\s{1,3})[^\s\"'<>-]\S*+",
            rf"\1{REDACTED}",
        ),
        (("encrypted:",), r"encrypted:[^\s\"'<>,]++", REDACTED),
        (("://",), r"(://)[^\s/@\"'<>]{1,300}@", rf"\1{REDACTED}@"),
        # A password with a slash in it, but not a port.
        (
            ("://",),
            r"(://)[^\s:/@\"'<>]{1,100}:(?!\d{1,5}(?:[/?#\s]|\Z))[^\s\"'<>]{1,300}@",
            rf"\1{REDACTED}@",
        ),
        (("@", "%40"), r"(?<![\w.+-])[\w.+-]++(?:@|%40)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}", EMAIL),
        (
            ("phone", "mobile", "tel", "fax", "sms"),
            r"((?:phone|mobile|(?<![a-z])(?:tel|fax|sms))(?:_?numbers?)?[\"']?\s{0,3}[:=]?\s{0,3}[\"'(]?)"
            r"\+?\d[\d .()-]{5,20}\d",
            rf"\1{PHONE}",
        ),
        (
            (" ", ".", "-"),
            r"(?:\+?1[ .-]?)?\(\d{3}\) ?\d{3}[ .-]\d{4,6}|(?:\+?1[ .-])?\d{3}[.-]\d{3}[.-]\d{4,6}",
            PHONE,
        ),
        (("+",), r"\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){1,5}\d{3,6}", PHONE),
    )
)
_BEARER = re.compile(
    r"(?i:(bearer|basic)\s{1,3})(?=[\w.~+/=-]{0,300}(?:\d|[a-z][A-Z]|=)|[\w.~+/=-]{20})[\w.~+/=-]{6,}+"
)
_URL = re.compile(r"https?(?::|%3a)(?:/|%2f|\\/){2}[^\s\"'<>|]++", re.IGNORECASE)

_RUN = re.compile(r"[A-Za-z0-9+/_=.~-]{10,}+")
_KNOWN_TOKEN = re.compile(  # by its prefix, anywhere in a run; all that follows in the run belongs to it
    r"eyJ[\w-]{8}"  # JWT
    r"|(?i:x(?:ox[a-z]|app)(?:\.xox[a-z])?-[\w-]{6})"  # Slack
    r"|(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z0-9]{16}"  # AWS
    r"|(?:cid|cs\d?|ak\d?)\.[\w-]{12}"  # ServiceTitan client id, client secret, application key
    r"|(?:gh[opsur]_|github_pat_|glpat-|[rs]k_live_|[rs]k_test_|AIza|SG\.|ya29\.|shpat_)[\w.-]{16}"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_=~-]{32,}+")
_SEGMENT = re.compile(r"[A-Za-z0-9+_~-]{20,}+")
_NAMED_ID = re.compile(  # a UUID, or a W3C trace id
    r"(?<![0-9a-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?![0-9a-z])",
    re.IGNORECASE,
)
_HEX = re.compile(r"[0-9a-fA-F]{32}")
_LETTER, _DIGIT = re.compile(r"[A-Za-z]"), re.compile(r"[0-9]")
_CHANGE = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")

_SPAN = 32
"""Characters within which a longer string is looked at for its changes of kind."""

_ROUNDS = 4
"""A mask may bring together what was apart; more rounds than this have never changed a text."""


def redact(text: str) -> str:
    """
    Return the text without secrets, personal data and invisible characters; line breaks stay, as ``\\n``.

    ``redact(redact(text)) == redact(text)``. The text can be encoded in UTF-8.
    """
    text = _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text))
    for _ in range(_ROUNDS):
        before, lowered = text, text.lower()
        for hints, pattern, replacement in _MASKS:
            if any(hint in lowered for hint in hints):
                text = pattern.sub(replacement, text)
        text = _URL.sub(_without_webhook, text)
        text = _BEARER.sub(rf"\1 {REDACTED}", text)
        text = _RUN.sub(_without_tokens, text)
        if text == before:
            break
    return text


def clean(text: str | None, *, limit: int) -> str:
    """
    Return untrusted text fit to be shown: redacted, on one line, and at most ``limit`` characters.

    A longer text keeps its head and its tail around "…": what failed stands in front, why often at the end.
    Not escaped: that is the renderer's. "" for None.

    Raises:
        ValueError: ``limit`` is less than 1.
    """
    return shorten(_SPACES.sub(" ", redact(text)).strip() if text else "", limit=limit)


def shorten(text: str, *, limit: int) -> str:
    """
    Return the text itself when it has at most ``limit`` characters, else its head and tail around "…".

    Raises:
        ValueError: ``limit`` is less than 1.
    """
    if limit < 1:
        raise ValueError(f"a text cannot be cut to {limit} characters")
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 3
    head = limit - 1 - tail
    return text[:head].rstrip() + ELLIPSIS + (text[-tail:].lstrip() if tail else "")


def _without_webhook(match: re.Match[str]) -> str:
    return WEBHOOK if "webhook" in match[0].lower() else match[0]


def _without_tokens(match: re.Match[str]) -> str:
    run = match[0]
    if known := _KNOWN_TOKEN.search(run):
        return run[: known.start()] + REDACTED
    return _SEGMENT.sub(_without_randomness, _BASE64.sub(_without_randomness, run))


def _without_randomness(match: re.Match[str]) -> str:
    return REDACTED if _looks_random(match[0]) else match[0]


def _looks_random(text: str) -> bool:
    """Return whether the kind of character changes more often than in words, paths and numbered names."""
    if not (_LETTER.search(text) and _DIGIT.search(text)):
        return False
    text = _NAMED_ID.sub("", text)
    if len(text) < 20:
        return False
    if _HEX.search(text):
        return _DIGIT.search(text) is not None
    share = 0.28 if text != text.lower() and text != text.upper() else 0.18
    changes = [change.start() for change in _CHANGE.finditer(text)]
    if len(changes) >= len(text) * share:
        return True
    # A secret glued to plain text must not hide behind its length.
    needed = round(_SPAN * share)
    return any(later - earlier < _SPAN for earlier, later in zip(changes, changes[needed - 1 :], strict=False))
