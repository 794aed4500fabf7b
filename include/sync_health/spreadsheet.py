"""
Texts that a spreadsheet must not run: a cell that looks like a formula is one, whoever wrote it.

A company may call itself ``=HYPERLINK(...)``. See https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import unicodedata

MARK = "'"
"""Before a cell's text it makes spreadsheets take it for text."""

_STARTS = frozenset("=+-@\N{MINUS SIGN}")
_BREAKS = frozenset("\t\r\n")


def neutralised(text: str) -> str:
    """
    Return a text as a cell of a CSV file may hold it.

    An apostrophe is put before one that begins with ``=``, ``+``, ``-`` or ``@`` (full-width and other forms of them too),
    also behind blanks, quotes and invisible characters, which spreadsheets drop; before one that begins with a tab or a line
    break; and before one that begins with an apostrophe. So a reader gets every text back by removing one leading
    apostrophe, where there is one. Every other text is left as it is.
    """
    if not text:
        return text
    if text[0] in _BREAKS or text[0] == MARK:
        return MARK + text
    first = next((each for each in text if not _is_dropped(each)), "")
    # The forms that a spreadsheet takes for the plain sign: full-width, small, superscript, subscript.
    return MARK + text if unicodedata.normalize("NFKC", first)[:1] in _STARTS and first else text


def original(cell: str) -> str:
    """Return the text that `neutralised` made a cell of."""
    return cell.removeprefix(MARK)


def _is_dropped(character: str) -> bool:
    # Separators, controls and invisible characters; opening and closing quotes.
    category = unicodedata.category(character)
    return category[0] in "ZC" or category in ("Pi", "Pf") or character in "\"'`"
