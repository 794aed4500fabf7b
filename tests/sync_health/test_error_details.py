"""What a sync's JSON tells of its fields, in every shape of the contract, and in whatever else a JSON column can hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.field_counts import DEPTH_LIMIT
from include.sync_health.field_names import OTHER
from include.sync_health.field_quality import FIELDS_LIMIT, SyncDetail, read_details
from include.sync_health.frames import DATA_TYPES, DETAIL_TEXT_LIMIT

NO_FIELDS: dict[str, tuple[int, int]] = {}


def read(
    error_details: Any, metadata: Any = None, *, message: str | None = None, data_type: str = "customers"
) -> SyncDetail:
    return read_details(json.dumps([error_details, metadata]), error_message=message, data_type=data_type)


def numbers(detail: SyncDetail) -> dict[str, tuple[int, int]]:
    """Return failures and missing by field."""
    return {name: (found.failures, found.missing) for name, found in detail.fields.items()}


def nested(value: Any, *, by: str, levels: int) -> Any:
    for _ in range(levels):
        value = {by: value}
    return value


ZIP_EMPTY = {"field": "zip", "message": "Zip Code is Empty"}

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
    assert read(_turned(document)) == read(document)
    assert numbers(read(_turned(document))) == fields
    assert read(_turned(document)).has_detail is has_detail


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(list(value))}
    return [_turned(each) for each in value] if isinstance(value, list) else value


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


@pytest.mark.parametrize(
    ("details", "problems"),
    [
        pytest.param("{", ("unreadable",), id="broken JSON"),
        pytest.param("", ("unreadable",), id="no JSON at all"),
        pytest.param("{}", ("unreadable",), id="not the two documents"),
        pytest.param("[null]", ("unreadable",), id="one document"),
        pytest.param("[true, null]", ("too_large",), id="a document that was left in the source"),
        pytest.param("[true, true]", ("too_large", "too_large"), id="two such documents"),
        pytest.param(f'["{"x" * 3 * DETAIL_TEXT_LIMIT}", null]', ("too_large",), id="far more than was asked for"),
        pytest.param(f"[{'[' * 100_000}{']' * 100_000}, null]", ("too_large",), id="nested as deep as it is large"),
        pytest.param(f"[{'[' * 60_000}{']' * 60_000}, null]", ("too_deep",), id="nested deeper than Python reads"),
        pytest.param(f"[{json.dumps('[' * 60_000)}, null]", ("too_deep",), id="nested as deep in JSON within JSON"),
        pytest.param('["[{broken", null]', (), id="broken JSON within JSON is a text"),
        pytest.param(json.dumps([nested([], by="response", levels=DEPTH_LIMIT), None]), (), id="just shallow enough"),
        pytest.param(
            json.dumps([nested([], by="response", levels=DEPTH_LIMIT + 1), None]), ("too_deep",), id="too deep"
        ),
        pytest.param('[{"fields": {"zip": {"missing": -1}}}, null]', ("bad_count",), id="a negative number"),
        pytest.param('[{"fields": {"zip": 1e999}}, null]', ("bad_count",), id="a number beyond floats"),
        pytest.param(f'[{{"fields": {{"zip": {"9" * 5_000}}}}}, null]', ("bad_count",), id="a number of 5,000 digits"),
        pytest.param('[{"fields": {"zip": 0.5}}, null]', ("bad_count",), id="half a record"),
        pytest.param(
            '[{"fields": {"zip": {"total": 1, "valid": 2}}}, null]', ("bad_count",), id="more valid than there are"
        ),
        pytest.param('[{"invalidItems": -3, "total": 1}, null]', ("bad_count",), id="a negative number of items"),
        pytest.param('[{"fields": {"zip": NaN}}, null]', (), id="NaN is no number"),
        pytest.param('[{"fields": {"zip": {"type": "string"}}}, null]', (), id="a schema has no numbers"),
        pytest.param('[{"\\u0000": ["\\u0000"], "\\ud800": "\\udfff"}, null]', (), id="NUL and half characters"),
        pytest.param('[{"a": 1, "a": 2}, null]', (), id="a key twice"),
        pytest.param(f"[[{'0,' * 30_000}0], null]", (), id="a long list of nothing"),
        pytest.param("[null, null]", (), id="nothing"),
    ],
)
def test_what_cannot_be_read_is_counted(details: str, problems: tuple[str, ...]) -> None:
    """And never taken for "nothing is missing"."""
    detail = read_details(details, error_message=None, data_type="customers")

    assert detail.problems == problems
    assert not detail.has_detail
    assert not detail.fields


def test_a_list_that_was_cut_is_a_lower_bound() -> None:
    """Where there are more invalid items than listed, nobody knows what the others lack."""
    detail = read({"totalItems": 900, "invalidItems": 500, "itemErrors": {"0": ["Customer ID is required"]}})

    assert numbers(detail) == {"id": (1, 1)}
    assert detail.problems == ("truncated",)
    assert not detail.has_detail


def test_a_list_beside_what_was_not_read_is_no_detail() -> None:
    """The rest may stand in the other document; numbers of fields are whole by themselves."""
    assert not read([ZIP_EMPTY], True).has_detail
    assert read({"fields": {"zip": 1}}, True).has_detail


def test_only_so_many_fields_are_told_apart() -> None:
    """The others are one, in which a record counts once; the required ones stay."""
    many = [{"field": f"f{n:03}x", "message": "invalid", "index": index} for n in range(80) for index in (0, 1)]
    detail = read([*many, {"field": "name", "code": "required"}, {"field": "zzz", "message": "bad value 12"}])

    assert len(detail.fields) == FIELDS_LIMIT
    assert numbers(detail)["name"] == (1, 1)
    assert numbers(detail)[OTHER] == (3, 0)  # records 0 and 1, and the one of zzz


def test_a_sample_is_the_most_frequent_reason() -> None:
    """What differs only in the values is one reason; of equals the first by text."""
    detail = read(
        [
            {"field": "zip", "message": "unknown zip 12345"},
            {"field": "zip", "message": "unknown zip 90210"},
            {"field": "zip", "message": "Zip Code is Empty"},
            {"field": "email", "message": "b is wrong"},
            {"field": "email", "message": "a is wrong"},
        ]
    )

    assert detail.fields["zip"].sample == "unknown zip <n>"
    assert detail.fields["email"].sample == "a is wrong"


PERSONAL = (
    "Jane",
    "Doe",
    "jane.doe@example.com",
    "5551234567",
    "(555) 123-4567",
    "Elm",
    "Springfield",
    "88123",
    "90210",
)


def test_nobodys_data_is_in_fields_and_samples() -> None:
    """Wherever a writer may have put it."""
    customer = "Jane Doe, 12 Elm Street, Springfield 90210, jane.doe@example.com, (555) 123-4567"
    documents: list[Any] = [
        {
            "validation_errors": [
                {"field": "email", "message": f"'{customer}' is invalid", "value": customer, "index": 1}
            ]
        },
        {"errors": {customer: [f"{customer} is required"], "jane.doe@example.com": "required", "5551234567": ["x"]}},
        {"fields": {customer: 3, "88123": {"missing": 1}}},
        [f"Customer {customer} (5551234567): Customer ID is required", {"index": customer, "message": customer}],
        {"missing_fields": [customer, "5551234567"]},
        {"itemErrors": {"0": {"name": customer, "zip": [customer]}}},
    ]
    for document in documents:
        detail = read(
            document,
            message=f"customer_first_name, customer_last_name, or customer_name for Customer: 88123 {customer}",
        )
        shown = " ".join([*detail.fields, *(found.sample or "" for found in detail.fields.values())]).lower()
        assert detail.fields
        for planted in PERSONAL:
            assert planted.lower() not in shown


KEYS = st.one_of(
    st.sampled_from(
        [
            "validation_errors",
            "errors",
            "invalid",
            "itemErrors",
            "fields",
            "missing_fields",
            "response",
            "details",
            "metadata",
            "field",
            "message",
            "code",
            "index",
            "row",
            "value",
            "zip",
            "name",
            "id",
            "email",
            "missing",
            "total",
            "invalidItems",
            "totalItems",
            "title",
            "0",
            "7",
        ]
    ),
    st.text(max_size=8),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["Zip Code is Empty", "Customer ID is required", "zip", "required", "invalid"]),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)


@settings(deadline=None, max_examples=200)
@given(
    error_details=DOCUMENTS,
    metadata=DOCUMENTS,
    message=st.none() | st.text(max_size=60),
    data_type=st.sampled_from(DATA_TYPES),
)
def test_whatever_the_json_holds_the_counts_are_sound(
    error_details: Any, metadata: Any, message: str | None, data_type: str
) -> None:
    """Never an exception, at least one failure of each field that is told, and of those at most all missing."""
    detail = read(error_details, metadata, message=message, data_type=data_type)

    for found in detail.fields.values():
        assert found.failures > 0
        assert 0 <= found.missing <= found.failures
        assert found.sample is None or 0 < len(found.sample) <= 200
    assert 0 <= detail.missing_required <= sum(found.missing for found in detail.fields.values())
    assert len(detail.fields) <= FIELDS_LIMIT
    assert detail.has_detail or detail.missing_required == 0
    turned = read(_turned(error_details), _turned(metadata), message=message, data_type=data_type)
    assert turned == detail
    assert read(metadata, error_details, message=message, data_type=data_type) == detail


@settings(deadline=None)
@given(details=st.text(max_size=200), message=st.none() | st.text(max_size=60))
def test_whatever_the_text_holds_it_is_read_or_counted(details: str, message: str | None) -> None:
    """Never an exception."""
    detail = read_details(details, error_message=message, data_type="customers")
    assert detail.problems == ("unreadable",) or isinstance(json.loads(details), list)
