"""
Texts that a spreadsheet must not run: a cell that looks like a formula is one, whoever wrote it.

A company may call itself ``=HYPERLINK(...)``. See https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import re
import unicodedata

MARK = "'"
"""Before a cell's text it makes spreadsheets take it for text."""

_STARTS = frozenset("=+-@\N{MINUS SIGN}")
_BREAKS = frozenset("\t\r\n")
_SEPARATORS = re.compile("([;|\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029])")
"""
What a spreadsheet may split a file at instead of its commas, and every line break: behind it a cell may begin. Quotes do
not help: they count only where a cell begins with one. Against a comma they do, as the file's own separator.
"""


def neutralised(text: str) -> str:
    """
    Return a text as a cell of a CSV file may hold it.

    An apostrophe is put before one that begins with ``=``, ``+``, ``-`` or ``@`` (full-width and other forms of them too),
    also behind blanks, quotes and invisible characters, which spreadsheets drop; and before one that begins with an
    apostrophe. So it is with each part of a text behind ``;``, ``|``, a tab or a line break. A text that begins with a
    tab or a line break has an apostrophe before it too. So a reader gets every text back by removing one apostrophe at
    its start and behind each of these, where there is one; see `original`. Every other text is left as it is.

    Made a cell twice, a text has two apostrophes: were it not so, it could not be had back.
    """
    if not text:
        return text
    # Parts and what separates them in turn; none of the separators begins as a formula does.
    cell = "".join(_part(each) for each in _SEPARATORS.split(text))
    return MARK + cell if text[0] in _BREAKS else cell


def original(cell: str) -> str:
    """Return the text that `neutralised` made a cell of."""
    return "".join(each.removeprefix(MARK) for each in _SEPARATORS.split(cell))


def _part(text: str) -> str:
    first = next((each for each in text if not _is_dropped(each)), "")
    # The forms that a spreadsheet takes for the plain sign: full-width, small, superscript, subscript.
    is_formula = unicodedata.normalize("NFKC", first)[:1] in _STARTS
    return MARK + text if is_formula or text.startswith(MARK) else text


def _is_dropped(character: str) -> bool:
    # Separators, controls and invisible characters; opening and closing quotes.
    category = unicodedata.category(character)
    return category[0] in "ZC" or category in ("Pi", "Pf") or character in "\"'`"
