"""``policy``: show the effective policy, or check a file before it is put in place."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from include.sync_health.errors import PolicyError


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "policy",
        help="show the effective policy, or check a file",
        description="Show the policy in force: include/monitor.yaml with the file of SERVICETITAN_MONITOR_CONFIG laid "
        "over it. With --check, validate FILE as such an overlay instead, and tell every mistake on a line of its own.",
    )
    parser.add_argument("--check", metavar="FILE", type=Path, help="validate FILE over the shipped policy")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print the policy, or what is wrong with a file.

    Returns:
        0: shown, or the file is right; 2: the file is wrong (its mistakes are on stderr, or in the JSON).

    Raises:
        PolicyError: the policy in force is wrong.
    """
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
