"""What an answer of ServiceTitan means, and that none of its texts lets a secret out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.api_problems import (
    LONGEST_WAIT,
    AccessRefused,
    Answer,
    NoAnswer,
    RateLimited,
    RequestRefused,
    ServerFailed,
    ServiceTitanError,
    SignInRefused,
    Token,
    UnexpectedAnswer,
    UnreadableAnswer,
    read_document,
    read_token,
    seconds_to_wait,
)
from include.sync_health.verdicts import ErrorClass

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECRET = 'pa"ss/wörd+1'


def answer(status: int, document: Any = None, *, body: bytes | None = None, **headers: str) -> Answer:
    content = json.dumps(document).encode() if body is None else body
    return Answer(
        status_code=status, headers={key.replace("_", "-"): value for key, value in headers.items()}, body=content
    )


def problem(status: int, title: str = "Something", **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, **more}


def refusal(found: object) -> ServiceTitanError:
    assert isinstance(found, ServiceTitanError)
    return found


@pytest.mark.parametrize(
    ("status", "kind", "error_class"),
    [
        pytest.param(400, RequestRefused, ErrorClass.VALIDATION, id="400 is a request that makes no sense"),
        pytest.param(401, SignInRefused, ErrorClass.AUTH, id="401 is about who asks"),
        pytest.param(403, AccessRefused, ErrorClass.PERMISSION, id="403 is about what they may do"),
        pytest.param(404, RequestRefused, ErrorClass.VALIDATION, id="404 is a wrong tenant or path"),
        pytest.param(408, NoAnswer, ErrorClass.TIMEOUT, id="408 is a time-out"),
        pytest.param(422, RequestRefused, ErrorClass.VALIDATION, id="422 is a request that makes no sense"),
        pytest.param(429, RateLimited, ErrorClass.RATE_LIMIT, id="429 is the rate limit"),
        pytest.param(500, ServerFailed, ErrorClass.SERVER, id="500 is ServiceTitan's own trouble"),
        pytest.param(502, ServerFailed, ErrorClass.SERVER, id="502 is ServiceTitan's own trouble"),
        pytest.param(503, ServerFailed, ErrorClass.SERVER, id="503 is ServiceTitan's own trouble"),
        pytest.param(504, ServerFailed, ErrorClass.SERVER, id="504 is ServiceTitan's own trouble"),
        pytest.param(302, UnexpectedAnswer, ErrorClass.UNKNOWN, id="a redirect is not followed"),
        pytest.param(418, UnexpectedAnswer, ErrorClass.UNKNOWN, id="any other status is unknown"),
    ],
)
def test_a_status_of_the_api_has_its_class(status: int, kind: type[ServiceTitanError], error_class: ErrorClass) -> None:
    error = refusal(read_document(answer(status, problem(status, "Told why")), now=NOW))

    assert type(error) is kind
    assert error.error_class is error_class
    assert error.status_code == status
    assert str(error).startswith(f"ServiceTitan answered {status}: Told why")


@pytest.mark.parametrize(
    ("status", "word", "error_class"),
    [
        pytest.param(400, "invalid_client", ErrorClass.AUTH, id="a wrong client or secret"),
        pytest.param(400, "unauthorized_client", ErrorClass.AUTH, id="a client that may not sign in so"),
        pytest.param(400, "invalid_grant", ErrorClass.AUTH, id="an invalid grant"),
        pytest.param(400, "invalid_scope", ErrorClass.PERMISSION, id="a scope that it does not have"),
        pytest.param(400, "invalid_request", ErrorClass.VALIDATION, id="a request that makes no sense"),
        pytest.param(400, "unsupported_grant_type", ErrorClass.VALIDATION, id="a grant that is not supported"),
        pytest.param(400, "temporarily_unavailable", ErrorClass.SERVER, id="its own trouble, told with 400"),
        pytest.param(400, "another_word", ErrorClass.VALIDATION, id="a word that nobody knows goes by the status"),
        pytest.param(401, "", ErrorClass.AUTH, id="401 without a word"),
        pytest.param(429, "invalid_client", ErrorClass.RATE_LIMIT, id="429 whatever the word"),
        pytest.param(503, "invalid_client", ErrorClass.SERVER, id="503 whatever the word"),
    ],
)
def test_an_answer_of_the_token_server_has_its_class(status: int, word: str, error_class: ErrorClass) -> None:
    error = refusal(read_token(answer(status, {"error": word}), now=NOW))

    assert (error.error_class, error.status_code) == (error_class, status)
    assert word in str(error)


def test_each_class_of_error_has_one_exception_of_its_own() -> None:
    kinds = ServiceTitanError.__subclasses__()

    classes = [kind.error_class for kind in kinds]
    assert len(set(classes)) == len(kinds) == 8
    assert ErrorClass.CANCELLED not in classes


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(
            read_token(answer(400, {"error": "invalid_client"}), now=NOW),
            "check client id and secret (login and password of the connection)",
            id="a refused client names its fields",
        ),
        pytest.param(
            read_document(
                answer(401, problem(401, "Application key not present, check ST-App-Key header value.")), now=NOW
            ),
            "check app_key of the connection",
            id="a missing application key names its field",
        ),
        pytest.param(
            read_document(answer(401, problem(401, "Unauthorized")), now=NOW),
            "check app_key and environment of the connection",
            id="a refused token names what may be mixed up",
        ),
        pytest.param(
            read_document(answer(403, problem(403)), now=NOW), "tn.stt.businessunits:r", id="403 names the scope"
        ),
        pytest.param(read_document(answer(404, problem(404)), now=NOW), "check tenant_id", id="404 names the tenant"),
    ],
)
def test_an_error_says_what_to_do(found: object, words: str) -> None:
    assert words in str(refusal(found))
    assert "\n" not in str(found)


def test_a_trace_id_is_kept_for_servicetitans_support() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    error = refusal(read_document(answer(500, problem(500, "Oops", traceId=trace)), now=NOW))

    assert str(error) == f"ServiceTitan answered 500: Oops (trace {trace})"


def test_a_trace_id_that_is_none_is_left_out() -> None:
    error = refusal(read_document(answer(500, problem(500, "Oops", traceId="cs1.abcdefghijklmnopqrstuvw")), now=NOW))

    assert str(error) == "ServiceTitan answered 500: Oops"


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        pytest.param(answer(429, problem(429), retry_after="12"), 12.0, id="the header in seconds"),
        pytest.param(answer(429, problem(429), retry_after="0"), 0.0, id="at once"),
        pytest.param(
            answer(429, problem(429), retry_after="Wed, 01 Jul 2026 12:00:30 GMT"), 30.0, id="the header as a date"
        ),
        pytest.param(
            answer(429, problem(429), retry_after="Wed, 01 Jul 2026 11:00:00 GMT"), 0.0, id="a date that has passed"
        ),
        pytest.param(
            answer(429, problem(429, "Rate limit is exceeded. Try again in 17 seconds.")),
            17.0,
            id="without the header, the seconds in the title",
        ),
        pytest.param(
            answer(429, problem(429, "Rate limit is exceeded. Try again in 17 seconds."), retry_after="5"),
            5.0,
            id="the header before the title",
        ),
        pytest.param(
            answer(429, problem(429, "Try again in 17 seconds."), retry_after="soon"),
            17.0,
            id="a header that cannot be read, then the title",
        ),
        pytest.param(answer(429, problem(429, "Try again in 1 second.")), 1.0, id="one second"),
        pytest.param(answer(429, problem(429, "Rate limit is exceeded.")), None, id="a title without seconds"),
        pytest.param(answer(429, problem(429, "60 calls are allowed")), None, id="a number that is no time"),
        pytest.param(answer(429, body=b"slow down"), None, id="no document"),
        pytest.param(answer(429, [1]), None, id="a document that is no object"),
        pytest.param(answer(429, problem(429), retry_after="99999999"), LONGEST_WAIT, id="for years is for a day"),
        pytest.param(answer(429, problem(429), retry_after="-5"), None, id="a negative number is none"),
    ],
)
def test_how_long_to_wait(found: Answer, seconds: float | None) -> None:
    assert seconds_to_wait(found, now=NOW) == seconds
    assert refusal(read_document(found, now=NOW)).retry_after == seconds


def test_a_server_that_is_down_may_say_for_how_long() -> None:
    assert refusal(read_document(answer(503, problem(503), retry_after="120"), now=NOW)).retry_after == 120.0


def test_a_refused_request_has_nothing_to_wait_for() -> None:
    assert refusal(read_document(answer(403, problem(403), retry_after="120"), now=NOW)).retry_after is None


def test_a_token_and_its_lifetime_are_read() -> None:
    token = read_token(answer(200, {"access_token": "eyJ.x.y", "expires_in": 900, "token_type": "Bearer"}), now=NOW)

    assert token == Token(value="eyJ.x.y", lifetime=900.0)
    assert "eyJ.x.y" not in repr(token)


@pytest.mark.parametrize(
    "lifetime",
    [
        pytest.param(None, id="nothing"),
        pytest.param("900", id="a text"),
        pytest.param(True, id="true"),
        pytest.param(0, id="zero"),
        pytest.param(-900, id="a negative number"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="without end"),
        pytest.param(10**400, id="a number beyond all floats"),
    ],
)
def test_a_lifetime_that_is_none_means_that_the_token_is_not_kept(lifetime: object) -> None:
    assert read_token(answer(200, {"access_token": "x", "expires_in": lifetime}), now=NOW) == Token(
        value="x", lifetime=0.0
    )


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(answer(200, {"expires_in": 900}), id="no token"),
        pytest.param(answer(200, {"access_token": ""}), id="an empty token"),
        pytest.param(answer(200, {"access_token": 7}), id="a number"),
        pytest.param(answer(200, {"access_token": "two words"}), id="one with a space"),
        pytest.param(answer(200, {"access_token": "x\r\nEvil: header"}), id="one that would add a header"),
        pytest.param(answer(200, {"access_token": "x" * 20_000}), id="one too long for a header"),
        pytest.param(answer(200, body=b"<html>"), id="a page"),
    ],
)
def test_a_token_that_is_none_is_not_used(found: Answer) -> None:
    assert isinstance(read_token(found, now=NOW), UnreadableAnswer)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(answer(200, body=b""), id="nothing"),
        pytest.param(answer(200, body=b"<html>Sign in</html>"), id="a page"),
        pytest.param(answer(200, body=b'{"data": ['), id="half a document"),
        pytest.param(answer(200, body=b"\xff\xfe{"), id="no UTF-8"),
        pytest.param(answer(200, [1, 2]), id="a list"),
        pytest.param(answer(200, body=b"[" * 100_000), id="nested without end"),
        pytest.param(answer(200, {"data": []}, content_encoding="gzip"), id="packed, which nobody asked for"),
        pytest.param(answer(204, body=b""), id="no content"),
    ],
)
def test_an_answer_that_is_no_object_cannot_be_read(found: Answer) -> None:
    error = refusal(read_document(found, now=NOW))

    assert (type(error), error.status_code) == (UnreadableAnswer, found.status_code)


def test_a_document_is_returned_as_it_is() -> None:
    assert read_document(answer(200, {"data": [1], "page": 1}), now=NOW) == {"data": [1], "page": 1}


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(SECRET, id="as it is"),
        pytest.param(quote(SECRET, safe=""), id="as in a URL"),
        pytest.param(quote_plus(SECRET), id="as in a form"),
        pytest.param(json.dumps(SECRET)[1:-1], id="as in JSON"),
    ],
)
def test_a_secret_that_an_answer_repeats_is_blotted_out(written: str) -> None:
    told = f"client {written} is unknown"
    errors = (
        read_document(answer(401, problem(401, told)), now=NOW, secrets=[SECRET]),
        read_token(answer(400, {"error": "invalid_client", "error_description": told}), now=NOW, secrets=["", SECRET]),
    )

    for error in errors:
        assert "client ‹redacted› is unknown" in str(error)
        assert SECRET not in repr(error)
        assert written not in str(error)


def test_a_token_of_somebody_else_is_redacted_by_its_looks() -> None:
    told = "token eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl is invalid"
    error = refusal(read_document(answer(401, problem(401, told)), now=NOW))

    assert "eyJ" not in str(error)
    assert "is invalid" in str(error)


def test_a_secret_with_invisible_characters_in_it_is_blotted_out_too() -> None:
    told = "client se\u200bcret-value is unknown"
    error = refusal(read_document(answer(401, problem(401, told)), now=NOW, secrets=["secret-value"]))

    assert "client ‹redacted› is unknown" in str(error)


def test_a_secret_is_neither_a_word_nor_a_trace_id() -> None:
    error = refusal(read_token(answer(400, {"error": "hushhush"}), now=NOW, secrets=["hushhush"]))
    traced = refusal(read_document(answer(500, problem(500, traceId="12345678")), now=NOW, secrets=["12345678"]))

    assert "hushhush" not in str(error)
    assert "trace" not in str(traced)


def test_a_title_that_is_a_book_is_cut() -> None:
    assert len(str(refusal(read_document(answer(500, problem(500, "word " * 10_000)), now=NOW)))) < 300


headers = st.dictionaries(st.sampled_from(["retry-after", "content-encoding", "content-type"]), st.text(max_size=40))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
documents = st.dictionaries(
    st.sampled_from(["title", "error", "error_description", "traceId", "status", "access_token", "expires_in", "data"]),
    json_values,
)
bodies = st.binary(max_size=200) | documents.map(lambda value: json.dumps(value).encode())


@given(status=st.integers(100, 599), headers=headers, body=bodies)
def test_no_answer_makes_reading_it_fail(status: int, headers: dict[str, str], body: bytes) -> None:
    found = Answer(status_code=status, headers=headers, body=body)
    document, token = read_document(found, now=NOW), read_token(found, now=NOW)

    for error in (document, token):
        if isinstance(error, ServiceTitanError):
            assert error.status_code == status
            assert "\n" not in str(error)
            assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_WAIT
    assert isinstance(document, ServiceTitanError) or 200 <= status < 300
    assert isinstance(token, ServiceTitanError) or (status == 200 and token.lifetime >= 0)


@given(
    # No word of our own has its beginning.
    secret=st.from_regex(r"\Aq7z[!-~]{5,60}\Z"),
    before=st.text(max_size=250),
    after=st.text(max_size=250),
    key=st.sampled_from(["title", "error", "error_description", "traceId"]),
)
def test_a_secret_is_never_in_an_error_wherever_the_text_is_cut(secret: str, before: str, after: str, key: str) -> None:
    body = json.dumps({key: f"{before}{secret}{after}"}).encode()
    for read in (read_document, read_token):
        error = refusal(read(Answer(status_code=400, body=body), now=NOW, secrets=[secret]))
        assert secret not in str(error)
