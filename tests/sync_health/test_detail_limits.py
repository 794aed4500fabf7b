"""Whatever else a JSON column can hold: what cannot be read is counted, what is too much is cut, nobody's data is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health import error_details
from include.sync_health.field_counts import DEPTH_LIMIT
from include.sync_health.field_names import OTHER
from include.sync_health.field_quality import FIELDS_LIMIT, read_details
from include.sync_health.frames import DATA_TYPES, DETAIL_TEXT_LIMIT
from tests.sync_health.detail_documents import ZIP_EMPTY, numbers, read, turned


def nested(value: Any, *, by: str, levels: int) -> Any:
    for _ in range(levels):
        value = {by: value}
    return value


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
    backwards = read(turned(error_details), turned(metadata), message=message, data_type=data_type)
    assert backwards == detail
    assert read(metadata, error_details, message=message, data_type=data_type) == detail


@settings(deadline=None)
@given(details=st.text(max_size=200), message=st.none() | st.text(max_size=60))
def test_whatever_the_text_holds_it_is_read_or_counted(details: str, message: str | None) -> None:
    """Never an exception."""
    detail = read_details(details, error_message=message, data_type="customers")
    assert detail.problems == ("unreadable",) or isinstance(json.loads(details), list)


# Envelopes in envelopes, and the keys of an API's error: what is silent is seldom among the documents above.
ERRORS = st.recursive(
    SCALARS,
    lambda inner: st.dictionaries(
        st.one_of(st.sampled_from(["response", "context", "title", "traceId", "status_code", "error"]), KEYS),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=400)
@given(document=st.one_of(ERRORS, DOCUMENTS), data_type=st.sampled_from(DATA_TYPES))
def test_a_document_that_is_passed_over_has_nothing_to_tell(document: Any, data_type: str) -> None:
    """The short way gives what the long one does."""
    details = json.dumps([document, None])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(error_details, "_is_silent", lambda document: False)
        in_full = error_details.read_documents(details, data_type=data_type)

    assert error_details.read_documents(details, data_type=data_type) == in_full


def test_an_error_of_the_api_is_passed_over() -> None:
    """Or the short way would be none."""
    document = {"status_code": 502, "response": {"traceId": "c4ca", "title": "Internal error", "retry": True}}

    assert error_details._is_silent(document)
    assert not error_details._is_silent(nested("x", by="response", levels=DEPTH_LIMIT + 2))
