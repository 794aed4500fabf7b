"""
What ``quality`` can be used for, and which options belong to which use.

An option that a use has no place for is refused: dropped silently, it would leave undone what somebody asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from enum import StrEnum

from include.sync_health.errors import RequestError

STDOUT = "-"
"""The name of a file that means standard output."""


class Use(StrEnum):
    """What one call is for, in words."""

    SUMMARY = "the summary of what is stored"
    BACKFILL = "a backfill"
    DRY_RUN = "a dry run"
    EXPORT = "an export"
    STREAM = "an export to standard output"
    PLOT = "a plot"


OPTIONS: Mapping[str, str] = {
    "export": "--export",
    "plot": "--plot",
    "first": "--from",
    "last": "--to",
    "dry_run": "--dry-run",
    "missing": "--missing",
    "newest_first": "--newest-first",
    "view": "--view",
    "format": "--format",
    "overwrite": "--overwrite",
    "credential": "--credential",
    "data_type": "--data-type",
    "json": "--json",
}
"""Every option of the command, by where its value is."""

_DAYS = frozenset({"first", "last"})
_COMPUTED = _DAYS | {"missing", "newest_first"}
_PART = _DAYS | {"credential", "data_type"}

BELONGING: Mapping[Use, frozenset[str]] = {
    Use.SUMMARY: frozenset({"json"}),
    Use.BACKFILL: _COMPUTED | {"json"},
    Use.DRY_RUN: _COMPUTED | {"dry_run", "json"},
    Use.EXPORT: _PART | {"export", "view", "format", "overwrite", "json"},
    Use.STREAM: _PART | {"export", "view", "format"},  # it is taken by the rows, and there is nothing to replace
    Use.PLOT: _PART | {"plot", "overwrite", "json"},
}
"""What each use has a place for."""


def use_of(args: argparse.Namespace) -> Use:
    """
    Return what a call is for.

    Args:
        args: a value for each of `OPTIONS`; None or False where it was not given.

    Raises:
        RequestError: an option's value is empty, two uses are asked for at once, or the use has no place for an option.
    """
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) not in (None, False)}
    for name, value in given.items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise RequestError(f"{OPTIONS[name]}: its value is empty; give one, or leave {OPTIONS[name]} out")
    if "export" in given and "plot" in given:
        raise RequestError("--export and --plot write a file each; give one of them at a time")
    use = _use_of(given)
    for name in given:
        if name not in BELONGING[use]:
            raise RequestError(_refusal(name, use))
    return use


def _use_of(given: Mapping[str, object]) -> Use:
    if "export" in given:
        return Use.STREAM if given["export"] == STDOUT else Use.EXPORT
    if "plot" in given:
        return Use.PLOT
    if "first" not in given:
        return Use.SUMMARY
    return Use.DRY_RUN if "dry_run" in given else Use.BACKFILL


def _refusal(name: str, use: Use) -> str:
    option = OPTIONS[name]
    if use is Use.SUMMARY and name in BELONGING[Use.DRY_RUN]:
        return f"{option} needs --from: the first day to compute, such as --from 2026-01-01"
    if use is Use.STREAM and name in BELONGING[Use.EXPORT]:
        return f"{option} does not belong to {use}; name a file, or leave {option} out"
    others = " or ".join(dict.fromkeys(_WIDER.get(other, other) for other, names in BELONGING.items() if name in names))
    return f"{option} belongs to {others}, not to {use}; leave it out"


_WIDER: Mapping[Use, Use] = {Use.DRY_RUN: Use.BACKFILL, Use.STREAM: Use.EXPORT}
"""The use that people know, of those that are a kind of it."""
