"""
What a row of the sync log says in few bytes: one packed code, and the texts of its details, as SQL.

`run_rows` unpacks them.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from include.sync_health.frames import CANCELLED_BY_USER, DATA_TYPES, DETAIL_TEXT_LIMIT, RUN_STATUSES
from include.warehouse.source_schema import DETAILS

DATA_TYPE_UNIT, CANCELLED_UNIT, DETAIL_UNIT = 16, 256, 512
"""How the one code per row is packed: status + 16 * data type + 256 if cancelled by a user + 512 if details follow."""

EMPTY_DETAILS = "'null', '[]', '{}', '\"\"'"
"""JSON documents that say nothing; PHP writes an empty map as a list."""

DETAILED_STATUSES = "'completed', 'failed'"
"""Of other runs nobody asks what failed."""


def packed_code(details: Sequence[str]) -> sql.Composed:
    """Return the code of a row; its detail flag is set where one of the ``details`` columns says something."""
    if not details:
        return _plain_code()
    flag = sql.SQL(" + CASE WHEN {} THEN {} ELSE 0 END").format(_has_details(details), sql.SQL(str(DETAIL_UNIT)))
    return _plain_code() + flag


def detail_texts(details: Sequence[str]) -> sql.Composable:
    """Return one more column of the result, the details of the rows whose code says so; nothing without columns."""
    if not details:
        return sql.SQL("")
    parts = [_detail_text(column) if column in details else sql.SQL("'null'") for column in DETAILS]
    return sql.SQL(", json_agg('[' || {} || ']') FILTER (WHERE {})").format(
        sql.SQL(" || ',' || ").join(parts), _has_details(details)
    )


def _plain_code() -> sql.Composed:
    return sql.SQL(
        "{status} + {type_unit} * {data_type}"
        " + CASE WHEN status::text = 'failed' THEN"
        " CASE WHEN error_message::text = {cancelled} THEN {cancelled_unit} ELSE 0 END ELSE 0 END"
    ).format(
        status=_code_of("status", RUN_STATUSES),
        type_unit=sql.SQL(str(DATA_TYPE_UNIT)),
        data_type=_code_of("data_type", DATA_TYPES),
        cancelled=sql.Literal(CANCELLED_BY_USER),
        cancelled_unit=sql.SQL(str(CANCELLED_UNIT)),
    )


def _has_details(details: Sequence[str]) -> sql.Composed:
    known = (sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in details)
    # The text of a large document is not made only to see that it is not empty.
    told = (
        sql.SQL("({name} IS NOT NULL AND (pg_column_size({name}) > 64 OR {name}::text NOT IN ({empty})))").format(
            name=sql.Identifier(column), empty=sql.SQL(EMPTY_DETAILS)
        )
        for column in details
    )
    return sql.SQL("(({}) AND status::text IN ({}) AND ({}))").format(
        sql.SQL(" OR ").join(known), sql.SQL(DETAILED_STATUSES), sql.SQL(" OR ").join(told)
    )


def _detail_text(column: str) -> sql.Composed:
    # Its stored size is looked at first: a compressed giant is not unpacked to be measured, unless it may be small.
    return sql.SQL(
        "CASE WHEN {name} IS NULL THEN 'null' WHEN pg_column_size({name}) > {limit} THEN 'true'"
        " WHEN octet_length({name}::text) > {limit} THEN 'true' WHEN {name}::text = '' THEN 'null' ELSE {name}::text END"
    ).format(name=sql.Identifier(column), limit=sql.SQL(str(DETAIL_TEXT_LIMIT)))


def _code_of(column: str, names: tuple[str, ...]) -> sql.Composed:
    """Return SQL for the position of a column's text among ``names``: their last is "unknown", one more is NULL."""
    name, unknown = sql.Identifier(column), len(names) - 1
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(text), sql.SQL(str(code)))
        for code, text in enumerate(names[:unknown])
    )
    return sql.SQL("CASE {name}::text {cases} ELSE CASE WHEN {name} IS NULL THEN {null} ELSE {unknown} END END").format(
        name=name, cases=cases, null=sql.SQL(str(unknown + 1)), unknown=sql.SQL(str(unknown))
    )
