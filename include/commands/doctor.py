"""``doctor``: is everything in place for the monitor to see, remember and tell; and what to do where it is not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from include.orchestration.findings import Finding, Status

_WIDTH = 34


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="check connections, rights, schema, time zone, Slack and mail",
        description="Look at everything that the monitor needs: the policy, both databases and the rights there, the "
        "time zone, Slack and mail. Nothing is written and no message is sent. Exit code 2 when something fails.",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print every finding as it comes, or all of them as JSON.

    ``{"ok": bool, "findings": [{"name", "status", "detail", "fix"}]}``, with the statuses pass, warn and fail.

    Returns:
        0: nothing fails (there may be warnings); 2: something does.
    """
    from include.orchestration.diagnosis import diagnose

    findings: list[Finding] = []
    for finding in diagnose(now=datetime.now(UTC)):
        findings.append(finding)
        if not args.json:
            print(line_of(finding), flush=True)
    ok = not any(finding.status is Status.FAIL for finding in findings)
    if args.json:
        print(json.dumps({"ok": ok, "findings": [f.as_json() for f in findings]}, indent=2, ensure_ascii=False))
    else:
        print(summary_of(findings))
    return 0 if ok else 2


def line_of(finding: Finding) -> str:
    """Return the finding as one line: ``fail  storage.schema  the monitoring schema is missing -> FIX``."""
    fix = f" -> {finding.fix}" if finding.fix else ""
    return f"{finding.status:<4}  {finding.name:<{_WIDTH}}  {finding.detail}{fix}"


def summary_of(findings: Sequence[Finding]) -> str:
    """Return the last line: how many of each."""
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    return f"{counts[Status.PASS]} passed, {counts[Status.WARN]} to know of, {counts[Status.FAIL]} failed"
