"""
Views of the daily quality for BI tools and exports: by day, by week, by 28 days, by field, revisions, and the ledger.

Revision 0004, after 0003. Plain SQL, and no import of the project: a script must keep doing what it did. The weeks and the 28
days begin with the small ledger and look the days up from there, so that a filter on a day, or on a credential, is one on
the indexes of ``quality_daily``.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# One row of an index per credential; the name as it is, not as it was.
NAME_NOW = """
    LEFT JOIN LATERAL (
        SELECT snapshot.company_name FROM monitoring.credential_snapshot AS snapshot
        WHERE snapshot.credential_id = {table}.credential_id ORDER BY snapshot.as_of DESC LIMIT 1
    ) AS newest ON true
"""

REQUIRED = "CASE data_type WHEN 'invoices' THEN 3 WHEN 'customers' THEN 2 ELSE 0 END"

# Wilson's interval at 95 %; exact at its ends. greatest() and least() pass over NULL, hence the CASEs below.
WILSON = """
    CROSS JOIN LATERAL (
        SELECT nullif(records_scored, 0)::float8 AS n, successful_scored / nullif(records_scored, 0)::float8 AS p,
               1.959963984540054::float8 AS z
    ) AS w
    CROSS JOIN LATERAL (
        SELECT 1 + z * z / n AS shrink
    ) AS x
    CROSS JOIN LATERAL (
        SELECT (p + z * z / (2 * n)) / shrink AS middle,
               z / shrink * sqrt(greatest(p * (1 - p), 0) / n + z * z / (4 * n * n)) AS reach
    ) AS y
"""

SUMS = (
    "syncs_total",
    "syncs_completed",
    "syncs_clean",
    "syncs_partial",
    "syncs_failed",
    "syncs_cancelled",
    "syncs_open",
    "syncs_empty",
    "syncs_timed",
    "failed_auth",
    "failed_permission",
    "failed_rate_limit",
    "failed_timeout",
    "failed_server",
    "failed_decode",
    "failed_validation",
    "failed_unknown",
    "syncs_with_detail",
    "records_processed",
    "records_successful",
    "records_failed",
    "records_with_detail",
    "inconsistent",
    "missing_required",
)


def rolled_up(name: str, periods: str) -> str:
    """Return the view over periods: a SELECT of first_day and last_day from the ledger."""
    sums = ",\n               ".join(f"sum({column})::bigint AS {column}" for column in SUMS)
    listed = ", ".join(f"rolled.{column}" for column in SUMS)
    return f"""
    CREATE VIEW monitoring.{name} AS
    SELECT period.first_day, period.last_day, rolled.credential_id, rolled.data_type,
           newest.company_name AS company_name_now, rolled.days, rolled.days_scored, rolled.days_final,
           rolled.days_outdated, rolled.days_vanished, {listed},
           rolled.records_scored, rolled.successful_scored, rolled.required_with_detail,
           100 * successful_scored::float8 / n AS quality_score,
           CASE WHEN n IS NULL THEN NULL WHEN successful_scored = 0 THEN 0
                ELSE greatest(0, 100 * (middle - reach)) END AS score_low,
           CASE WHEN n IS NULL THEN NULL WHEN successful_scored = records_scored THEN 100
                ELSE least(100, 100 * (middle + reach)) END AS score_high,
           rolled.seconds / nullif(rolled.syncs_timed, 0) AS duration_avg_seconds,
           rolled.duration_p95_max_seconds,
           100 * (required_with_detail - missing_of_required)::float8 / nullif(required_with_detail, 0) AS completeness,
           100 * syncs_with_detail::float8 / nullif(finished_known, 0) AS coverage,
           100 * syncs_completed::float8 / nullif(syncs_completed + syncs_failed, 0) AS success_rate,
           100 * syncs_clean::float8 / nullif(syncs_completed + syncs_failed, 0) AS strict_success_rate,
           rolled.days_final = rolled.days AS is_final
    FROM ({periods}) AS period
    CROSS JOIN LATERAL (
        SELECT credential_id, data_type,
               count(*) AS days,
               count(quality_score) AS days_scored,
               count(*) FILTER (WHERE daily.is_final) AS days_final,
               count(*) FILTER (WHERE syncs_timed IS NULL) AS days_outdated,
               count(*) FILTER (WHERE is_vanished) AS days_vanished,
               {sums},
               coalesce(sum(records_processed) FILTER (WHERE quality_score IS NOT NULL), 0)::bigint AS records_scored,
               coalesce(sum(records_successful) FILTER (WHERE quality_score IS NOT NULL), 0)::bigint AS successful_scored,
               (sum(records_with_detail) * {REQUIRED})::bigint AS required_with_detail,
               sum(missing_required)::bigint AS missing_of_required,
               sum(syncs_completed + syncs_failed) FILTER (WHERE syncs_with_detail IS NOT NULL) AS finished_known,
               sum(duration_avg_seconds * syncs_timed) AS seconds,
               max(duration_p95_seconds) AS duration_p95_max_seconds
        FROM monitoring.quality_daily AS daily
        WHERE daily.day BETWEEN period.first_day AND period.last_day
        GROUP BY credential_id, data_type
    ) AS rolled
    {NAME_NOW.format(table="rolled")}
    {WILSON}
    """  # noqa: S608 -- only constants of this script


STATEMENTS = (
    f"""
    CREATE VIEW monitoring.bi_quality_daily AS
    SELECT daily.*, newest.company_name AS company_name_now,
           100 * syncs_with_detail::float8 / nullif(syncs_completed + syncs_failed, 0) AS coverage,
           100 * syncs_completed::float8 / nullif(syncs_completed + syncs_failed, 0) AS success_rate,
           100 * syncs_clean::float8 / nullif(syncs_completed + syncs_failed, 0) AS strict_success_rate
    FROM monitoring.quality_daily AS daily
    {NAME_NOW.format(table="daily")}
    """,  # noqa: S608 -- only constants of this script
    "COMMENT ON VIEW monitoring.bi_quality_daily IS 'Per day, credential and data type, for reports; company_name is the name "
    "as it was, company_name_now the newest one recorded. Rates are percent of the completed and failed syncs.'",
    rolled_up(
        "bi_quality_weekly",
        "SELECT first_day, first_day + 6 AS last_day FROM ("
        "SELECT DISTINCT date_trunc('week', day::timestamp)::date AS first_day FROM monitoring.quality_day) AS week",
    ),
    "COMMENT ON VIEW monitoring.bi_quality_weekly IS 'Per ISO week (Monday to Sunday), credential and data type. Ratios are "
    "of sums; days without a score are left out of the score and counted (days, days_scored). A p95 cannot be rolled up: "
    "duration_p95_max_seconds is the highest of a day. Filter by first_day or last_day.'",
    rolled_up("bi_quality_28_days", "SELECT day - 27 AS first_day, day AS last_day FROM monitoring.quality_day"),
    "COMMENT ON VIEW monitoring.bi_quality_28_days IS 'Per computed day, credential and data type: that day and the 27 before "
    "it; read as bi_quality_weekly. Periods overlap: never add them up. Filter by last_day: each day reads 28.'",
    f"""
    CREATE VIEW monitoring.bi_field_quality_daily AS
    SELECT field.*, newest.company_name AS company_name_now
    FROM monitoring.field_quality_daily AS field
    {NAME_NOW.format(table="field")}
    """,  # noqa: S608 -- only constants of this script
    "COMMENT ON VIEW monitoring.bi_field_quality_daily IS 'Which fields failed, per day, credential and data type.'",
    f"""
    CREATE VIEW monitoring.bi_quality_revisions AS
    SELECT revision.*, newest.company_name AS company_name_now
    FROM monitoring.quality_revision AS revision
    {NAME_NOW.format(table="revision")}
    """,  # noqa: S608 -- only constants of this script
    "COMMENT ON VIEW monitoring.bi_quality_revisions IS 'Final days whose verdict changed when they were computed again.'",
    "CREATE VIEW monitoring.bi_quality_days AS SELECT * FROM monitoring.quality_day",
    "COMMENT ON VIEW monitoring.bi_quality_days IS 'The ledger: one row per day that was ever computed.'",
)


def upgrade() -> None:
    """Add views; no table changes."""
    for statement in STATEMENTS:
        op.execute(statement)
