"""
Where in the sync log a range of times lies: the keys, or the bare times, between which its rows are read.

The search itself is `id_window`'s; here it meets the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, Literal

from include.sync_health.errors import RequestError
from include.sync_health.policy import SourcePolicy
from include.warehouse.id_window import GALLOP_STEPS, Block, find_bound
from include.warehouse.source_keys import FIRST_KEY, LAST_KEY, key_of
from include.warehouse.source_schema import SourceShape
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_statements import SourceStatements
from include.warehouse.source_time import raw_bound, require_aware

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

SURVEY_STEPS = [*GALLOP_STEPS, 2**62]
"""The last step is past any table's start: the block at its smallest key."""


@dataclass(slots=True)
class Reading:
    """
    What one read has found out on its way.

    Args:
        as_of: no plausible start is much later than this, or than the database's now.
        filters: parameters that narrow the rows.
        began: when, by `perf_counter`.
        now: the database's clock.
        newest: the newest plausible start in the whole table.
        round_trips: statements sent.
        notes: sentences for people.
    """

    as_of: datetime
    filters: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=perf_counter)
    now: datetime = END_OF_TIME
    newest: datetime | None = None
    round_trips: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def ms(self) -> float:
        """Milliseconds since it began."""
        return (perf_counter() - self.began) * 1_000


def window_reading(
    shape: SourceShape,
    *,
    finished_from: datetime,
    as_of: datetime,
    credential_ids: Sequence[str] | None,
    environment: str | None,
) -> Reading:
    """
    Begin to read a window, of some credentials or all.

    Raises:
        RequestError: a naive time, an empty window, or an id that is none.
    """
    require_aware(finished_from=finished_from, as_of=as_of)
    if finished_from >= as_of:
        raise RequestError(
            f"the window ({finished_from.isoformat()}, {as_of.isoformat()}] is empty; its start must be earlier"
        )
    filters: dict[str, Any] = {}
    if credential_ids is not None:
        filters["credentials"] = [key_of(text, shape.credential_id_key) for text in credential_ids]
        if None in filters["credentials"]:
            raise RequestError(
                f"credential ids {', '.join(credential_ids)}: the source's are {shape.credential_id_key}s"
            )
    if environment is not None:
        filters["environment"] = environment
    return Reading(as_of, filters)


class RunSearch:
    """Finds ranges of the sync log on one session."""

    def __init__(
        self, session: Session, policy: SourcePolicy, *, shape: SourceShape, statements: SourceStatements
    ) -> None:
        self._session = session
        self._policy = policy
        self._shape = shape
        self._statements = statements

    def range_of(self, reading: Reading, *, oldest: datetime | None, newest: datetime) -> tuple[Any, Any]:
        """
        Return the range that holds every row started in ``[oldest, newest]``: low included, high excluded.

        Keys, or raw starts where no key is searched. Where ``oldest`` is None, so is low: it is not looked for. ``reading``
        learns the database's clock and the newest start.

        Raises:
            SourceError: what `source_errors` maps.
        """
        if self._shape.search != "id":
            reading.now, reading.newest = self.fetch(reading, self._statements.clock, self.clock(reading))[0]
            is_now = reading.newest is None or newest >= reading.newest
            return (
                None if oldest is None else self.raw("started_at", oldest, towards="past"),
                self.raw("started_at", END_OF_TIME if is_now else newest, towards="future"),
            )
        survey = self.fetch(reading, self._statements.survey, {**self.clock(reading), "steps": SURVEY_STEPS})
        reading.now, reading.newest = survey[0][4:]
        known = [Block(*row[:4]) for row in survey if row[1] is not None]
        if not known:
            return None if oldest is None else FIRST_KEY, LAST_KEY
        end = max(block.last_id for block in known)
        high = LAST_KEY
        if reading.newest is not None and newest < reading.newest:
            high = self._bound(reading, known, newest, side="upper", scan_end=end)
        if oldest is None:
            return None, high
        return self._bound(reading, known, oldest, side="lower", scan_end=min(end, high)), high

    def range_since(self, reading: Reading, lookback: timedelta) -> tuple[object, object]:
        """Return the range that holds every row started in the last ``lookback`` before ``reading.as_of``."""
        return self.range_of(
            reading,
            oldest=reading.as_of - lookback - self._policy.id_slack,
            newest=reading.as_of + self._policy.id_slack,
        )

    def fetch(self, reading: Reading, statement: bytes, parameters: Mapping[str, object]) -> list[Any]:
        """Return all rows of one statement, prepared for the next time."""
        reading.round_trips += 1
        with source_errors(f"searching {self._shape.runs.name}", self._policy):
            return self._session.cursor(binary=True).execute(statement, parameters, prepare=True).fetchall()

    def clock(self, reading: Reading) -> dict[str, object]:
        """Return the parameters by which a plausible time is told."""
        return {"zone": self._policy.timezone, "as_of": reading.as_of}

    def raw(self, column: str, at: datetime, *, towards: Literal["past", "future"]) -> datetime:
        """Return what to compare a bare time column with (`raw_bound`)."""
        is_aware = self._shape.runs.is_aware(column)
        return raw_bound(at, is_aware=is_aware, zone=self._policy.timezone, towards=towards)

    def _bound(
        self, reading: Reading, known: list[Block], at: datetime, *, side: Literal["lower", "upper"], scan_end: int
    ) -> int:
        def probe(pivots: Sequence[int]) -> list[Block]:
            parameters = {**self.clock(reading), "pivots": list(pivots)}
            rows = self.fetch(reading, self._statements.blocks, parameters)
            blocks = [Block(*row) for row in rows if row[1] is not None]
            known.extend(blocks)
            return blocks

        target = self.raw("started_at", at, towards="past" if side == "lower" else "future")
        bound = find_bound(probe, target=target, side=side, known=tuple(known), scan_end=scan_end)
        if bound.is_widened:
            reading.notes.append(
                f"{self._shape.runs.name}: starts do not follow the keys around {at.isoformat()}; "
                "a wider range was read to be safe"
            )
        if bound.key is None:
            return FIRST_KEY if side == "lower" else LAST_KEY
        return bound.key
