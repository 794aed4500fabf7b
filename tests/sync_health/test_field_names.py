"""What a field is called, however the source spells it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.field_names import ALIASES, NAME_LIMIT, OTHER, field_named
from include.sync_health.frames import DATA_TYPES


@pytest.mark.parametrize(
    ("text", "data_type", "field", "index"),
    [
        pytest.param("zip", "customers", "zip", None, id="a name as it is"),
        pytest.param("zip_code", "customers", "zip", None, id="snake case"),
        pytest.param("zipCode", "customers", "zip", None, id="camel case"),
        pytest.param("Zip Code", "customers", "zip", None, id="words"),
        pytest.param("POSTAL-CODE", "customers", "zip", None, id="capitals and a dash"),
        pytest.param("location.address.zip", "invoices", "zip", None, id="a path"),
        pytest.param("items[3].email", "customers", "email", 3, id="a path in brackets has the record's index"),
        pytest.param("3.email", "customers", "email", 3, id="a path that begins with the index"),
        pytest.param("/customers/7/name", "customers", "name", 7, id="a JSON pointer"),
        pytest.param("$.data[0].phone", "customers", "phoneNumber", 0, id="a JSON path"),
        pytest.param(
            "phoneNumbers[1].number", "customers", "phoneNumber", None, id="the index of a phone is no record's"
        ),
        pytest.param("[email]", "customers", "email", None, id="Symfony's property path"),
        pytest.param("customer_id", "invoices", "customerId", None, id="an invoice's customer"),
        pytest.param("customer.id", "invoices", "customerId", None, id="an invoice's customer by path"),
        pytest.param("customer_id", "customers", "id", None, id="a customer's own id"),
        pytest.param("Customer Name", "customers", "name", None, id="a customer's own name"),
        pytest.param("customer_name", "invoices", "customerName", None, id="an invoice's customer's name"),
        pytest.param("invoiceId", "invoices", "id", None, id="an invoice's own id"),
        pytest.param("invoice_id", "both", "invoiceId", None, id="of a sync of both, whose id stays told"),
        pytest.param("first_appointment", "invoices", "invoiceDate", None, id="Hub Plus's own name for the date"),
        pytest.param("hub_plus_import_id", "invoices", "hub_plus_import_id", None, id="an unknown name stays"),
        pytest.param("jane.doe@example.com", "customers", OTHER, None, id="a mail address is no name"),
        pytest.param("Jane Doe", "customers", OTHER, None, id="words that nobody knows are no name"),
        pytest.param("12345", "customers", OTHER, None, id="a number is no name"),
        pytest.param("3b241101-e2bb-4255-8caf-4136c566a962", "customers", OTHER, None, id="a UUID is no name"),
        pytest.param("b3b241101e2bb42558caf4136c566a962", "customers", OTHER, None, id="a UUID in a word is no name"),
        pytest.param("cust_5551234567", "customers", OTHER, None, id="a numbered thing is no name"),
        pytest.param("x" * 65, "customers", OTHER, None, id="too long for a name"),
        pytest.param("x" * 64, "customers", "x" * 64, None, id="just short enough for a name"),
        pytest.param("", "customers", OTHER, None, id="nothing is no name"),
        pytest.param("zip\x00", "customers", "zip", None, id="a control character is no part of a name"),
        pytest.param("name\ud800evil", "customers", OTHER, None, id="half a character is no part of a name"),
    ],
)
def test_a_field_has_one_name(text: str, data_type: str, field: str, index: int | None) -> None:
    """ServiceTitan's own, wherever it is known."""
    assert field_named(text, data_type) == (field, index)


@settings(deadline=None)
@given(text=st.text(max_size=300), data_type=st.sampled_from(DATA_TYPES))
def test_a_name_is_always_short_and_plain(text: str, data_type: str) -> None:
    """Whatever a key holds."""
    field, index = field_named(text, data_type)

    assert 0 < len(field) <= NAME_LIMIT
    assert field.isascii()
    assert field.replace("_", "").replace("-", "").isalnum() or set(field) <= {"_", "-"}
    assert index is None or index >= 0


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_a_canonical_name_names_itself(data_type: str) -> None:
    """So that a name that went through once stays."""
    for name in set(ALIASES.values()):
        field, _ = field_named(name, data_type)
        assert field_named(field, data_type) == (field, None)
