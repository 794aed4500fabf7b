"""A PHP that runs: programs of this folder, with Debian's Monolog and Doctrine, as a process of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
PROGRAMS = PROJECT / "tests" / "php"
OFFERED = PROJECT / "docs" / "php"

SUPPORTED = {"monolog": {2, 3}, "dbal": {3, 4}}
"""Major versions: Debian 12 has the first ones, Debian 13 the others."""

SECONDS = 120.0


def php(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run PHP and return what came of it."""
    try:
        return subprocess.run(
            ["php", *arguments], input=given, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        pytest.fail("php is not installed: run .ci/setup php", pytrace=False)


def run_php(program: str, plan: dict[str, Any], *, timezone: str = "UTC") -> dict[str, Any]:
    """Run a program with a plan and return what it answers; a failure fails the test, and so do other versions."""
    settings = ("-d", f"date.timezone={timezone}", "-d", "display_errors=stderr")
    done = php(*settings, str(PROGRAMS / program), given=json.dumps(plan))
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr or done.stdout}"
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    print(f"{program} ran with PHP {answer['php']}, Monolog {answer['monolog']}, Doctrine DBAL {answer['dbal']}")
    for library, majors in SUPPORTED.items():
        assert answer[library] in majors, f"{library} {answer[library]} is none of {sorted(majors)}"
    return answer
