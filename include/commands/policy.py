"""``policy``: show the effective policy, check a file before it is put in place, or adopt what is broken already."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.sync_health.errors import PolicyError, RequestError


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "policy",
        help="show the effective policy, check a file, or adopt what is broken already",
        description="Show the policy in force: include/monitor.yaml with the file of SERVICETITAN_MONITOR_CONFIG laid "
        "over it. With --check, validate FILE as such an overlay instead, and tell every mistake on a line of its own. "
        "With --adopt-baseline, judge everything now by the policy in force, once, before the checks are switched on: "
        "what is broken already is recorded, and told in one message per channel by the next run of a check.",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--check", metavar="FILE", type=Path, help="validate FILE over the shipped policy")
    chosen.add_argument(
        "--adopt-baseline", action="store_true", help="record what is broken already, and tell it in one message"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --adopt-baseline: only count, and write nothing")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print the policy, what is wrong with a file, or what was adopted.

    With ``--adopt-baseline --json``: ``{"as_of", "dry_run", "adopted": {rule: alerts}, "messages", "not_sent": {reason:
    alerts}}``.

    Returns:
        0: shown or adopted, or the file is right; 2: the file is wrong (its mistakes are on stderr, or in the JSON).

    Raises:
        PolicyError: the policy in force is wrong.
        MonitorError: ``--dry-run`` stands alone; or as `include.orchestration.policy_baseline.adopt_baseline`.
    """
    if args.adopt_baseline:
        return _adopt(dry_run=args.dry_run, as_json=args.json)
    if args.dry_run:
        raise RequestError("--dry-run belongs to --adopt-baseline: nothing else here writes")
    return _show(as_json=args.json) if args.check is None else _check(args.check, as_json=args.json)


def _show(*, as_json: bool) -> int:
    import yaml

    from include.orchestration.policy_file import load_policy
    from include.orchestration.policy_schema import tree_of

    loaded = load_policy()
    tree = tree_of(loaded.policy)
    sources = [str(source) for source in loaded.sources]
    if as_json:
        print(json.dumps({"version": loaded.version, "sources": sources, "policy": tree}, indent=2, ensure_ascii=False))
        return 0
    print(f"# version {loaded.version}, from {', then '.join(sources)}")
    yaml.safe_dump(tree, sys.stdout, sort_keys=False, allow_unicode=True, width=120)
    return 0


def _check(file: Path, *, as_json: bool) -> int:
    from include.orchestration.policy_file import load_policy
    from include.orchestration.policy_mistakes import lines_of

    try:
        loaded = load_policy(overlay=file)
    except PolicyError as error:
        mistakes = lines_of(error)
        if as_json:
            print(json.dumps({"ok": False, "file": str(file), "mistakes": mistakes}, indent=2, ensure_ascii=False))
        else:
            for mistake in mistakes:
                print(f"error: {mistake}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps({"ok": True, "file": str(file), "version": loaded.version, "mistakes": []}, indent=2))
    else:
        print(f"ok: {file} is a valid policy; version {loaded.version}")
    return 0


def _adopt(*, dry_run: bool, as_json: bool) -> int:
    from include.orchestration.policy_baseline import adopt_baseline

    now = datetime.now(UTC)
    baseline = adopt_baseline(now=now, dry_run=dry_run)
    if as_json:
        answer = {
            "as_of": baseline.as_of.isoformat(),
            "dry_run": dry_run,
            "adopted": dict(baseline.adopted),
            "messages": baseline.messages,
            "not_sent": dict(baseline.not_sent),
        }
        print(json.dumps(answer, indent=2))
        return 0
    total = sum(baseline.adopted.values())
    alerts = "1 alert" if total == 1 else f"{total} alerts"
    print(f"{'would adopt' if dry_run else 'adopted'} {alerts} as of {baseline.as_of.isoformat(timespec='seconds')}")
    for rule, count in baseline.adopted.items():
        print(f"  {count:>6} {rule}")
    if baseline.messages:
        print(
            f"messages {'that would wait' if dry_run else 'waiting'} for the next run of a check: {baseline.messages}"
        )
    for reason, count in baseline.not_sent.items():
        print(f"not sent: {count} ({reason.replace('_', ' ')})")
    return 0
