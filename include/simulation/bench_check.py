"""The 6-hour quality check of the last 24 hours, by three ways that are compared; `bench_quality` times them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import sqlalchemy

from include.sync_health.quality import judge_data_quality
from include.sync_health.rule_policies import DataQualityPolicy
from include.sync_health.subjects import subjects_of
from include.sync_health.verdicts import Verdict
from include.warehouse.source_reader import SourceReader

DAY = timedelta(days=1)

_CHECK = """
SELECT service_titan_credential_id, data_type, count(*), count(*) FILTER (WHERE {judged}), sum(records_processed),
       sum(records_failed), max(100 * records_failed::float8 / records_processed) FILTER (WHERE {judged}),
       max(completed_at), percentile_disc(0.95) WITHIN GROUP (ORDER BY completed_at - started_at)
FROM servicetitan_sync_logs
WHERE id >= %(low)s AND status = 'completed' AND completed_at > %(finished_from)s AND completed_at <= %(as_of)s
GROUP BY service_titan_credential_id, data_type
""".format(judged="records_processed > 10 AND records_failed BETWEEN 0 AND records_processed")


class CheckWays:
    """
    The ways, each of which does all of its work when it is called.

    ``rows`` is how many runs of the 24 hours there are.
    """

    def __init__(
        self,
        reader: SourceReader,
        cursor: psycopg.Cursor[Any],
        alchemy: sqlalchemy.Connection,
        *,
        policy: DataQualityPolicy,
        until: datetime,
    ) -> None:
        """
        Take warm connections, and compare what the ways find.

        Raises:
            AssertionError: two ways found different things.
        """
        self._reader, self._cursor, self._alchemy, self._policy, self._until = reader, cursor, alchemy, policy, until
        self._subjects = subjects_of(reader.read_credentials())
        runs = self.check()
        self.rows = len(runs)
        self._parameters: dict[str, Any] = {
            "low": int(runs["sync_id"].min()),
            "finished_from": (until - DAY).replace(tzinfo=None),
            "as_of": until.replace(tzinfo=None),
        }
        found = self.aggregate()
        told = judge_data_quality(runs, subjects=self._subjects, policy=policy, as_of=until)
        require_same(len(found), len(told), what="keys that the check judges")
        judged = sum(each[3] for each in found)
        require_same(judged, sum(each["judged"] for each in told["evidence"]), what="runs that the check judges")

    def check(self) -> pd.DataFrame:
        """Read and judge, as the check does; return the runs."""
        untold: Counter[Verdict] = Counter()
        read = self._reader.read_runs(
            finished_from=self._until - DAY, as_of=self._until, remembered_open=[], with_counts=True
        )
        judge_data_quality(read.runs, subjects=self._subjects, policy=self._policy, as_of=self._until, untold=untold)
        return read.runs

    def aggregate(self) -> list[Any]:
        """Return what it judges by, as one aggregate over the same range of the primary key."""
        return self._cursor.execute(_CHECK.encode(), self._parameters, prepare=True).fetchall()

    def read_sql(self) -> pd.DataFrame:
        """Return all of that range as a frame."""
        ranged = sqlalchemy.text("SELECT * FROM servicetitan_sync_logs WHERE id >= :low")
        return pd.read_sql(ranged, self._alchemy, params={"low": self._parameters["low"]})


def require_same(one: int, other: int, *, what: str) -> None:
    """
    Compare two ways' numbers.

    Raises:
        AssertionError: they differ.
    """
    if one != other:
        raise AssertionError(f"{what}: {one} and {other}")
