"""Validation messages to fields, and to reasons that anyone may see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.frames import DATA_TYPES
from include.sync_health.validation_messages import (
    KNOWN,
    REASON_LIMIT,
    fields_in,
    may_name_a_field,
    says_missing,
    shown_reason,
)
from tests.sync_health.hostile_texts import HOSTILE, SECRETS

MISSING, INVALID = True, False


@pytest.mark.parametrize(
    ("message", "data_type", "fields"),
    [
        ("Zip Code is Empty", "customers", {"zip": MISSING}),
        ("Street is Empty", "customers", {"street": MISSING}),
        ("City is Empty", "customers", {"city": MISSING}),
        ("State is Empty", "customers", {"state": MISSING}),
        (
            "Zip Code is Empty, Street is Empty, City is Empty, State is Empty, Invoice Amount is Invalid",
            "invoices",
            {"zip": MISSING, "street": MISSING, "city": MISSING, "state": MISSING, "total": MISSING},
        ),
        ("Invoice Amount is Invalid", "invoices", {"total": MISSING}),
        ("Customer ID is required", "customers", {"id": MISSING}),
        ("Customer ID is required", "invoices", {"customerId": MISSING}),
        ("Customer ID is required", "both", {"customerId": MISSING}),
        ("Customer name is required", "customers", {"name": MISSING}),
        ("Customer name is required", "invoices", {"customerName": MISSING}),
        ("Invoice ID is required", "invoices", {"id": MISSING}),
        ("Invoice ID is required", "both", {"invoiceId": MISSING}),
        ("Invalid email format", "customers", {"email": INVALID}),
        ("Invalid email format: jane@", "customers", {"email": INVALID}),
        ("Invalid phone number format", "customers", {"phoneNumber": INVALID}),
        ("Invoice total cannot be negative", "invoices", {"total": INVALID}),
        ("Invalid invoice date format", "invoices", {"invoiceDate": INVALID}),
        ("Invalid invoice status", "invoices", {"status": INVALID}),
        (
            "Required fields are missing: tenant, invoice_number, zip",
            "invoices",
            {"tenant": MISSING, "number": MISSING, "zip": MISSING},
        ),
        ("Required fields are missing: trade, Zip Code is Empty", "invoices", {"trade": MISSING, "zip": MISSING}),
        ("Required fields are missing: trade, zip. Import stopped", "invoices", {"trade": MISSING, "zip": MISSING}),
        ("Required fields are missing: trade; City is Empty", "invoices", {"trade": MISSING, "city": MISSING}),
        ("Required fields are missing: ", "invoices", {}),
        (
            "customer_first_name, customer_last_name, or customer_name for Customer: 88123",
            "customers",
            {"name": MISSING},
        ),
        ("Import failed: zip code is empty.", "customers", {"zip": MISSING}),
        ("The email field is required", "customers", {"email": MISSING}),
        ("phone is invalid", "customers", {"phoneNumber": INVALID}),
        ("client id is required", "customers", {}),
        ("the access token is invalid", "customers", {}),
        ("Unknown API error", "customers", {}),
        ("", "customers", {}),
    ],
)
def test_a_message_names_its_fields(message: str, data_type: str, fields: dict[str, bool]) -> None:
    """Upstream joins several by a comma; whose id is meant depends on the data type."""
    assert {each.field: each.is_missing for each in fields_in(message, data_type)} == fields


@settings(deadline=None)
@given(
    parts=st.lists(st.one_of(st.sampled_from(sorted(KNOWN)), st.text(max_size=20)), max_size=6),
    data_type=st.sampled_from(DATA_TYPES),
)
def test_the_cheap_look_overlooks_nothing(parts: list[str], data_type: str) -> None:
    """Only texts that it lets pass are read."""
    message = ", ".join(parts)
    assert not fields_in(message, data_type) or may_name_a_field(message)
    if any(part in KNOWN for part in parts):
        assert fields_in(message, data_type)


@pytest.mark.parametrize("text", ["Unknown API error", "Invalid JSON response from ServiceTitan API", "HTTP 503", ""])
def test_an_everyday_error_is_not_even_read(text: str) -> None:
    """A year has hundreds of thousands of them."""
    assert not may_name_a_field(text)


@pytest.mark.parametrize(
    ("text", "is_missing"),
    [
        ("required", True),
        ("missing_field", True),
        ("isEmpty", True),
        ("This value should not be blank.", True),
        ("must not be null", True),
        ("invalid", False),
        ("Invalid format, a value is required", False),
        ("too long", False),
        ("", False),
    ],
)
def test_a_text_says_missing_or_wrong(text: str, is_missing: bool) -> None:
    """Messages and codes alike."""
    assert says_missing(text) is is_missing


PERSONAL = (
    "Jane",
    "Doe",
    "Müller",
    "Springfield",
    "Elm",
    "jane.doe@example.com",
    "555 123-4567",
    "5551234567",
    "90210",
    "88123",
    "3b241101-e2bb-4255-8caf-4136c566a962",
    "ACME-Plumbing",
)
PATTERNS = (
    "Customer {} has no zip",
    "{}",
    "invalid value '{}' for name",
    'Email "{}" is not valid, expected format name@host',
    "record <{}>: address {} is unknown",
    "customer_first_name, customer_last_name, or customer_name for Customer: {}",
    "zip_{}_code",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_reason_shows_nobodys_data(pattern: str) -> None:
    """Names and streets too, which no pattern would recognise."""
    for planted in PERSONAL:
        shown = shown_reason(pattern.replace("{}", planted))
        for part in planted.lower().replace("@", " ").replace("-", " ").replace(".", " ").split():
            if part not in ("example", "com"):
                assert part not in shown.lower().replace("<n>", "")


@pytest.mark.parametrize("message", sorted(KNOWN))
def test_a_known_message_is_shown_as_it_is(message: str) -> None:
    """It holds nothing but itself."""
    assert shown_reason(f" {message.upper()} ") == message


def test_a_reason_still_says_what_is_wrong() -> None:
    """The words of the trade stay."""
    assert shown_reason("Customer Jane Doe (id 88123) has no zip code") == "customer … (id <n>) has no zip code"


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_reason_shows_no_secret(text: str, secret: str) -> None:
    """As for every other text of a stranger."""
    assert secret not in shown_reason(f"invalid value {text}")


@settings(deadline=None)
@given(text=st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_a_reason_is_always_short_and_on_one_line(text: str) -> None:
    """Whatever it was made of."""
    shown = shown_reason(text)
    assert len(shown) <= REASON_LIMIT
    assert "\n" not in shown
    shown.encode("utf-8")
