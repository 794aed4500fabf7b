"""``check``: evaluate the rules against the source, now or at a moment, without writing or telling anything."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.sync_health.verdicts import Verdict

if TYPE_CHECKING:
    from include.sync_health.observations import Observation

CHECKS = {
    "sync-failures": "sync_failures",
    "consecutive-failures": "consecutive_failures",
    "stuck-syncs": "stuck_sync",
}
"""The checks by their name in the shell, and the rule that each evaluates."""

SHOWN = frozenset({Verdict.BREACH, Verdict.BAND, Verdict.ERROR})
"""The verdicts that are printed without ``--all``."""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "check",
        help="evaluate the rules now or at a moment, without writing or telling",
        description="Evaluate rules against the Hub Plus database (connection hub_plus_db). Nothing is written and "
        "nobody is told; the monitoring schema is not needed. Exit code 0: nothing breaches; 1: something does; "
        "2: it could not be told.",
    )
    parser.add_argument("check", choices=[*CHECKS, "all"], help="the check, or all of them")
    parser.add_argument("--as-of", metavar="T", help="judge at this instant, ISO 8601 with an offset (default: now)")
    parser.add_argument("--credential", metavar="ID[,ID]", default="", help="judge these credentials only")
    parser.add_argument("--environment", choices=["production", "integration"], help="judge this environment only")
    parser.add_argument("--all", action="store_true", help="print every verdict, not only breach, band and error")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Evaluate and print.

    With ``--json``: ``{"as_of", "checks": {name: {"window": [from, to], "rows_read", "ms"}}, "observations": [...]}``.

    Returns:
        0: nothing breaches; 1: something does; 2: the source cannot be trusted, which wins over 1.

    Raises:
        MonitorError: the policy, an argument or the source is wrong.
    """
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.orchestration.sync_failures_run import filters_of
    from include.orchestration.tick_source import read_source
    from include.sync_health.errors import RequestError
    from include.sync_health.judgement import SYNC_FAILURES_CHECK, TickInput, judge_tick
    from include.sync_health.policy import RuleMode
    from include.sync_health.redaction import clean
    from include.sync_health.visibility import clock_blindness
    from include.sync_health.windows import CLOCK_SKEW, parse_instant

    now = datetime.now(UTC)
    as_of = parse_instant(args.as_of, name="--as-of") if args.as_of else now
    if as_of - now > CLOCK_SKEW:
        raise RequestError(f"--as-of {as_of.isoformat()} lies in the future; it is now {now.isoformat()}")
    policy = policy_in_force().loaded.policy
    filters = filters_of({"credential": args.credential, "environment": args.environment})
    wanted = [CHECKS[args.check]] if args.check != "all" else list(CHECKS.values())
    off = [rule for rule in wanted if policy.rules.named(rule).mode is RuleMode.OFF]
    rules = [rule for rule in wanted if rule not in off]
    if not rules:
        raise RequestError(f"the policy has switched off {', '.join(off)}; there is nothing to check")
    for rule in off:
        print(f"note: the policy has switched off {rule}: it is not checked", file=sys.stderr)
    began = time.monotonic()
    read, credentials = read_source(
        postgres_conninfo(policy.source.connection), policy=policy, as_of=as_of, filters=filters
    )
    doubt = clock_blindness(
        check=SYNC_FAILURES_CHECK,
        newest_started_at=read.newest_started_at,
        timezone=policy.source.timezone,
        now=now,
    )
    judgement = judge_tick(
        TickInput(
            runs=read.runs,
            credentials=credentials,
            as_of=as_of,
            blindness=[doubt] if doubt else [],
            scope=filters.admits if filters.narrow else None,
        ),
        policy=policy,
        rules=rules,
    )
    observations = judgement.observations
    ms = round((time.monotonic() - began) * 1000, 1)
    windows = {
        name: [(as_of - _length(rule, policy)).isoformat(), as_of.isoformat()]
        for name, rule in CHECKS.items()
        if rule in rules
    }
    shown = [each for each in observations if args.all or each.verdict in SHOWN]
    if args.json:
        answer = {
            "as_of": as_of.isoformat(),
            "checks": {
                name: {"window": window, "rows_read": read.rows_read, "ms": ms} for name, window in windows.items()
            },
            "observations": [as_json(each) for each in shown],
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print_lines(shown, judged=len(observations), rows_read=read.rows_read, ms=ms)
    for note in read.notes:
        print(f"note: {note}", file=sys.stderr)
    for each in judgement.blindness:
        print(f"cannot tell: {clean(each.detail, limit=500)}", file=sys.stderr)
    if judgement.blindness:
        return 2
    return 1 if any(each.verdict is Verdict.BREACH for each in observations) else 0


def as_json(observation: Observation) -> dict[str, Any]:
    """Return an observation in the shape that other tools read; untrusted texts are redacted and cut."""
    from include.sync_health.redaction import clean

    return {
        "type": observation.type,
        "severity": str(observation.severity),
        "verdict": str(observation.verdict),
        "fingerprint": observation.fingerprint,
        "credential_id": observation.credential_id,
        "company": clean(observation.company_name, limit=200) if observation.company_name else None,
        "environment": observation.environment,
        "data_type": observation.data_type,
        "title": observation.title,
        "message": clean(observation.message, limit=1_000),
        "metadata": {
            key: clean(value, limit=1_000) if isinstance(value, str) else value
            for key, value in observation.metadata.items()
        },
        "error_class": str(observation.error_class) if observation.error_class else None,
        "cause": observation.cause,
        "evidence": dict(observation.evidence),
        "reason": observation.reason,
    }


def _print_lines(shown: Sequence[Observation], *, judged: int, rows_read: int, ms: float) -> None:
    from include.sync_health.redaction import clean

    for each in shown:
        print(f"{each.verdict!s:<7} {each.severity!s:<8} {clean(each.message, limit=300)} [{each.reason}]")
    breaching = sum(each.verdict is Verdict.BREACH for each in shown)
    print(f"{breaching} breach, {judged} judged, {rows_read} rows read in {ms:.0f} ms")


def _length(rule: str, policy: Any) -> Any:
    if rule == "stuck_sync":
        return policy.source.open_lookback
    return policy.rules.named(rule).window
