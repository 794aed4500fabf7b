"""
Millions of sync runs, made inside the database: what the bench reads.

Everything follows from the row's number, so that two loads of the same arguments hold the same rows; nothing is random.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from include.simulation.source_shapes import CREDENTIALS, SourceShape, shape_named

SECONDS_PER_DAY = 86_400

# Hashes of the row's number, folded to 0..2**31-1 so that % is a share. hashint8 is PostgreSQL's own, and stable.
_COMPANY = sql.SQL("""
SELECT n,
       md5('company ' || n)::uuid AS row_uuid,
       initcap(split_part('northern,summit,cedar,liberty,harbor,granite,prairie,golden', ',', 1 + (n % 8)::int)) || ' '
           || initcap(split_part('heating,plumbing,electric,drains,cooling,comfort', ',', 1 + (n / 8 % 6)::int))
           || ' ' || n AS company_name,
       {begin} AS created_at,
       {begin} AS updated_at
FROM generate_series({first_company}::bigint, {last_company}::bigint) AS n
""")

_CREDENTIAL = sql.SQL("""
SELECT n,
       md5('credential ' || n)::uuid AS row_uuid,
       {company_of_credential} AS company_number,
       CASE WHEN (n - {first_credential}) % 5 = 4 THEN 'integration' ELSE 'production' END AS environment,
       'cid.' || md5('id' || n) AS client_id,
       'cs1.' || md5('secret' || n) AS client_secret,
       'eyJhbGciOiJSUzI1NiJ9.' || repeat(md5('token' || n), 8) AS access_token,
       '' AS refresh_token,
       {until} - make_interval(mins => (n % 600)::int) AS token_expires_at,
       {active} AS connection_status,
       {until} - make_interval(mins => (n % 600)::int + 15) AS last_connection_attempt,
       {until} - make_interval(mins => (n % 600)::int + 10) AS last_sync_at,
       (100000000 + n)::text AS tenant_id,
       {begin} AS created_at,
       {until} - make_interval(mins => (n % 600)::int + 15) AS updated_at
FROM generate_series({first_credential}::bigint, {last_credential}::bigint) AS n
""")

_RUN = sql.SQL("""
SELECT n,
       md5('run ' || n)::uuid AS row_uuid,
       {first_credential} + n % {credentials} AS credential_number,
       CASE WHEN h % 50 = 0 THEN 'manual' ELSE 'scheduled' END AS sync_type,
       CASE {kind} % 3 WHEN 0 THEN 'invoices' WHEN 1 THEN 'customers' ELSE 'both' END AS data_type,
       CASE WHEN ended_at > {until} THEN 'running' WHEN is_failed THEN 'failed' ELSE 'completed' END AS status,
       started_at,
       CASE WHEN ended_at <= {until} THEN ended_at END AS completed_at,
       processed AS records_processed,
       processed - rejected AS records_successful,
       rejected AS records_failed,
       CASE WHEN is_failed AND ended_at <= {until} THEN
           CASE h / 4096 % 4
               WHEN 0 THEN 'HTTP 401 invalid_client: Client authentication failed for tenant ' || (100000000 + h % 5000)
               WHEN 1 THEN 'ServiceTitan API rate limit exceeded after all retries (waited ' || h % 240 || ' s)'
               WHEN 2 THEN 'Idle timeout reached for "https://api.servicetitan.io/crm/v2/tenant/' || h % 5000 || '/customers"'
               ELSE 'ServiceTitan API server error: 50' || h % 4
           END
       END AS error_message,
       CASE WHEN is_failed AND h % 3 = 0 AND ended_at <= {until} THEN json_build_object(
           'status_code', 500 + h % 4, 'response', json_build_object('traceId', md5(n::text), 'title', 'Internal error'))
       END AS error_details,
       NULL::json AS metadata,
       NULL::int AS processing_time_seconds,
       started_at AS created_at,
       CASE WHEN ended_at <= {until} THEN ended_at ELSE started_at END AS updated_at
FROM (
    SELECT n, h, started_at, started_at + make_interval(secs => 15 + h / 16 % 585) AS ended_at, is_failed, processed,
           CASE WHEN h % 11 = 0 THEN processed / 50 ELSE 0 END AS rejected
    FROM (
        SELECT n, h, h / 8 % 100000 < {failed_share} * 100000 AS is_failed,
               {until} - make_interval(secs => floor(({rows} - n) * {step}::float8)) AS started_at,
               CASE WHEN h / 32 % 8 = 0 THEN 0 ELSE 1 + h / 128 % 1900 END AS processed
        FROM (
            SELECT n, hashint8(n) & 2147483647 AS h FROM generate_series(1::bigint, {rows}::bigint) AS n OFFSET 0
        ) AS numbered OFFSET 0
    ) AS timed OFFSET 0
) AS outcome
""")
# OFFSET 0 keeps the planner from folding the layers into one, which would compute the hash once per use.


def bulk_history(
    dsn: str,
    *,
    shape: str = "migrations",
    rows: int,
    rows_per_day: float,
    until: datetime,
    failed_share: float = 0.03,
    credentials: int = 5000,
    one_data_type: bool = False,
    timezone: str = "UTC",
) -> None:
    """
    Fill the empty tables of `create_source` with ``rows`` runs, evenly spaced and ending at ``until`` (aware).

    Ids rise with ``started_at`` (where keys are integers). Runs last 15 to 600 seconds, those that would end after
    ``until`` are running; ``failed_share`` of them failed; every eighth processed nothing. The runs are dealt to
    ``credentials`` credentials in turn, a fifth of which are of the integration environment. With ``one_data_type`` each
    credential has a single data type, by its number; else each run has any. ``timezone`` is PHP's zone, for naive
    columns. The tables are vacuumed and analysed. Needs a superuser: foreign keys, right by construction, are not checked
    row by row.

    Raises:
        ValueError: a number is not positive, ``until`` is naive, or the source has rows already.
    """
    if rows < 1 or rows_per_day <= 0 or credentials < 1 or not 0 <= failed_share <= 1:
        raise ValueError("rows, rows_per_day and credentials must be positive, failed_share between 0 and 1")
    if until.tzinfo is None:
        raise ValueError("until must be timezone-aware")
    form = shape_named(shape)
    companies = credentials - credentials // 5
    numbers = {
        "until": sql.Literal(until.replace(microsecond=0)),
        "rows": sql.Literal(rows),
        "begin": sql.Literal(until.replace(microsecond=0) - timedelta(days=rows / rows_per_day + 30)),
        "step": sql.Literal(SECONDS_PER_DAY / rows_per_day),
        "failed_share": sql.Literal(failed_share),
        "credentials": sql.Literal(credentials),
        "kind": sql.SQL("(n % {})").format(sql.Literal(credentials)) if one_data_type else sql.SQL("h / 64"),
        "first_company": sql.Literal(1),
        "last_company": sql.Literal(companies),
        "first_credential": sql.Literal(1),
        "last_credential": sql.Literal(credentials),
        # Every fifth credential is the integration one of the company before it.
        "company_of_credential": sql.SQL("(n - n / 5)"),
        "active": sql.Literal(form.statuses.get("active", "active")),
    }
    with psycopg.connect(dsn) as conn:
        if _has_rows(conn, form):
            raise ValueError("bulk_history needs the empty tables of create_source")
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("SET LOCAL maintenance_work_mem = '512MB'")
        _fill(conn, form, form.company_table, form.company_columns, _COMPANY.format(**numbers), timezone)
        _fill(conn, form, CREDENTIALS, form.credential_columns, _CREDENTIAL.format(**numbers), timezone)
        indexes = _drop_indexes(conn, form.log_table)
        _fill(conn, form, form.log_table, form.log_columns, _RUN.format(**numbers), timezone)
        for definition in indexes:
            conn.execute(definition.encode())
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table in (form.company_table, CREDENTIALS, form.log_table):
            conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def _has_rows(conn: psycopg.Connection, form: SourceShape) -> bool:
    row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(form.company_table))).fetchone()
    return bool(row and row[0])


def _fill(
    conn: psycopg.Connection,
    form: SourceShape,
    table: str,
    columns: tuple[str, ...],
    rows: sql.Composed,
    timezone: str,
) -> None:
    """Insert the rows of a SELECT, each column in this shape's own form, and let the sequence follow."""
    statement = sql.SQL("INSERT INTO {} (id, {}) SELECT {}, {} FROM ({}) AS made").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL("row_uuid" if form.has_uuid_keys else "n"),
        sql.SQL(", ").join(_expression(form, table, column, timezone) for column in columns),
        rows,
    )
    conn.execute(statement)
    if not form.has_uuid_keys:
        conn.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}").format(
                sql.Literal(table), sql.Identifier(table)
            )
        )


def _expression(form: SourceShape, table: str, column: str, timezone: str) -> sql.Composable:
    """Return the expression over the made row that this column stores."""
    if column == form.company_name:
        return sql.Identifier("company_name")
    if column == "uuid":
        return sql.Identifier("row_uuid")
    if column in ("salesforce_id", "intacct_id"):
        return sql.SQL("NULL")
    if column in ("company_id", form.credential_key):
        kind = "company" if column == "company_id" else "credential"
        number = sql.Identifier(f"{kind}_number")
        return sql.SQL("md5({} || {})::uuid").format(f"{kind} ", number) if form.has_uuid_keys else number
    if column.endswith("_at") or column == "last_connection_attempt":
        at = sql.Identifier(column)
        return at if (table, column) in form.aware_times else sql.SQL("{} AT TIME ZONE {}").format(at, timezone)
    return sql.Identifier(column)


def _drop_indexes(conn: psycopg.Connection, table: str) -> list[str]:
    """Drop the table's indexes except the primary key's and return what makes them again: loading is faster without."""
    found = conn.execute(
        """
        SELECT index_class.relname, pg_get_indexdef(index_class.oid)
        FROM pg_index JOIN pg_class AS index_class ON index_class.oid = indexrelid
        WHERE indrelid = %s::regclass AND NOT indisprimary
        """,
        [table],
    ).fetchall()
    for name, _ in found:
        conn.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    return [definition for _, definition in found]
