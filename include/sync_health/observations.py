"""
An observation: what one rule says of one identity at one instant, with its words and evidence.

Checks return them as a DataFrame (`OBSERVATION_COLUMNS`); `Observation.from_frame` is where
they leave pandas, once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.sync_health.frames import require_columns
from include.sync_health.verdicts import ErrorClass, Severity, Verdict

if TYPE_CHECKING:
    import pandas as pd

TYPE_PREFIX = "servicetitan_"

EPISODE_NAMESPACE = uuid.UUID("5e0d6f0c-5a0e-5c1b-9d51-0b6a4d3f7c21")
"""Namespace of the deterministic episode ids; changing it is a migration."""

OBSERVATION_COLUMNS = (
    "rule",  # str: "sync_failures"
    "identity",  # dict[str, str]: what makes it this alert and no other
    "verdict",  # str: a Verdict
    "severity",  # str: a Severity; `judgement.capped` applies the cap of the environment
    "credential_id",  # str or None
    "company_id",  # str or None
    "company_name",  # str or None
    "environment",  # str or None
    "data_type",  # str or None
    "title",  # str
    "message",  # str, not yet redacted nor escaped: that is the renderer's
    "metadata",  # dict: the story's keys
    "error_class",  # str or None: an ErrorClass
    "cause",  # str or None: root-cause fingerprint
    "evidence",  # dict: the numbers behind the verdict
    "reason",  # str: one sentence, why this verdict
)


def fingerprint_of(rule: str, identity: Mapping[str, str]) -> str:
    """
    Return the alert's fingerprint: sha256 over rule and identity alone, 64 hex digits.

    Values, severities, counts, texts and times never enter it. Changing it is a migration.
    """
    canonical = json.dumps(
        {"rule": rule, "identity": dict(identity)}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def episode_of(fingerprint: str, opened_at: datetime) -> uuid.UUID:
    """Return the id of the episode that this fingerprint opened at ``opened_at`` (aware): a retry gets the same."""
    return uuid.uuid5(EPISODE_NAMESPACE, f"{fingerprint}|{opened_at.timestamp():.6f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One row of an observation frame; see `OBSERVATION_COLUMNS` for the fields."""

    rule: str
    identity: Mapping[str, str]
    verdict: Verdict
    severity: Severity
    title: str
    message: str
    reason: str
    credential_id: str | None = None
    company_id: str | None = None
    company_name: str | None = None
    environment: str | None = None
    data_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error_class: ErrorClass | None = None
    cause: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The alert this observation speaks of."""
        return fingerprint_of(self.rule, self.identity)

    @property
    def type(self) -> str:
        """The alert's type as the outside world knows it."""
        return TYPE_PREFIX + self.rule

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> list[Observation]:
        """
        Return the frame's rows as observations, in its order.

        Raises:
            FrameError: a column of `OBSERVATION_COLUMNS` is missing.
        """
        require_columns(frame, OBSERVATION_COLUMNS, name="observations")
        records: list[dict[Any, Any]] = frame[list(OBSERVATION_COLUMNS)].to_dict("records")
        return [
            cls(
                **{
                    **record,
                    "verdict": Verdict(record["verdict"]),
                    "severity": Severity(record["severity"]),
                    "error_class": ErrorClass(record["error_class"]) if record["error_class"] else None,
                }
            )
            for record in records
        ]
