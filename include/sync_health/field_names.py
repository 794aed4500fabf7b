"""
What a field is called: one name for each, as ServiceTitan writes it, whichever way the source spells it.

Names come from untrusted JSON, where a key may as well be a value (a record's id, a customer's mail address). So only
what reads like an identifier is kept; everything else is `OTHER`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from include.sync_health.redaction import redact

OTHER = "other"
"""A field without a name of its own: none is told, the name looks like a value, or there are too many of them."""

NAME_LIMIT = 64
"""Characters of a field's name."""

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    # Canonical name: how else it is written, in lower case without separators. Hub Plus maps ServiceTitan's invoiceDate
    # to first_appointment, and number to invoice_number.
    "id": (),
    "name": ("fullname", "displayname"),
    "firstName": ("customerfirstname",),
    "lastName": ("customerlastname", "surname"),
    "customerId": ("customeruuid",),
    "customerName": (),
    "invoiceId": ("invoiceuuid",),
    "number": ("invoicenumber", "invoiceno", "referencenumber"),
    "jobNumber": ("jobno",),
    "total": ("invoicetotal", "totalamount", "amount", "invoiceamount"),
    "email": ("emails", "emailaddress", "emailaddresses", "mail", "customeremail"),
    "phoneNumber": (
        "phone",
        "phones",
        "phonenumbers",
        "phonenumbersnumber",
        "phonesnumber",
        "telephone",
        "mobile",
        "customerphone",
        "customerphonenumber",
        "customerphonenumbers",
    ),
    "invoiceDate": ("firstappointment", "invoicedon"),
    "status": ("invoicestatus", "customerstatus", "currentstatus"),
    "street": ("streetaddress", "address1", "addressline1", "addressstreet"),
    "unit": ("address2", "addressline2"),
    "city": ("town",),
    "state": ("province", "region"),
    "zip": ("zipcode", "postalcode", "postcode", "addresszip"),
    "country": ("countrycode",),
    "address": ("addresses",),
    "businessUnit": ("businessunitname", "businessunitid"),
    "jobType": ("jobtypename",),
    "summary": ("invoicesummary",),
    "active": ("activemember", "isactive"),
    "membershipType": (),
}

ALIASES: Mapping[str, str] = MappingProxyType(
    {spelling: name for name, others in _SPELLINGS.items() for spelling in (name.lower(), *others)}
)
"""Spelling, in lower case without separators, to canonical name."""

_OWN: Mapping[str, Mapping[str, str]] = {
    # An entity's own id and name are plain "id" and "name".
    "customers": {"customerId": "id", "customerName": "name"},
    "invoices": {"invoiceId": "id"},
}

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_PARTS = re.compile(r"[^.\[\]/$]+")
_PLACE = re.compile(r"[0-9]{1,9}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def field_named(text: str, data_type: str) -> tuple[str, int | None]:
    """
    Return the field that a name or a path names, and the index of its record where the path leads with one.

    "zip_code", "Zip Code" and "location.address.zip" are ``zip``; "items[3].email" is ``email`` of record 3;
    "customer.id" is ``customerId`` of an invoice, and ``id`` of a customer. A name that nobody knows stays as it is, up
    to `NAME_LIMIT` characters of letters, digits, "_" and "-"; one that is no identifier, or looks like a value, is
    `OTHER`. Never raises.
    """
    return _named(text[: 4 * NAME_LIMIT].strip(), data_type)


@lru_cache(maxsize=10_000)
def _named(text: str, data_type: str) -> tuple[str, int | None]:
    whole = ALIASES.get(_spelling(text))
    if whole is not None:
        return _own(whole, data_type), None
    parts = [part.strip() for part in _PARTS.findall(text)]
    words = [part for part in parts if not _PLACE.match(part)]
    # A path has only names in it: a mail address or a host with a port is none.
    if not all(_NAME.match(word) or _spelling(word) in ALIASES for word in words) or not words:
        return OTHER, None
    index = _leading_index(parts)
    if len(words) > 1:
        joined = ALIASES.get(_spelling(words[-2].rstrip("s") + words[-1])) or ALIASES.get(
            _spelling(words[-2] + words[-1])
        )
        if joined is not None:
            return _own(joined, data_type), index
    known = ALIASES.get(_spelling(words[-1]))
    return _own(known, data_type) if known is not None else _kept(words[-1]), index


def known_field(text: str, data_type: str) -> str | None:
    """Return the field when it is one of `ALIASES`, else None."""
    known = ALIASES.get(_spelling(text[:NAME_LIMIT]))
    return None if known is None else _own(known, data_type)


def _spelling(text: str) -> str:
    return _SEPARATORS.sub("", text.lower())


def _own(name: str, data_type: str) -> str:
    return _OWN.get(data_type, {}).get(name, name)


def _leading_index(parts: list[str]) -> int | None:
    """Return the 3 of "3.email" and "items.3.email", but not of "phoneNumbers.3.number", which counts phones."""
    for place, part in enumerate(parts[:2]):
        if _PLACE.match(part) and (place == 0 or _spelling(parts[0]) not in ALIASES):
            return int(part)
    return None


def _kept(name: str) -> str:
    if not _NAME.match(name) or len(name) > NAME_LIMIT or _UUID.search(name):
        return OTHER
    # A name with a number of four digits or more in it is a numbered thing: an id, a phone number.
    if re.search(r"[0-9]{4}", name) or redact(name) != name:
        return OTHER
    return name
