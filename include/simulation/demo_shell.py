"""The demo's connections for a shell: where the commands of `include.cli` find its databases, Slack and mail."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from include.simulation.airflow_settings import ConnectionSetting


def write_connections(path: Path, connections: Iterable[ConnectionSetting]) -> None:
    """Write a file that a shell reads with ``. FILE``: it exports the connections; nobody else may read it."""
    lines = [f"export {each.variable_name}={shlex.quote(each.to_json())}\n" for each in connections]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
