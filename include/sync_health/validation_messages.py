"""
The validation messages of Hub Plus: which fields they name, and a form of them that anyone may see.

Sources: the records' own checks (CustomerRecord, InvoiceRecord, FieldsAreMissing; joined by ", "), and the rules of
its story ST-013. "Invoice Amount is Invalid" is written when the total is empty, and so means a missing one.

A reason is shown without whatever its writer put into it: of a text that is not one of these messages only words of a
fixed vocabulary stay. Masks alone would not do, for no pattern recognises a name or a street.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from include.sync_health.causes import template_of
from include.sync_health.field_names import ALIASES, field_named, known_field
from include.sync_health.redaction import clean

TEXT_LIMIT = 2_000
"""Characters of a message that are read."""

REASON_LIMIT = 200
"""Characters of a reason that are shown."""


@dataclass(frozen=True, slots=True)
class Named:
    """A field that a message names, whether it means that the field is missing, and the part of the message that says so."""

    field: str
    is_missing: bool
    reason: str


KNOWN: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        # Message: the field's name, and whether it means that the field is missing.
        "Zip Code is Empty": ("zip", True),
        "Street is Empty": ("street", True),
        "City is Empty": ("city", True),
        "State is Empty": ("state", True),
        "Invoice Amount is Invalid": ("total", True),
        "Customer ID is required": ("customerId", True),
        "Customer name is required": ("customerName", True),
        "Invoice ID is required": ("invoiceId", True),
        "Invalid email format": ("email", False),
        "Invalid phone number format": ("phoneNumber", False),
        "Invoice total cannot be negative": ("total", False),
        "Invalid invoice date format": ("invoiceDate", False),
        "Invalid invoice status": ("status", False),
    }
)
"""What upstream writes as it stands; of a customers sync, ``customerId`` is its ``id``, and likewise the others."""

NO_CUSTOMER_NAME = "customer_first_name, customer_last_name, or customer_name for Customer"
"""Of upstream's processCustomerNames; a customer's id follows, and is never shown."""

FIELDS_ARE_MISSING = "Required fields are missing"
"""Upstream's FieldsAreMissing; the names follow after a colon."""

_BY_TEXT = {message.casefold(): (message, *meaning) for message, meaning in KNOWN.items()}
_CONSTANT = {text.casefold(): text for text in (*KNOWN, NO_CUSTOMER_NAME, FIELDS_ARE_MISSING)}
_NO_NAME = re.compile(re.escape(NO_CUSTOMER_NAME) + r"(?:: ?[\w-]{1,64})?", re.IGNORECASE)
_ARE_MISSING = re.compile(r"required fields are missing: ?", re.IGNORECASE)
_LISTED = re.compile(r"[A-Za-z_][\w.]{0,63}\Z")
_STATED = re.compile(
    r"(?:the )?(?P<field>[A-Za-z_][\w ]{0,60}?)(?: field)? is "
    r"(?P<how>required|missing|empty|blank|null|not set|invalid|not valid)\Z",
    re.IGNORECASE,
)
_LIST_END = re.compile(r"[;:\n|]|\. |\.\Z")
_SEGMENTS = re.compile(r"[,;:\n|]|\. |\.\Z")
_STATES = ("empty", "invalid", "required", "missing", "blank", "null", "not set", "not valid")
# One of the hints of `may_name_a_field`, or " is " and a state, stands in every message that `fields_in` finds a field in.
_MISSING = re.compile(
    r"\b(?:missing|required|empty|blank|absent|null|not (?:set|provided|present|blank|null|empty))\b", re.IGNORECASE
)
_NOT_MISSING = re.compile(r"\bformat\b|\binvalid\b|\bmalformed\b|\bnot valid\b", re.IGNORECASE)

_MASKS = frozenset(["<token>", "<url>", "<email>", "<uuid>", "<time>", "<host>", "<id>", "<n>", "<text>"])
_WORDS = {
    *ALIASES,
    *re.findall(
        r"[a-z]+",
        """
        a above after all allowed already an and any are array as at be before below between blank body boolean both but by
        cannot character characters code column contains could data date decimal did digit digits do does duplicate each
        either email empty entry error errors exceeds exist exists expected expects failed field fields file for format
        found from future given greater had has have id ids if in incomplete incorrect index integer invalid is it item items
        json key known least length less list longer malformed match maximum mandatory minimum missing more must
        negative no none not null number numeric object of on one only or out over past pattern positive present property
        provided range read record records reference rejected required row same schema set should size string than that
        the there this to too type unexpected unique unknown unsupported use valid validation value values was were with
        within without wrong zero
        address amount business city country customer customers first invoice invoices job last line location name names
        phone phones postal region state status street summary tax tenant total unit zip
        """,
    ),
}
_WORD = re.compile(r"<[a-z]+>|[^\W_]+")
_UNSHOWN = re.compile(r"[^\w .,:;()/<>'…_-]+")
_HIDDEN = re.compile(r"…(?:[\s.,:;()/<>'_-]*…)+")


def may_name_a_field(message: str, *, limit: int | None = TEXT_LIMIT) -> bool:
    """
    Return False, at little cost, for most messages that name no field; never for one that does.

    ``limit`` is how many characters are looked at; None: all.
    """
    lowered = message[:limit].lower()
    if " is " in lowered and any(f" is {state}" in lowered for state in _STATES):
        return True
    # A loop over the hints would take twice the time.
    return (
        "are missing" in lowered
        or "be negative" in lowered
        or "invalid email" in lowered
        or "invalid phone" in lowered
        or "invalid invoice" in lowered
        or "customer_name for" in lowered
    )


def fields_in(message: str, data_type: str) -> tuple[Named, ...]:
    """
    Return the fields that a message names, each once, in their order; nothing for a message that names none.

    Read are `KNOWN`, the names after "Required fields are missing", and "<field> is required" and its like for a field
    of `ALIASES`. Never raises.
    """
    return _fields_in(message[:TEXT_LIMIT], data_type) if may_name_a_field(message) else ()


@lru_cache(maxsize=2_000)
def _fields_in(text: str, data_type: str) -> tuple[Named, ...]:
    named: dict[str, Named] = {}

    def add(field: str, is_missing: bool, reason: str) -> None:
        if field not in named or (is_missing and not named[field].is_missing):
            named[field] = Named(field, is_missing, reason)

    if _NO_NAME.search(text):
        add(field_named("customerName", data_type)[0], True, NO_CUSTOMER_NAME)
        text = _NO_NAME.sub("", text)
    if found := _ARE_MISSING.search(text):
        for part in text[found.end() :].split(","):
            word, *rest = (each.strip() for each in _LIST_END.split(part, maxsplit=1))
            if not _LISTED.match(word):
                break
            add(field_named(word, data_type)[0], True, FIELDS_ARE_MISSING)
            if rest:
                break
    for segment in _SEGMENTS.split(text):
        stripped = segment.strip()
        if known := _BY_TEXT.get(stripped.casefold()):
            add(field_named(known[1], data_type)[0], known[2], known[0])
        elif (stated := _STATED.match(stripped)) and (field := known_field(stated["field"], data_type)):
            add(field, "valid" not in stated["how"].lower(), stripped)
    return tuple(named.values())


def says_missing(text: str) -> bool:
    """Return whether a message or code about one field says that it is missing, rather than wrong."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", text[:TEXT_LIMIT])
    return bool(_MISSING.search(words)) and not _NOT_MISSING.search(words)


def shown_reason(text: str) -> str:
    """
    Return a text of a stranger as a reason that holds nobody's data, at most `REASON_LIMIT` characters; "" for nothing.

    A message of `KNOWN` stays as it is; of any other only what the module's vocabulary has, "…" for the rest.
    """
    return _shown(text[:TEXT_LIMIT].strip())


@lru_cache(maxsize=2_000)
def _shown(text: str) -> str:
    if known := _CONSTANT.get(text.casefold()):
        return known
    masked = _WORD.sub(_if_harmless, template_of(clean(text, limit=TEXT_LIMIT)))
    shown = " ".join(_UNSHOWN.sub(" ", masked).split())
    # Again, as masks bring together what was apart.
    shown = clean(_HIDDEN.sub("…", shown), limit=REASON_LIMIT)
    return shown if re.search(r"[a-z]", shown) else ""


def _if_harmless(match: re.Match[str]) -> str:
    word = match[0]
    return word if word in _MASKS or word in _WORDS else "…"
