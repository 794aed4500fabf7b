"""
The stored days that trend rules compare with: few columns of few days, of everybody, in one statement.

Ten thousand credentials have hundreds of thousands of rows on these days. They arrive as arrays, one for each column,
and no loop goes over them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from include.sync_health.stored_days import STORED_COLUMNS, DayRead, StoredDays
from include.warehouse.binary_arrays import decode_array, raw_row
from include.warehouse.monitoring_session import storage_errors

if TYPE_CHECKING:
    import pandas as pd

EPOCH = np.datetime64("1970-01-01", "s")

# Without an ORDER BY all aggregates of one SELECT see the rows in one and the same order. Ids are integers or UUIDs, and
# no data type has a line break in it: a list of lines takes a quarter of the time of JSON.
_ROWS = """
    SELECT array_agg(day - DATE '1970-01-01'),
           string_agg(credential_id, E'\\n'),
           string_agg(data_type, E'\\n'),
           array_agg((is_final::int + 2 * is_vanished::int)::smallint),
           array_agg(syncs_completed),
           array_agg(records_processed),
           array_agg(coalesce(quality_score, 'NaN'))
    FROM monitoring.quality_daily
    WHERE day = ANY (%(days)s) AND (%(credentials)s::text[] IS NULL OR credential_id = ANY (%(credentials)s))
"""

_LEDGER = "SELECT day, read_at, timezone FROM monitoring.quality_day WHERE day = ANY (%s)"


@storage_errors()
def read_stored_days(
    conn: psycopg.Connection[Any], days: Sequence[date], *, credential_ids: Collection[str] | None = None
) -> StoredDays:
    """
    Return what is stored of some days, whatever zone they were computed in.

    Two statements, one of them over the ledger of days, which is small.

    Args:
        conn: any session; nothing is written or committed.
        days: which, in any order.
        credential_ids: of these only; None for all. The ledger knows no credentials.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    wanted = None if credential_ids is None else sorted(credential_ids)
    with conn.cursor(binary=True) as cursor:
        raw = raw_row(cursor.execute(_ROWS, {"days": list(days), "credentials": wanted}))
    computed = {
        day: DayRead(read_at=read_at, timezone=timezone)
        for day, read_at, timezone in conn.execute(_LEDGER, (list(days),))
    }
    return StoredDays(rows=_frame(raw), computed=computed)


def _frame(raw: Sequence[bytes | None]) -> pd.DataFrame:
    import pandas as pd

    day, credential, data_type, flags, completed, processed, score = raw
    flag = decode_array(flags, name="flags")
    return pd.DataFrame(
        {
            "day": EPOCH + decode_array(day, name="day").astype("timedelta64[D]"),
            "credential_id": _category(credential),
            "data_type": _category(data_type),
            "is_final": flag % 2 == 1,
            "is_vanished": flag >= 2,
            "syncs_completed": decode_array(completed, name="syncs_completed").astype(np.int64),
            "records_processed": decode_array(processed, name="records_processed").astype(np.int64),
            "quality_score": decode_array(score, name="quality_score").astype(np.float64),
        },
        columns=list(STORED_COLUMNS),
    )


def _category(lines: bytes | None) -> pd.Categorical:
    """Return a text's lines, each different one kept once."""
    import pandas as pd

    values = [] if lines is None else bytes(lines).decode().split("\n")
    codes, different = pd.factorize(np.array(values, dtype=object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(different, dtype=object))
