"""The token: where it stands, and which headers present it. What Airflow's login does is in `test_airflow_login`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from starlette.requests import Request

from include.dashboard.access import (
    LONGEST_TOKEN_FILE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    configured_token,
    presents_token,
)


def request(*headers: tuple[str, str]) -> Request:
    """Return a request with these headers."""
    raw = [(name.lower().encode(), text.encode("latin-1", "surrogateescape")) for name, text in headers]
    return Request({"type": "http", "headers": raw})


@pytest.fixture
def sesame(monkeypatch: pytest.MonkeyPatch) -> str:
    """A token that is configured."""
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame-1")
    return "sesame-1"


@pytest.mark.parametrize(
    ("header", "is_right"),
    [
        pytest.param("Bearer sesame-1", True, id="the token"),
        pytest.param("bearer sesame-1", True, id="the scheme in any case"),
        pytest.param("Bearer  sesame-1 ", True, id="space around it"),
        pytest.param("Bearer sesame-2", False, id="another token"),
        pytest.param("Bearer sesame-1x", False, id="the token and more"),
        pytest.param("Bearer sesame-", False, id="its beginning"),
        pytest.param("Bearer Sesame-1", False, id="in another case"),
        pytest.param("Bearer ", False, id="no token"),
        pytest.param("Bearer", False, id="nothing but the scheme"),
        pytest.param("sesame-1", False, id="no scheme"),
        pytest.param("Basic sesame-1", False, id="another scheme"),
        pytest.param("Bearer s\xe9same-1", False, id="no ASCII"),
    ],
)
def test_only_the_token_is_right(sesame: str, header: str, is_right: bool) -> None:
    """And nothing raises."""
    assert presents_token(request(("Authorization", header))) is is_right


def test_a_request_without_or_with_two_headers_is_not_right(sesame: str) -> None:
    """What a proxy added must not be hidden by what the client sent, nor the other way round."""
    right = ("Authorization", f"Bearer {sesame}")

    assert not presents_token(request())
    assert not presents_token(request(right, ("Authorization", "Bearer other")))
    assert not presents_token(request(("X-Authorization", f"Bearer {sesame}")))


@pytest.mark.parametrize("header", ["Bearer ", "Bearer None", "Bearer"])
def test_without_a_configured_token_none_is_right(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    """An empty variable is no token either: nobody gets in with nothing."""
    monkeypatch.setenv(TOKEN_VARIABLE, "  ")

    assert not presents_token(request(("Authorization", header)))


def test_a_token_may_have_any_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compared as bytes."""
    monkeypatch.setenv(TOKEN_VARIABLE, "s\xe9same")

    assert presents_token(request(("Authorization", "Bearer " + "s\xe9same".encode().decode("latin-1"))))


def test_the_file_is_read_at_every_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A new token holds at once, and the old one no more."""
    file = tmp_path / "token"
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(file))
    file.write_text("first\n")
    assert presents_token(request(("Authorization", "Bearer first")))

    file.write_text("second\n")

    assert presents_token(request(("Authorization", "Bearer second")))
    assert not presents_token(request(("Authorization", "Bearer first")))


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    """One of them holds."""
    file = tmp_path / "token"
    file.write_text("of-the-file")

    assert configured_token({TOKEN_VARIABLE: " of-the-variable ", TOKEN_FILE_VARIABLE: str(file)}) == b"of-the-variable"
    assert configured_token({TOKEN_VARIABLE: "", TOKEN_FILE_VARIABLE: str(file)}) == b"of-the-file"
    assert configured_token({}) is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="is not there"),
        pytest.param(b"", id="is empty"),
        pytest.param(b" \n", id="holds space alone"),
        pytest.param(b"two words", id="holds two words"),
        pytest.param(b"x" * (LONGEST_TOKEN_FILE + 1), id="is too long"),
    ],
)
def test_a_file_that_holds_no_token_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    """In the log, without what it holds; then nobody gets in by a token."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with caplog.at_level(logging.ERROR, "servicetitan.dashboard"):
        assert configured_token({TOKEN_FILE_VARIABLE: str(file)}) is None

    assert [TOKEN_FILE_VARIABLE in record.getMessage() for record in caplog.records] == [True]
    assert "words" not in caplog.text.replace("one word of text", "")


def test_a_file_in_the_home_of_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """And keeps no login from being asked for."""
    with caplog.at_level(logging.ERROR, "servicetitan.dashboard"):
        assert configured_token({TOKEN_FILE_VARIABLE: "~no-such-user-at-all/token"}) is None

    assert [TOKEN_FILE_VARIABLE in record.getMessage() for record in caplog.records] == [True]
