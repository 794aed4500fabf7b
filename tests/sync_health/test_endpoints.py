"""What stays of an endpoint: words and versions; whatever could be an id, a name or a secret does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.endpoints import MOST_SEGMENTS, most_frequent, templated


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        pytest.param("/customers", "/customers", id="a bare path is as it is"),
        pytest.param("customers", "/customers", id="a path without its slash gets one"),
        pytest.param("/crm/v2/tenant/123/customers/456", "/crm/v2/tenant/{id}/customers/{id}", id="numbers are ids"),
        pytest.param(
            "/api/v2/tenant/tenant/crm/customers",
            "/api/v2/tenant/{id}/crm/customers",
            id="a placeholder is a tenant too",
        ),
        pytest.param("/jpm/v2/tenant/{tenantId}/jobs/:id", "/jpm/v2/tenant/{id}/jobs/{id}", id="templates look alike"),
        pytest.param(
            "/x/6f9619ff-8b86-d011-b42d-00cf4fc964ff/notes", "/x/{id}/notes", id="a UUID is an id, whatever its case"
        ),
        pytest.param(
            "https://user:pw@api.servicetitan.io:443/crm/v2/leads?page=2&name=Ann#x",
            "/crm/v2/leads",
            id="host, login, query and fragment go",
        ),
        pytest.param("GET /crm/v2/leads", "/crm/v2/leads", id="a method goes"),
        pytest.param("/crm//v2/leads/", "/crm/v2/leads", id="slashes are counted once"),
        pytest.param("/customers/ann@example.com", "/customers/{id}", id="a mail address is no word"),
        pytest.param("/customers/Ann%20Lee", "/customers/{id}", id="an escaped name is no word"),
        pytest.param("/customers/Jürgen", "/customers/{id}", id="only ASCII letters make a word"),
        pytest.param("/invoices/2026-01-31", "/invoices/{id}", id="a date is no word"),
        pytest.param("/invoices/INV-1001", "/invoices/{id}", id="a number with letters is no word"),
        pytest.param("/settings/v2/business-units", "/settings/v2/business-units", id="a word may have dashes"),
        pytest.param("/v123/x", "/{id}/x", id="a version has two digits at most"),
        pytest.param("/" + "a" * 40, "/" + "a" * 40, id="forty letters are a word"),
        pytest.param("/" + "a" * 41, "/{id}", id="forty-one are a token"),
        pytest.param("", "", id="nothing is not known"),
        pytest.param("   ", "", id="nor are blanks"),
        pytest.param("/", "/", id="the root"),
        pytest.param("?page=2", "", id="a query alone"),
        pytest.param("/a" * 13, "/a" * 12 + "/{id}", id="the thirteenth part is masked"),
        pytest.param("/a" * 40, "/a" * 12 + "/{id}", id="and what follows is left out"),
    ],
)
def test_what_is_told_of_an_endpoint(endpoint: str, told: str) -> None:
    """The path, masked."""
    assert templated(endpoint) == told


@given(endpoint=st.text(max_size=80) | st.from_regex(r"(/[a-z0-9{}:%@?#.-]{0,12}){0,20}", fullmatch=True))
def test_masking_twice_changes_nothing_and_leaves_words_alone(endpoint: str) -> None:
    """Whatever comes in, a short path of words, versions and masks comes out."""
    told = templated(endpoint)

    assert templated(told) == told
    assert re.fullmatch(r"|/|(/([A-Za-z][A-Za-z_.-]{0,39}|[vV]\d{1,2}|\{id\}))+", told, re.ASCII)
    assert told.count("/") <= MOST_SEGMENTS + 1


@pytest.mark.parametrize(
    ("calls", "known", "kept"),
    [
        pytest.param({"/a": 1, "/b": 2}, (), {"/a", "/b"}, id="as many as there may be"),
        pytest.param({"/a": 1, "/b": 2, "/c": 3}, (), {"/b", "/c"}, id="of more, the most frequent"),
        pytest.param({"/a": 1, "/b": 2, "/c": 3}, ("/a",), {"/a", "/c"}, id="one told before keeps its name"),
        pytest.param({"/a": 2, "/b": 2, "/c": 2}, (), {"/a", "/b"}, id="of equals, by name"),
    ],
)
def test_which_endpoints_keep_their_name(calls: dict[str, int], known: tuple[str, ...], kept: set[str]) -> None:
    """Two may."""
    assert most_frequent(calls, most=2, known=known) == kept
