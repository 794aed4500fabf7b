"""What a sync's JSON tells of its fields, in every shape of the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health import error_details
from include.sync_health.field_names import OTHER
from include.sync_health.field_quality import read_details
from tests.sync_health.detail_documents import ZIP_EMPTY, numbers, read, turned

NO_FIELDS: dict[str, tuple[int, int]] = {}

SHAPES = [
    pytest.param(
        {
            "validation_errors": [
                ZIP_EMPTY | {"index": 0},
                {"field": "email", "message": "Invalid email format", "index": 0},
            ]
        },
        {"zip": (1, 1), "email": (1, 0)},
        True,
        id="a list of errors, by field and index",
    ),
    pytest.param([ZIP_EMPTY, ZIP_EMPTY], {"zip": (2, 2)}, True, id="without an index, each is a record of its own"),
    pytest.param(
        [ZIP_EMPTY | {"index": 4}, ZIP_EMPTY | {"row": "4"}, ZIP_EMPTY | {"record": 4.0}],
        {"zip": (1, 1)},
        True,
        id="the same record and field three times is one failure",
    ),
    pytest.param(
        [ZIP_EMPTY | {"index": 4}, {"field": "zip", "code": "invalid", "index": 4}],
        {"zip": (1, 1)},
        True,
        id="both missing and wrong is one failure, and missing",
    ),
    pytest.param(
        [ZIP_EMPTY | {"id": 4}, ZIP_EMPTY | {"index": 4}],
        {"zip": (2, 2)},
        True,
        id="an id is no index",
    ),
    pytest.param(
        [ZIP_EMPTY | {"index": True}, ZIP_EMPTY | {"index": True}], {"zip": (2, 2)}, True, id="true is no index"
    ),
    pytest.param(
        {"errors": [{"field": "email", "code": "required"}, {"field": "email", "code": "format"}]},
        {"email": (2, 1)},
        True,
        id="a code says missing or wrong",
    ),
    pytest.param(
        [{"field": "name", "value": None}, {"field": "name", "value": ""}, {"field": "name", "value": "Jane"}],
        {"name": (3, 2)},
        True,
        id="without message and code, an empty value is missing",
    ),
    pytest.param(
        {"invalid": [{"zip": ["Zip Code is Empty"]}]},
        {"zip": (1, 1)},
        True,
        id="an object that has nothing but a known field",
    ),
    pytest.param(
        [{"propertyPath": "items[3].zip", "message": "blank"}, {"path": "/items/3/zip", "message": "blank"}],
        {"zip": (1, 1)},
        True,
        id="the path has the index",
    ),
    pytest.param(
        [{"index": 2, "errors": ["Customer ID is required", "Invalid email format"]}],
        {"id": (1, 1), "email": (1, 0)},
        True,
        id="a record with its errors",
    ),
    pytest.param(
        [{"errors": {"zip": ["required", "too short"]}}, {"errors": {"zip": "required"}}],
        {"zip": (2, 2)},
        True,
        id="two records, without an index, with their errors by field",
    ),
    pytest.param(
        ["Customer name is required", "Customer name is required", "Zip Code is Empty, Street is Empty"],
        {"name": (2, 2), "zip": (1, 1), "street": (1, 1)},
        True,
        id="a list of known messages",
    ),
    pytest.param(
        {
            "0": ["Customer ID is required"],
            "7": {"field": "email", "message": "Invalid email format"},
            "07": ["Customer ID is required"],
        },
        {"id": (2, 2), "email": (1, 0)},
        True,
        id="a map by item index",
    ),
    pytest.param(
        {"3": {"isValid": False, "errors": ["Customer ID is required"], "warnings": ["Invalid email format"]}},
        {"id": (1, 1)},
        True,
        id="a warning is no failure",
    ),
    pytest.param(
        {"errors": {"zip": ["Zip Code is Empty", "Zip Code is Empty"], "email": "invalid"}},
        {"zip": (2, 2), "email": (1, 0)},
        True,
        id="errors by field, one record each text",
    ),
    pytest.param(
        {"errors": {"zip": {"3": "required", "5": ["required"], "9": {"message": "too short"}}}},
        {"zip": (2, 1)},
        True,
        id="errors by field and index",
    ),
    pytest.param(
        {"errors": {"Jane Doe": ["Customer ID is required"], "jane@example.com": ["Customer ID is required"]}},
        {"id": (2, 2)},
        True,
        id="a key that is no name is a record's",
    ),
    pytest.param(
        {"type": "about:blank", "title": "Bad Request", "status": 400, "errors": {"pageSize": ["too large", "odd"]}},
        {"pageSize": (1, 0)},
        False,
        id="a problem of RFC 7807 is of a request, not of records",
    ),
    pytest.param(
        {"fields": {"zip": {"missing": 3, "invalid": 1, "total": 100}, "Email": {"missing": 0, "invalid": 0}}},
        {"zip": (4, 3)},
        True,
        id="field numbers",
    ),
    pytest.param({"field_stats": {"zip": 3, "email": "2"}}, {"zip": (3, 0), "email": (2, 0)}, True, id="bare numbers"),
    pytest.param({"fields": {"zip": {"total": 100, "valid": 93}}}, {"zip": (7, 0)}, True, id="total less valid"),
    pytest.param(
        {"fields": {"zip": {"failed": 9, "missing": 2}}}, {"zip": (9, 2)}, True, id="failed, of which missing"
    ),
    pytest.param({"fields": ["zip", "email"]}, NO_FIELDS, False, id="a list of fields says nothing of failures"),
    pytest.param({"missing_fields": {"name": 4}}, {"name": (4, 4)}, True, id="missing fields with numbers"),
    pytest.param(
        {"missingFields": ["name", "zip"]}, {"name": (1, 1), "zip": (1, 1)}, False, id="missing fields by name"
    ),
    pytest.param(
        {"fields": {"zip": {"missing": 3}}, "validation_errors": [ZIP_EMPTY | {"index": 1}]},
        {"zip": (3, 3)},
        True,
        id="of numbers and a list the larger holds",
    ),
    pytest.param(
        {
            "totalItems": 9,
            "validItems": 7,
            "invalidItems": 2,
            "itemErrors": {"1": ["Customer ID is required"], "4": ["Invalid email format"]},
        },
        {"id": (1, 1), "email": (1, 0)},
        True,
        id="a batch's validation result",
    ),
    pytest.param(
        {
            "totalItems": 2,
            "validItems": 0,
            "invalidItems": 2,
            "itemErrors": [["Zip Code is Empty", "Zip Code is Empty"], ["Zip Code is Empty"]],
        },
        {"zip": (2, 2)},
        True,
        id="PHP's list for a map without gaps",
    ),
    pytest.param(
        {"totalItems": 9, "invalidItems": 0, "itemErrors": []}, NO_FIELDS, True, id="a batch without an error"
    ),
    pytest.param({"total": 9, "valid": 9, "invalid": 0}, NO_FIELDS, True, id="the numbers of a batch without an error"),
    pytest.param({"total": 9, "valid": 8, "invalid": 1}, NO_FIELDS, False, id="which field was invalid is not told"),
    pytest.param({"validation_errors": []}, NO_FIELDS, True, id="no validation errors"),
    pytest.param({"errors": []}, NO_FIELDS, False, id="no errors may mean those of the API"),
    pytest.param(
        {"response": {"details": {"context": {"metadata": [ZIP_EMPTY]}}}}, {"zip": (1, 1)}, True, id="within envelopes"
    ),
    pytest.param(json.dumps({"validation_errors": [ZIP_EMPTY]}), {"zip": (1, 1)}, True, id="JSON in JSON"),
    pytest.param("Zip Code is Empty", {"zip": (1, 1)}, False, id="a bare text names its fields only"),
    pytest.param(
        {"error": "Zip Code is Empty", "code": 422}, {"zip": (1, 1)}, False, id="a message names its fields only"
    ),
    pytest.param(
        {"validation_errors": ["Duplicate item in batch", "Customer ID is required"]},
        {"id": (1, 1), OTHER: (1, 0)},
        True,
        id="an error of no field that is known",
    ),
    pytest.param(
        {"validation_errors": ["Duplicate item"]}, {OTHER: (1, 0)}, False, id="nothing but such errors is no detail"
    ),
    pytest.param({"validation_errors": ""}, NO_FIELDS, False, id="a blank in place of a list says nothing"),
    pytest.param({"validation_errors": ["", " ", None]}, NO_FIELDS, False, id="a list of blanks says nothing"),
    pytest.param({"errors": {"zip": "", "email": "invalid"}}, {"email": (1, 0)}, True, id="a blank is no reason"),
    pytest.param({"invalid": "3", "total": "100"}, NO_FIELDS, False, id="a number in a text is no error"),
    pytest.param({"totalItems": "9", "invalidItems": "0"}, NO_FIELDS, True, id="a batch without an error, in texts"),
    pytest.param(
        {"validation_errors": json.dumps([ZIP_EMPTY, ZIP_EMPTY])}, {"zip": (2, 2)}, True, id="a list in a text"
    ),
    pytest.param({"validation_errors": "[]"}, NO_FIELDS, True, id="an empty list in a text"),
    pytest.param(ZIP_EMPTY, {"zip": (1, 1)}, False, id="an entry in no list names its field only"),
    pytest.param({"response": ZIP_EMPTY}, {"zip": (1, 1)}, False, id="nor does one in an envelope more"),
    pytest.param({"field": "email", "code": "format"}, {"email": (1, 0)}, False, id="such an entry with a code"),
    pytest.param(
        {"field": "modifiedOn", "from": "2026-01-01"}, NO_FIELDS, False, id="a field that nothing is wrong with"
    ),
    pytest.param({"field": "modifiedOn", "type": "full"}, NO_FIELDS, False, id="the type of a job is no reason"),
    pytest.param(
        {"status": 404, "error": "Not Found", "path": "/api/v2/customers"}, NO_FIELDS, False, id="the path of a request"
    ),
    pytest.param(
        {"path": "/api/v2/customers", "message": "Zip Code is Empty"}, {"zip": (1, 1)}, False, id="a request's message"
    ),
    pytest.param({"errors": ["cURL error 28"]}, NO_FIELDS, False, id="errors of the API"),
    pytest.param(["cURL error 28", {"message": "503"}], NO_FIELDS, False, id="a list of errors of the API"),
    pytest.param(
        {"errors": {"code": 500, "status": 502}}, NO_FIELDS, False, id="an error's code is no number of records"
    ),
    pytest.param({"error": "Boom", "code": 500}, NO_FIELDS, False, id="an API error"),
    pytest.param(
        {"status_code": 429, "response": {"title": "Slow down", "status": 429}}, NO_FIELDS, False, id="an API answer"
    ),
    pytest.param({"status_code": 429, "response": "<html>"}, NO_FIELDS, False, id="an API answer that is no JSON"),
    pytest.param(
        {"api_error": "x", "retry_after": 60, "request_id": "r-1", "nested": {"key": "v", "count": 3}},
        NO_FIELDS,
        False,
        id="an API error with a nested object",
    ),
    pytest.param([], NO_FIELDS, False, id="PHP's empty array"),
    pytest.param({}, NO_FIELDS, False, id="an empty object"),
    pytest.param("", NO_FIELDS, False, id="an empty text"),
    pytest.param(None, NO_FIELDS, False, id="null"),
    pytest.param(7, NO_FIELDS, False, id="a number"),
    pytest.param(False, NO_FIELDS, False, id="false"),
]


@pytest.mark.parametrize(("document", "fields", "has_detail"), SHAPES)
def test_every_shape_counts_what_the_contract_says(
    document: Any, fields: dict[str, tuple[int, int]], has_detail: bool
) -> None:
    """In either column, and once when it stands in both."""
    for detail in (read(document), read(None, document), read(document, document)):
        assert numbers(detail) == fields
        assert detail.has_detail is has_detail
        assert detail.problems == ()


@pytest.mark.parametrize(("document", "fields", "has_detail"), SHAPES)
def test_the_order_of_keys_does_not_matter(document: Any, fields: dict[str, tuple[int, int]], has_detail: bool) -> None:
    """A JSON object has none."""
    assert read(turned(document)) == read(document)
    assert numbers(read(turned(document))) == fields
    assert read(turned(document)).has_detail is has_detail


def test_two_documents_tell_of_the_same_records() -> None:
    """With an index they are told apart; without, the larger list holds."""
    assert numbers(read([ZIP_EMPTY | {"index": 1}], [ZIP_EMPTY | {"index": 2}])) == {"zip": (2, 2)}
    assert numbers(read([ZIP_EMPTY, ZIP_EMPTY, ZIP_EMPTY], [ZIP_EMPTY, ZIP_EMPTY])) == {"zip": (3, 3)}


def test_the_required_fields_are_those_of_the_data_type() -> None:
    """Those that are missing, not those that are wrong; of both, nobody knows whose they are."""
    document = {
        "validation_errors": ["Customer ID is required", "Invoice Amount is Invalid", "Customer name is required"]
    }

    assert read(document, data_type="customers").missing_required == 2
    assert read(document, data_type="invoices").missing_required == 2
    assert read(document, data_type="both").missing_required == 0
    assert read(document, data_type="both").has_detail
    assert read({"errors": [{"field": "total", "code": "negative"}]}, data_type="invoices").missing_required == 0


def test_a_message_alone_is_a_lower_bound() -> None:
    """It gives failures, but says nothing of the other records."""
    detail = read_details(None, error_message="Customer name is required, Zip Code is Empty", data_type="customers")

    assert numbers(detail) == {"name": (1, 1), "zip": (1, 1)}
    assert not detail.has_detail
    assert detail.missing_required == 0


def test_a_message_adds_nothing_to_what_the_details_count() -> None:
    """It tells of the same records."""
    errors = [ZIP_EMPTY, ZIP_EMPTY]
    detail = read(errors, message="Zip Code is Empty, Street is Empty")

    assert numbers(detail) == {"zip": (2, 2), "street": (1, 1)}
    assert detail.has_detail


TEXTS = st.sampled_from(
    [
        "Zip Code is Empty",
        "Internal error",
        "https://api.example/x",
        '["zip"]',
        ' {"field": "zip"}',
        "50 %",
        "naïve \\",
        "",
    ]
)
KEYS = st.sampled_from(
    [
        "error",
        "status_code",
        "response",
        "field",
        "Fields",
        "validation-errors",
        "0",
        "7",
        "title",
        "missing_fields",
        "é",
        "",
    ]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 500) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, DOCUMENTS, st.booleans(), st.sampled_from([None, "}", "\\u0022", ","]))
@settings(max_examples=500)
def test_what_is_passed_over_tells_nothing(one: Any, other: Any, is_php: bool, spoilt: str | None) -> None:
    """Looking at the text alone finds the same as reading it, also of a text that is no JSON."""
    text = json.dumps([one, other])
    text = text.replace("/", "\\/") if is_php else text
    text = text if spoilt is None else text[: len(text) // 2] + spoilt + text[len(text) // 2 :]
    quick = read_details(text, error_message=None, data_type="customers")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(error_details, "says_nothing", lambda text: False)
        patched.setattr(error_details, "_is_silent", lambda value, depth=0: False)
        assert read_details(text, error_message=None, data_type="customers") == quick


def test_an_api_error_is_passed_over() -> None:
    """Else the property above would hold of nothing."""
    text = '[{"status_code": 502, "response": {"traceId": "c4ca", "title": "Internal error", "url": "https:\\/\\/x"}},null]'
    assert error_details.says_nothing(text)
    assert not error_details.says_nothing("[true,null]")
