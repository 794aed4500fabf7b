"""The environment of these tests is whole, but for what is left out on purpose."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LEFT_OUT = Path(__file__).parents[3] / "requirements-stores-without.txt"


def test_nothing_is_missing_but_the_products_that_googles_provider_brings() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)

    lines = checked.stdout.splitlines()
    missing = re.findall(
        r"^apache-airflow-providers-google \S+ requires (\S+), which is not installed\.$", checked.stdout, re.MULTILINE
    )
    names = [line for line in LEFT_OUT.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert sorted(missing) == sorted(names)
    assert len(lines) == len(missing), lines
