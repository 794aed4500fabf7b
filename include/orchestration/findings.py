"""What `doctor` finds: values, before anything is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a probe went."""

    PASS = "pass"  # noqa: S105 - a word, no password
    WARN = "warn"  # it works, or cannot be told, and somebody should know
    FAIL = "fail"  # alerts cannot be judged, kept or told


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The answer of one probe.

    ``name`` is stable and dotted (``source.connection``), ``detail`` says what was found, ``fix`` what to do (empty
    on a pass). Neither ever holds a secret.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        return asdict(self) | {"status": str(self.status)}


def passed(name: str, detail: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name=name, status=Status.PASS, detail=detail)


def warned(name: str, detail: str, *, fix: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(name=name, status=Status.WARN, detail=detail, fix=fix)


def failed(name: str, detail: str, *, fix: str) -> Finding:
    """Return a finding that must be mended."""
    return Finding(name=name, status=Status.FAIL, detail=detail, fix=fix)


def without(text: object, secrets: Iterable[str]) -> str:
    """Return the text on one line, at most 300 characters, with every secret blotted out."""
    line = " ".join(str(text).split())
    for secret in secrets:
        line = line.replace(secret, "***")
    return line if len(line) <= 300 else line[:299] + "…"
