"""The demo's connections for a shell: where the commands of `include.cli` find its databases, Slack and mail."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from include.simulation.airflow_settings import ConnectionSetting


def write_connections(
    path: Path, connections: Iterable[ConnectionSetting], *, variables: Mapping[str, str] | None = None
) -> None:
    """Write a file that a shell reads with ``. FILE``: it exports connections and variables; nobody else may read it."""
    exported = {each.variable_name: each.to_json() for each in connections} | dict(variables or {})
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in exported.items()]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
