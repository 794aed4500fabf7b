"""The mistakes of a policy file as they are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.orchestration.policy_file import load_policy
from include.orchestration.policy_mistakes import lines_of
from include.sync_health.errors import PolicyError

Write = Callable[..., Path]


def mistakes_of(file: Path) -> list[str]:
    """Return every mistake of a policy file, a line each."""
    with pytest.raises(PolicyError) as caught:
        load_policy(overlay=file)
    return lines_of(caught.value)


def mistake_at(file: Path, path: str) -> str:
    """Return the one mistake that is told of a path."""
    (mistake,) = [line for line in mistakes_of(file) if line.startswith(f"{path}: ")]
    return mistake
