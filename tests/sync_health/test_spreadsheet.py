"""No text of ours is a formula in a spreadsheet, and every text can be had back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.sync_health.spreadsheet import neutralised, original


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('=HYPERLINK("http://evil.example","x")', id="a formula"),
        pytest.param("+1+cmd", id="a plus"),
        pytest.param("-2+3", id="a minus"),
        pytest.param("@SUM(A1)", id="an at sign"),
        pytest.param("\tx", id="a tab"),
        pytest.param("\rx", id="a carriage return"),
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


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        pytest.param("Evil;=1+1", "Evil;'=1+1", id="a semicolon, as the file's separator where commas are decimal"),
        pytest.param("Tab\t=2+2", "Tab\t'=2+2", id="a tab, as pasted"),
        pytest.param("a|@SUM(A1)", "a|'@SUM(A1)", id="a bar"),
        pytest.param("a\n-1", "a\n'-1", id="a line break"),
        pytest.param("a\r\n+1", "a\r\n'+1", id="Windows' line break"),
        pytest.param("a\u2028=1", "a\u2028'=1", id="a line break of Unicode"),
        pytest.param('a; "=1', "a;' \"=1", id="and a blank and a quote behind it"),
        pytest.param("\t=1", "'\t'=1", id="a tab at the start is marked itself"),
        pytest.param("=1;=2;3", "'=1;'=2;3", id="every part that is one"),
        pytest.param("a;'b", "a;''b", id="an apostrophe behind one, so that it can be told from ours"),
        pytest.param("+1+cmd|' /C calc'!A0", "'+1+cmd|'' /C calc'!A0", id="only where a part begins"),
    ],
)
def test_so_it_is_behind_what_may_separate_cells(text: str, cell: str) -> None:
    """A spreadsheet that splits there, whatever the quotes say, finds no formula."""
    assert neutralised(text) == cell


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Acme",
        "A=B",
        "Acme - Dallas",
        "3 = 3",
        "Ünïon",
        "  ",
        "日本",
        "1-2",
        "A; B",
        "A | B - C",
        "A, -B",
        "it's; a\tb",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert neutralised(text) == text


HOSTILE = st.text(alphabet=st.sampled_from("'\"=+-@ ;|\t\r\na1＝\u200b"), max_size=8) | st.text(max_size=20)


@given(text=HOSTILE, separators=st.sets(st.sampled_from(";|\t\r\n"), min_size=1))
@example(text="Evil;=1+1", separators={";"})
@example(text="Tab\t=2+2", separators={"\t"})
def test_no_cell_begins_as_a_formula_wherever_the_text_is_split(text: str, separators: set[str]) -> None:
    """At any of them, blanks and quotes not counted; also when what is a cell already is made one again."""
    once = neutralised(text)
    for cell in (once, neutralised(once)):
        for part in re.split("|".join(map(re.escape, sorted(separators))), cell):
            assert not part.lstrip(' "').startswith(("=", "+", "-", "@", "＝"))


@given(text=HOSTILE, separator=st.sampled_from(";|\t"))
@example(text="Evil;=1+1", separator=";")
def test_a_file_read_with_another_separator_holds_no_formula(text: str, separator: str) -> None:
    """Its quotes count only where a cell begins, which is what a spreadsheet makes of them too."""
    file = io.StringIO(newline="")
    csv.writer(file).writerow([7, neutralised(text), "production"])
    for row in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=separator):
        assert not any(cell.lstrip(' "').startswith(("=", "+", "-", "@", "＝")) for cell in row)


@given(HOSTILE)
@example("'\n'=")
def test_every_text_can_be_had_back(text: str) -> None:
    """And no two texts become the same cell."""
    assert original(neutralised(text)) == text
