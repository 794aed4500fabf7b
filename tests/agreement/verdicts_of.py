"""Verdicts in the one form in which the monitor's and the oracle's are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from include.sync_health.observations import Observation

Compared = dict[tuple[str, ...], tuple[str, str | None]]
"""(verdict, severity) by identity; the severity of breaches alone: elsewhere it says nothing."""

NOTHING_TO_JUDGE = "no_data"


def of_observations(observations: Iterable[Observation], *, rule: str) -> Compared:
    """One rule's verdicts; a second row for an identity is a mistake of its own."""
    found: Compared = {}
    for each in observations:
        if each.rule != rule:
            continue
        key = tuple(each.identity.values())
        assert key not in found, f"{rule} speaks twice of {key}"
        found[key] = _told(str(each.verdict), str(each.severity))
    return found


def of_frame(frame: pd.DataFrame, *, rule: str) -> Compared:
    """The verdicts of a rule's frame, every row of which must be that rule's."""
    observations = Observation.from_frame(frame)
    assert {each.rule for each in observations} <= {rule}
    return of_observations(observations, rule=rule)


def of_oracle(verdicts: Mapping[tuple[str, ...], tuple[str, str]]) -> Compared:
    """The oracle's verdicts."""
    return {key: _told(verdict, severity) for key, (verdict, severity) in verdicts.items()}


def without_no_data(verdicts: Compared) -> Compared:
    """Leave out the identities of which nothing can be said: a rule may list them or not."""
    return {key: told for key, told in verdicts.items() if told[0] != NOTHING_TO_JUDGE}


def breaches(verdicts: Compared) -> Compared:
    """Only the breaches."""
    return {key: told for key, told in verdicts.items() if told[0] == "breach"}


def _told(verdict: str, severity: str) -> tuple[str, str | None]:
    return (verdict, severity if verdict == "breach" else None)
