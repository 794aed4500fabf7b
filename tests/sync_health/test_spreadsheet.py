"""No text of ours is a formula in a spreadsheet, and every text can be had back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.spreadsheet import neutralised, original


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('=HYPERLINK("http://evil.example","x")', id="a formula"),
        pytest.param("+1+cmd|' /C calc'!A0", id="a plus"),
        pytest.param("-2+3", id="a minus"),
        pytest.param("@SUM(A1)", id="an at sign"),
        pytest.param("\t=1", id="a tab"),
        pytest.param("\r=1", id="a carriage return"),
        pytest.param("\nx", id="a line break"),
        pytest.param("  =1", id="behind blanks"),
        pytest.param('"=1', id="behind a quote"),
        pytest.param("\u201c =1", id="behind a curly quote and a blank"),
        pytest.param("\ufeff\u200b=1", id="behind what nobody sees"),
        pytest.param("\uff1d1", id="full-width equals"),
        pytest.param("\uff0b1", id="full-width plus"),
        pytest.param("\uff0d1", id="full-width minus"),
        pytest.param("\uff20x", id="full-width at"),
        pytest.param("\u22121", id="the minus sign of mathematics"),
        pytest.param("'quoted", id="an apostrophe, so that it can be told from ours"),
    ],
)
def test_an_apostrophe_goes_before(text: str) -> None:
    assert neutralised(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Acme", "A=B", "Acme - Dallas", "3 = 3", "Ünïon", "  ", "日本", "1-2"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert neutralised(text) == text


@given(st.text(alphabet=st.sampled_from("'\"=+-@ \t\na1＝\u200b"), max_size=6) | st.text(max_size=20))
def test_every_text_can_be_had_back(text: str) -> None:
    """And no two texts become the same cell."""
    assert original(neutralised(text)) == text
