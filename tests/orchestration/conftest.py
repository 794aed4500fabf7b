"""What the tests of the policy file share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[..., Path]:
    """Return a function ``(text, name="mine.yaml") -> path`` that writes a policy file."""

    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
