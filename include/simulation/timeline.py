"""
What happens to the rows of a simulated Hub Plus, as values: each write at its own instant, and what they add up to.

Rows are named by table and number; the numbers rise in the order in which rows are committed, and are the ids where
keys are integers. `Fold` plays the writes up to an instant and says which rows came, changed and went since the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Table(StrEnum):
    """The tables of every shape, in the order in which rows must be inserted."""

    COMPANY = "company"
    CREDENTIAL = "credential"
    RUN = "run"


RowName = tuple[Table, int]
"""A row: its table and its number, from 1."""


@dataclass(frozen=True, slots=True)
class Write:
    """
    One write at an instant: the first of a row inserts it, later ones change the columns they name.

    Args:
        at: when it is committed; aware, whole seconds.
        table, number: the row.
        values: by the columns' names in the ``migrations`` shape (see `include.simulation.generated_world`), times
            aware, foreign keys as numbers; None deletes the row.
        told: a line for whoever watches, where something breaks or recovers.
    """

    at: datetime
    table: Table
    number: int
    values: Mapping[str, Any] | None
    told: str | None = None


@dataclass(slots=True)
class Changes:
    """What a stretch of time did to the rows; a row that came and went within it is in none of the lists."""

    inserted: list[RowName] = field(default_factory=list)
    updated: dict[RowName, dict[str, Any]] = field(default_factory=dict)  # only the columns that changed
    deleted: list[RowName] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class Fold:
    """
    The rows as they stand at an instant that only moves forward.

    Args:
        writes: in order of their instants.
    """

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes
        self._position = 0
        self.rows: dict[RowName, dict[str, Any]] = {}

    def play(self, until: datetime) -> Changes:
        """Apply every write up to and including ``until`` that was not applied yet, and return what they changed."""
        changes = Changes()
        inserted: dict[RowName, None] = {}
        while self._position < len(self._writes) and self._writes[self._position].at <= until:
            write = self._writes[self._position]
            self._position += 1
            name = (write.table, write.number)
            if write.told:
                changes.told.append(f"{write.at:%H:%M:%S} {write.told}")
            if write.values is None:
                del self.rows[name]
                changes.updated.pop(name, None)
                if name in inserted:
                    del inserted[name]
                else:
                    changes.deleted.append(name)
            elif name in self.rows:
                self.rows[name].update(write.values)
                if name not in inserted:
                    changes.updated.setdefault(name, {}).update(write.values)
            else:
                self.rows[name] = dict(write.values)
                inserted[name] = None
        changes.inserted = list(inserted)
        return changes
