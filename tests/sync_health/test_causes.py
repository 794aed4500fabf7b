"""Error texts to classes and root causes."""

from __future__ import annotations

import string
import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.causes import (
    TEMPLATE_LIMIT,
    classify,
    classify_messages,
    root_cause,
    template_of,
)
from include.sync_health.verdicts import ErrorClass

CLASSES = [
    ("Sync cancelled by user", "cancelled"),
    (" sync cancelled by user. ", "cancelled"),
    ("ServiceTitan API rate limit exceeded after all retries", "rate_limit"),
    ("ServiceTitan API rate limit exceeded", "rate_limit"),
    ("Rate limit is exceeded. Try again in 17 seconds.", "rate_limit"),
    ('{"type":"about:blank","title":"Too Many Requests","status":429,"traceId":"00-4bf"}', "rate_limit"),
    ("HTTP/1.1 429 returned", "rate_limit"),
    ("Failed to refresh access token", "auth"),
    ("OAuth handshake failed", "auth"),
    ("OAuth handshake failed after all retries", "auth"),
    ("Token refresh failed with client error", "auth"),
    ("No refresh token available", "auth"),
    ('{"error":"invalid_client"}', "auth"),
    ('HTTP 400: {"error":"invalid_grant","error_description":"expired"}', "auth"),
    ("API GET request failed: HTTP/2 401 returned", "auth"),
    ('{"status":401,"title":"Application key not present, check ST-App-Key header value."}', "auth"),
    ("401", "auth"),
    ("401 Unauthorized", "auth"),
    ("status_code: 401", "auth"),
    ("Token validation failed", "auth"),
    ("HTTP/2 403 returned for the business units", "permission"),
    ("403 Forbidden", "permission"),
    ("insufficient_scope: tn.crm.customers:r", "permission"),
    ("ServiceTitan API server error: 503", "server"),
    ("ServiceTitan API server error: 500", "server"),
    ("<html><head><title>502 Bad Gateway</title></head>", "server"),
    ("Invalid JSON response from ServiceTitan API: 502 Bad Gateway", "server"),
    ("Failed to refresh access token: HTTP 503", "server"),
    ("504 Gateway Timeout", "server"),
    ("401 Client Error: Unauthorized", "auth"),
    ("Server error: `GET /x` resulted in a `502 Bad Gateway` response", "server"),
    ("code=504", "server"),
    ("API GET request failed: Idle timeout reached for the customers", "timeout"),
    ("cURL error 28: Operation timed out after 100001 milliseconds with 0 bytes received", "timeout"),
    ("cURL error 6: Could not resolve host: auth.servicetitan.io", "timeout"),
    ("Failed to refresh access token: Connection refused", "timeout"),
    ("SSL certificate problem: unable to get local issuer certificate; SSL connect error", "timeout"),
    ("Empty reply from server", "timeout"),
    ("HTTP status 408", "timeout"),
    ("Invalid JSON response from ServiceTitan API", "decode"),
    ("Failed to decode ServiceTitan API response", "decode"),
    ("Syntax error, malformed JSON", "decode"),
    ("Required fields are missing: tenant, invoice_number, first_appointment", "validation"),
    ("Zip Code is Empty", "validation"),
    ("Zip Code is Empty, Street is Empty, City is Empty", "validation"),
    ("Invoice Amount is Invalid", "validation"),
    ("customer_first_name, customer_last_name, or customer_name for Customer: 88123", "validation"),
    ("Invoice total cannot be negative", "validation"),
    ("Invalid phone number format", "validation"),
    ("Customer ID is required", "validation"),
    ("Invalid email format: timeout@forbidden.com", "validation"),
    ("HTTP 422", "validation"),
    ("Unexpected answer, status 400", "validation"),
    ("Unknown API error", "unknown"),
    ("Maximum retry attempts exceeded", "unknown"),
    ("Circuit breaker is open for ServiceTitan credential", "unknown"),
    ("404 Not Found", "unknown"),
    ("order 4012 was skipped", "unknown"),
    ("error: 401 records were skipped", "unknown"),
    ("processed 429 of 500 records", "unknown"),
    ("Customer 401 not found", "unknown"),
    ("retry_after 429 seconds", "unknown"),
    ("area code 503", "unknown"),
    ("503-555-0100 called back", "unknown"),
    ("see https://example.com/timeout/status/503", "unknown"),
    ("", "unknown"),
    ("   ", "unknown"),
    (None, "unknown"),
]


@pytest.mark.parametrize(("message", "error_class"), [pytest.param(*row, id=repr(row[0])) for row in CLASSES])
def test_class_of_each_text_that_upstream_writes(message: str | None, error_class: str) -> None:
    """The texts of Hub Plus and ServiceTitan, and their look-alikes."""
    assert classify(message) is ErrorClass(error_class)


@pytest.mark.parametrize(
    ("message", "template"),
    [
        pytest.param("Server error: 503", "server error: <n>", id="a number"),
        pytest.param("Invoice 12,345.60 of job#77", "invoice <n> of job#<n>", id="amounts and ids beside letters"),
        pytest.param("Failed ids: 1, 2, 3 and 44", "failed ids: <n>", id="a list is one mask"),
        pytest.param("run 5E0D6F0C-5a0e-5c1b-9d51-0b6a4d3f7c21", "run <uuid>", id="a UUID"),
        pytest.param("trace 9f86d081884c7d659a2feaa0c55ad015", "trace <id>", id="hex"),
        pytest.param("at 2026-11-24T10:00:03.1+00:00", "at <time>", id="an ISO time"),
        pytest.param("at Tue, 24 Nov 2026 10:00:03 GMT", "at <time>", id="an HTTP date"),
        pytest.param("host db1.internal:5432 and 10.0.0.7:80", "host <host>", id="hosts"),
        pytest.param("GET https://api.servicetitan.io/x?y=1 failed", "get <url> failed", id="a URL"),
        pytest.param("mail jane@example.com", "mail <email>", id="a mail address"),
        pytest.param("customer 'Jane Doe' and \"Bob\"", "customer <text>", id="quoted values"),
        pytest.param("can't read customer's file", "can't read customer's file", id="apostrophes quote nothing"),
        pytest.param('{"error":"invalid_client"}', '{"error":"invalid_client"}', id="OAuth codes stay"),
        pytest.param("Authorization: Bearer abc.def", "authorization: <token>", id="a bearer token"),
        pytest.param("password=hunter&x", "password=<token>&x", id="a secret by its key"),
        pytest.param("customer.name is Empty", "customer.name is empty", id="a property is no host"),
        pytest.param(None, "", id="no text"),
    ],
)
def test_template_masks_what_differs_from_run_to_run(message: str | None, template: str) -> None:
    """What is left is the same for every run with that cause."""
    assert template_of(message) == template


def test_one_cause_for_the_same_failure_at_different_times_and_credentials() -> None:
    """Ids, numbers, hosts, times and quoted values do not enter the fingerprint."""
    first = (
        "2026-11-24 10:00:01 cURL error 28 for credential 17 on api1.servicetitan.io: 'Acme' timed out after 3000 ms"
    )
    second = (
        "2026-11-25 23:59:59 cURL error 28 for credential 4 on api22.servicetitan.io: 'Zeta Co' timed out after 15 ms"
    )

    assert root_cause(first, ErrorClass.TIMEOUT) == root_cause(second, ErrorClass.TIMEOUT)


def test_the_class_is_part_of_the_cause() -> None:
    """ "error: 401" and "error: 503" have one template and two causes."""
    causes = {root_cause(text, classify(text)) for text in ("API error: 401", "API error: 503", "API error: 500")}

    assert len(causes) == 2


def test_fingerprints_do_not_change_unnoticed() -> None:
    """They are stored: a change needs a new `CAUSE_VERSION`."""
    assert root_cause("Failed to refresh access token", ErrorClass.AUTH) == "5e88974ea5739ab0"


@given(st.text(alphabet=st.characters()) | st.text(alphabet="'\"<>:=. 0123456789abn-/@"))
def test_any_text_has_a_class_and_a_short_one_line_template(message: str) -> None:
    """Nothing that a source can hold makes it fail, lone surrogates included."""
    template = template_of(message)

    assert classify(message) in ErrorClass
    assert len(template) <= TEMPLATE_LIMIT
    assert "\n" not in template
    assert set(root_cause(message, ErrorClass.UNKNOWN)) <= set(string.hexdigits)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "0",
        "'",
        '"',
        "error ",
        "1.1.",
        "a.a.",
        "a-",
        "1:",
        "<n> ",
        "Mon ",
        "@",
        "a@a.",
        "=",
        "token=",
        "\u202e",
        "-a1",
    ],
)
def test_a_megabyte_of_anything_takes_no_time(unit: str) -> None:
    """Patterns have bounded repeats over a text that is cut first; half a second is a hundred times what it takes."""
    message = unit * (1_000_000 // len(unit))
    start = time.perf_counter()
    root_cause(message, classify(message))

    assert time.perf_counter() - start < 0.5


def test_a_series_is_classified_like_its_texts_one_by_one() -> None:
    """Index, order and repeats are kept; a null is unknown."""
    texts = pd.Series(
        ["HTTP 401", None, "HTTP 401", "Zip Code is Empty", float("nan"), 7], index=[5, 3, 9, 1, 0, 2], dtype=object
    )
    classified = classify_messages(texts)

    assert list(classified.index) == [5, 3, 9, 1, 0, 2]
    assert list(classified["error_class"]) == ["auth", "unknown", "auth", "validation", "unknown", "unknown"]
    assert classified["cause"].iloc[0] == classified["cause"].iloc[2] == root_cause("HTTP 401", ErrorClass.AUTH)
    assert classified["cause"].iloc[1] == classified["cause"].iloc[4] == root_cause(None, ErrorClass.UNKNOWN)


def test_an_empty_series_gives_an_empty_frame_with_its_columns() -> None:
    """No failures, no trouble."""
    assert list(classify_messages(pd.Series([], dtype=object)).columns) == ["error_class", "cause"]
