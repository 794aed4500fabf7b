"""What the syncs of a range of time come to: their numbers, rates of what is known, and how much of it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from include.warehouse.figures import percent, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPart:
    """
    The part of some completed and failed syncs of which the source's record counts could be read.

    Args:
        counted, records_processed: how many there are whose processed records are known, and these records.
        judged, clean: how many there are of which is known whether records failed, and of these the clean ones.
    """

    counted: int = 0
    records_processed: int = 0
    judged: int = 0
    clean: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTotals:
    """
    The syncs of a range of time.

    Args:
        total: of hours: that started within; of days: all of the days, open ones too. The others are counted by their end.
        completed, clean, partial, failed, cancelled: how they ended; clean and partial are completed ones. None: unknown of
            one of them.
        timed: completed syncs whose duration is known.
        duration_seconds: of those together.
        records_processed, records_successful, records_failed: of completed and failed syncs. None: unknown of one of them.
        failed_by_class: failed syncs by `ErrorClass`, those that have any, the most frequent first.
        failed_unclassified: failed ones whose class nobody recorded: of days computed by the first definition.
        known: the completed and failed ones of which the records are known: all of them, as a rule.
        unavailable: None, or the sentence that says of how many syncs the records are unknown, and what to do.
    """

    total: int = 0
    completed: int = 0
    clean: int | None = 0
    partial: int | None = 0
    failed: int = 0
    cancelled: int = 0
    timed: int = 0
    duration_seconds: float = 0.0
    records_processed: int | None = 0
    records_successful: int | None = 0
    records_failed: int | None = 0
    failed_by_class: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    failed_unclassified: int = 0
    known: KnownPart = field(default_factory=KnownPart)
    unavailable: str | None = None

    @property
    def finished(self) -> int:
        """Completed and failed ones: what rates are of."""
        return self.completed + self.failed

    @property
    def success_rate(self) -> float | None:
        """Percent that completed, loose; None: none ended."""
        return percent(self.completed, self.finished)

    @property
    def strict_success_rate(self) -> float | None:
        """Percent that completed with no failed record, of those of which it is known; None: of none."""
        return percent(self.known.clean, self.known.judged)

    @property
    def duration_avg_seconds(self) -> float | None:
        """Mean of the known durations; None: none is known."""
        return ratio(self.duration_seconds, self.timed)

    @property
    def records_per_sync(self) -> float | None:
        """Records processed by each sync that ended, of those of which it is known; None: of none."""
        return ratio(self.known.records_processed, self.known.counted)

    @property
    def records_coverage(self) -> float | None:
        """Percent of the syncs that ended whose processed records are known; None: none ended."""
        return percent(self.known.counted, self.finished)

    @property
    def outcome_coverage(self) -> float | None:
        """Percent of the syncs that ended of which is known whether records failed; None: none ended."""
        return percent(self.known.judged, self.finished)
