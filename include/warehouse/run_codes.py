"""
What a row of the sync log says in few bytes: one packed code; and the sizes and texts of its details, as SQL.

`run_rows` unpacks them.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from include.sync_health.frames import CANCELLED_BY_USER, DATA_TYPES, DETAIL_TEXT_LIMIT, RUN_STATUSES
from include.warehouse.packed_columns import packed
from include.warehouse.source_schema import DETAILS

DATA_TYPE_UNIT, CANCELLED_UNIT, DETAIL_UNIT, TEXT_UNIT, LARGE_DETAIL_UNIT = 16, 256, 512, 1024, 2048
"""How the one code per row is packed: status + 16 * data type + 256 if cancelled by a user + 512 if small details follow +
1024 if it failed with a text, which follows + 2048 if it has large details, which are read by key."""

SMALL_DETAIL_BYTES = 500
"""Details of no more than this come with their rows: 100,000 of them are 50 MB at most. An API's error has about 100."""

EMPTY_DETAILS = "'null', '[]', '{}', '\"\"'"
"""JSON documents that say nothing; PHP writes an empty map as a list."""

DETAILED_STATUSES = "'completed', 'failed'"
"""Of other runs nobody asks what failed."""


def packed_code(details: Sequence[str]) -> sql.Composed:
    """Return the code of a row; its detail flag is set where one of the ``details`` columns says something."""
    # What most rows are comes first: a row costs as many comparisons of texts as it takes to find its status.
    status = sql.SQL(
        "CASE status::text WHEN 'completed' THEN {completed}"
        " WHEN 'failed' THEN CASE WHEN error_message IS NULL THEN {failed}"
        " WHEN error_message::text = {cancelled} THEN {by_user} ELSE {told} END"
        " {cases} ELSE CASE WHEN status IS NULL THEN {null} ELSE {unknown} END END"
    ).format(
        completed=_number(RUN_STATUSES.index("completed")),
        failed=_number(RUN_STATUSES.index("failed")),
        cancelled=sql.Literal(CANCELLED_BY_USER),
        by_user=_number(RUN_STATUSES.index("failed") + CANCELLED_UNIT + TEXT_UNIT),
        told=_number(RUN_STATUSES.index("failed") + TEXT_UNIT),
        cases=_cases(RUN_STATUSES, but=("completed", "failed")),
        null=_number(len(RUN_STATUSES)),
        unknown=_number(len(RUN_STATUSES) - 1),
    )
    data_type = sql.SQL(
        "CASE data_type::text {cases} ELSE CASE WHEN data_type IS NULL THEN {null} ELSE {unknown} END END"
    ).format(
        cases=_cases(DATA_TYPES, unit=DATA_TYPE_UNIT),
        null=_number(len(DATA_TYPES) * DATA_TYPE_UNIT),
        unknown=_number((len(DATA_TYPES) - 1) * DATA_TYPE_UNIT),
    )
    code = sql.SQL("{} + {}").format(status, data_type)
    if not details:
        return code
    return code + sql.SQL(" + CASE WHEN {} THEN CASE WHEN {} <= {} THEN {} ELSE {} END ELSE 0 END").format(
        _has_details(details),
        _stored_size(details),
        _number(SMALL_DETAIL_BYTES),
        _number(DETAIL_UNIT),
        _number(LARGE_DETAIL_UNIT),
    )


def detail_columns(details: Sequence[str]) -> sql.Composable:
    """
    Return two more columns of the result; nothing without columns.

    The texts of small details, as one JSON list of those rows whose code says that they are small; and how many bytes the
    others take where they are stored, of those whose code says that they are large.
    """
    if not details:
        return sql.SQL("")
    return sql.SQL(
        ", {texts} FILTER (WHERE {any} AND {size} <= {limit}), {sizes} FILTER (WHERE {any} AND {size} > {limit})"
    ).format(
        texts=detail_texts(details),
        sizes=packed(_stored_size(details), "int4"),
        any=_has_details(details),
        size=_stored_size(details),
        limit=_number(SMALL_DETAIL_BYTES),
    )


def detail_texts(details: Sequence[str]) -> sql.Composed:
    """Return the details of rows as one JSON list of texts (`DETAIL_COLUMNS`)."""
    parts = [_detail_text(column) if column in details else sql.SQL("'null'") for column in DETAILS]
    return sql.SQL("json_agg('[' || {} || ']')").format(sql.SQL(" || ',' || ").join(parts))


def _stored_size(details: Sequence[str]) -> sql.Composed:
    sizes = (sql.SQL("coalesce(pg_column_size({}), 0)").format(sql.Identifier(column)) for column in details)
    return sql.SQL("({})").format(sql.SQL(" + ").join(sizes))


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


def _cases(names: tuple[str, ...], *, unit: int = 1, but: Sequence[str] = ()) -> sql.Composed:
    """Return the cases of the texts among ``names``, whose last is "unknown", but for some; each its position times a unit."""
    return sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(text), _number(place * unit))
        for place, text in enumerate(names[:-1])
        if text not in but
    )


def _number(number: int) -> sql.SQL:
    return sql.SQL(str(number))
