"""Nothing secret is seen, and what people need stays."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.redaction import EMAIL, PHONE, REDACTED, WEBHOOK, clean, redact, shorten
from tests.sync_health.hostile_texts import SECRETS, embedded_secrets, untrusted

FRAGMENTS = (
    *(text for text, _ in SECRETS),
    *(
        "password=",
        "token: ",
        "token=",
        '"',
        "'",
        "\\",
        ",",
        " ",
        "\n",
        "&",
        "&quot;",
        "(",
        "]",
        "}",
        "://",
        "@",
        ".",
        "-",
        "a1",
    ),
    *(
        "Bearer ",
        "Basic ",
        "cookie: ",
        "authorization: ",
        "-----BEGIN A-----",
        "https://",
        "webhook",
        "hooks.",
        "%40",
        "%3D",
    ),
    *(
        REDACTED,
        WEBHOOK,
        EMAIL,
        PHONE,
        "‹",
        "redacted",
        "phone",
        "+1 ",
        "555",
        "eyJ",
        "xoxb-",
        "encrypted:",
        "--token ",
    ),
)


@pytest.mark.parametrize(("text", "secret"), [pytest.param(*row, id=repr(row[0])) for row in SECRETS])
def test_each_secret_is_masked(text: str, secret: str) -> None:
    """In every form that it takes."""
    assert secret not in redact(text)


@given(embedded_secrets)
def test_no_secret_survives_wherever_it_stands(embedded: tuple[str, tuple[str, str], str]) -> None:
    """Whatever stands before and behind it, and however the text is cut afterwards."""
    before, (text, secret), after = embedded
    whole = f"{before}{text}{after}"

    assert secret not in redact(whole) or secret in before + after
    assert secret not in clean(whole, limit=2_000) or secret in before + after


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join) | st.text() | untrusted)
def test_redacting_again_changes_nothing(text: str) -> None:
    """A text may pass here twice on its way."""
    once = redact(text)

    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "Failed to refresh access token: Connection refused",
        "bearer token expired",
        "token_expires_at=2026-11-24, credential_id=17",
        "run 5e0d6f0c-5a0e-5c1b-9d51-0b6a4d3f7c21 failed",
        "traceId 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "App\\Service\\ServiceTitanCredentialRepository::findOneBy",
        "GET https://api.servicetitan.io/crm/v2/tenant/100/customers?page=1&pageSize=500 returned HTTP/2 403",
        "Required fields are missing: invoice_number, first_appointment, hub_plus_import_id",
        "2026-11-24T10:00:03.123+00:00 and 2026-11-24 10:00:00, unix 1764000000",
        "host 10.20.30.40:5432, order 4012 of 5551234567",
        "Zip Code is Empty, Street is Empty",
    ],
)
def test_what_people_search_by_stays(text: str) -> None:
    """UUIDs, trace ids, integer ids, hosts, paths and prose are no secrets."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param("a\u200bb\u202ec\x00d\x1b[0m", "abcd[0m", id="zero-width, bidi and control characters go"),
        pytest.param("  a\r\n\t b\u2028c ", "a b c", id="one line, single spaces"),
        pytest.param("\ud800x", "x", id="lone surrogates go"),
        pytest.param("mail jane@example.com", f"mail {EMAIL}", id="a mail address"),
        pytest.param("see https://hooks.slack.com/services/T/B/x now", f"see {WEBHOOK} now", id="a webhook"),
        pytest.param("(555) 123-4567", PHONE, id="a phone number"),
        pytest.param("Authorization: Bearer abc", f"Authorization: {REDACTED}", id="a header"),
        pytest.param(None, "", id="no text"),
    ],
)
def test_clean_gives_one_readable_line(text: str | None, seen: str) -> None:
    """As it stands in a message."""
    assert clean(text, limit=100) == seen


def test_a_long_text_keeps_its_head_and_its_tail() -> None:
    """What failed stands in front, why at the end."""
    cut = shorten("begin " + "x" * 500 + " end", limit=60)

    assert len(cut) <= 60
    assert cut.startswith("begin ")
    assert cut.endswith(" end")
    assert "…" in cut


@given(untrusted, st.integers(min_value=1, max_value=300))
def test_clean_text_fits_and_can_be_sent(text: str, limit: int) -> None:
    """Within the limit, one line, encodable."""
    cleaned = clean(text, limit=limit)
    cleaned.encode("utf-8")

    assert len(cleaned) <= limit
    assert not {unicodedata.category(character) for character in cleaned} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_a_limit_of_nothing_is_refused() -> None:
    """Not even the ellipsis fits."""
    with pytest.raises(ValueError, match="cannot be cut to 0"):
        clean("text", limit=0)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "0",
        "a1",
        "aA1/",
        "'",
        "\\",
        "password=",
        "token ",
        "a@",
        "://",
        "https://",
        "hooks.",
        "eyJaa.",
        "+1 ",
        "phone",
        '="',
    ],
)
def test_a_megabyte_is_redacted_in_linear_time(unit: str) -> None:
    """Ten seconds is ten times what the slowest takes on a slow machine; anything quadratic would take hours."""
    start = time.perf_counter()
    redact(unit * (1_000_000 // len(unit)))

    assert time.perf_counter() - start < 10


@given(st.lists(st.sampled_from(SECRETS), min_size=2, max_size=4), st.sampled_from((" ", ", ", "\n", "; ", " -> ")))
def test_no_secret_hides_behind_another(secrets: list[tuple[str, str]], between: str) -> None:
    """Masking one must not take away what marks the next as one."""
    seen = redact(between.join(text for text, _ in secrets))

    assert not [secret for _, secret in secrets if secret in seen]
