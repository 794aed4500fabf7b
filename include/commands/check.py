"""``check``: evaluate the rules against the source, now or at a moment, without writing or telling anything."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.measured_facts import NOTHING_MEASURED, MeasuredFacts
from include.sync_health.verdicts import Verdict

if TYPE_CHECKING:
    from include.orchestration.check_reading import CheckRead, Memory, RunFilters
    from include.sync_health.checks import Check
    from include.sync_health.observations import Observation
    from include.sync_health.policy import Policy
    from include.sync_health.stored_days import StoredDays

CHECKS = {
    "platform-outage": "platform_outage",
    "no-syncs": "no_syncs",
    "token-expiry": "token_expiry",
    "connection-errors": "connection_error",
    "sync-failures": "sync_failures",
    "consecutive-failures": "consecutive_failures",
    "stuck-syncs": "stuck_sync",
    "stale-syncs": "stale_sync",
    "data-quality": "data_quality",
    "quality-drop": "quality_drop",
    "empty-syncs": "empty_syncs",
    "api-errors": "api_errors",
    "api-latency": "api_latency",
    "api-incidents": "api_incidents",
    "error-budget": "error_budget",
}
"""The checks by their name in the shell, and the rule of `include.sync_health.checks.RULES` that each evaluates."""

SHOWN = frozenset({Verdict.BREACH, Verdict.BAND, Verdict.ERROR})
"""The verdicts that are printed without ``--all``."""

COLUMN_CAUSES = frozenset({"permission", "missing_column"})
"""The causes of a `SourceError` that may concern the columns of one rule alone."""

WORST_FIRST = (Verdict.ERROR, Verdict.BREACH, Verdict.BAND)
"""The order of the lines; other verdicts follow."""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "check",
        help="evaluate the rules now or at a moment, without writing or telling",
        description="Evaluate rules against the Hub Plus database (connection hub_plus_db). Nothing is written and "
        "nobody is told. The monitoring schema is needed by quality-drop and empty-syncs, which compare with the days it "
        "stores, and by the api checks and error-budget, which read nothing else; where there is one, what it remembers of "
        "the credentials is used as well. Exit code 0: nothing breaches; 1: something does; 2: it could not be told.",
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
    ``rows_read`` and ``ms`` are those of the one read and judgement that all checks share; the window of what is judged
    at the instant itself has no length.

    Returns:
        0: nothing breaches; 1: something does; 2: the source cannot be trusted, or the record counts cannot be read,
        which wins over 1.

    Raises:
        MonitorError: the policy, an argument or the source is wrong, or there is no monitoring schema to compare with.
    """
    from include.orchestration.check_reading import read_for
    from include.orchestration.check_tasks import filters_of
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.checks import COUNTED_RULES, CREDENTIAL_RULES, EVERYTHING, OWN_RULES, TREND_RULES
    from include.sync_health.errors import RequestError, SourceError
    from include.sync_health.judgement import TickInput, judge_tick
    from include.sync_health.redaction import clean
    from include.sync_health.visibility import clock_blindness
    from include.sync_health.windows import CLOCK_SKEW, parse_instant

    now = datetime.now(UTC)
    as_of = now if args.as_of is None else parse_instant(args.as_of, name="--as-of")
    if as_of - now > CLOCK_SKEW:
        raise RequestError(f"--as-of {as_of.isoformat()} lies in the future; it is now {now.isoformat()}")
    policy = policy_in_force().loaded.policy
    filters = filters_of({"credential": args.credential, "environment": args.environment})
    rules, notes = _rules_of(args.check, policy=policy, filters=filters)
    began = time.monotonic()
    remembered, forgetful = _remembered(policy, as_of=as_of, rules=rules, filters=filters)
    memory = remembered.memory
    if forgetful and set(rules) & set(CREDENTIAL_RULES):
        notes.append(f"nothing is remembered of the credentials, only the source's own columns speak: {forgetful}")
    stored = {*TREND_RULES, *OWN_RULES}
    if forgetful and set(rules) & stored:
        unknown = f"{_listed([rule for rule in rules if rule in stored])}: not checked: needs the monitoring schema"
        rules = [rule for rule in rules if rule not in stored]
        if not rules:
            raise RequestError(f"{unknown}: {forgetful}")
        notes.append(unknown)
    untold: list[str] = []

    def read_of(rules: Sequence[str]) -> tuple[Check, CheckRead]:
        if remembered.own is not None:
            return replace(EVERYTHING, rules=tuple(rules)), remembered.own
        # Whether the source's rhythm can be trusted, which `no_syncs` reads a week for, is asked whatever is checked.
        check = replace(EVERYTHING, rules=tuple(rule for rule in EVERYTHING.rules if rule in {*rules, "no_syncs"}))
        source = postgres_conninfo(policy.source.connection)
        found = read_for(check, source, policy=policy, as_of=as_of, now=now, filters=filters, memory=memory)
        return check, found

    try:
        check, found = read_of(rules)
    except SourceError as error:
        others = [rule for rule in rules if rule not in COUNTED_RULES]
        if error.cause not in COLUMN_CAUSES or others in ([], rules):
            raise
        # The columns that only they need may be what is missing: the others are judged all the same, as the DAGs do.
        check, found = read_of(others)
        untold = [f"{' and '.join(rule for rule in rules if rule in COUNTED_RULES)}: {error}"]
        rules = others
    read = found.read
    doubt = None
    if remembered.own is None:
        doubt = clock_blindness(
            check=check.name,
            newest_started_at=read.newest_started_at,
            timezone=policy.source.timezone,
            now=now,
        )
    judgement = judge_tick(
        TickInput(
            runs=read.runs,
            credentials=found.facts,
            as_of=as_of,
            check=check,
            before=memory.before,
            blindness=[doubt] if doubt else [],
            scope=filters.admits if filters.narrow else None,
            whole_environments=filters.whole_environments,
            stored=remembered.stored,
            measured=remembered.measured,
        ),
        policy=policy,
        rules=rules,
    )
    observations = judgement.observations
    ms = round((time.monotonic() - began) * 1000, 1)
    shown = [each for each in observations if args.all or each.verdict in SHOWN]
    if args.json:
        counts = {"rows_read": read.rows_read, "ms": ms}
        answer = {
            "as_of": as_of.isoformat(),
            "checks": {
                name: {"window": [(as_of - _length(rule, policy)).isoformat(), as_of.isoformat()], **counts}
                for name, rule in CHECKS.items()
                if rule in rules
            },
            "observations": [as_json(each) for each in shown],
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print_lines(shown, judged=observations, rows_read=read.rows_read, ms=ms)
    for note in (*notes, *read.notes):
        print(f"note: {note}", file=sys.stderr)
    untold += [each.detail for each in judgement.blindness]
    for detail in untold:
        print(f"cannot tell: {clean(detail, limit=500)}", file=sys.stderr)
    if untold:
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


def _print_lines(shown: Sequence[Observation], *, judged: Sequence[Observation], rows_read: int, ms: float) -> None:
    from include.sync_health.redaction import clean

    # What breaches comes first: most credentials have a short-lived token that has lapsed since their last sync.
    place = {verdict: number for number, verdict in enumerate(WORST_FIRST)}
    for each in sorted(shown, key=lambda each: place.get(each.verdict, len(place))):
        print(f"{each.verdict!s:<7} {each.severity!s:<8} {clean(each.message, limit=300)} [{each.reason}]")
    breaching = sum(each.verdict is Verdict.BREACH for each in shown)
    unknown = sum(each.verdict in (Verdict.NO_DATA, Verdict.INSUFFICIENT) for each in judged)
    untold = f" ({unknown} without enough data)" if unknown else ""
    print(f"{breaching} breach, {len(judged)} judged{untold}, {rows_read} rows read in {ms:.0f} ms")


def _rules_of(named: str, *, policy: Policy, filters: RunFilters) -> tuple[list[str], list[str]]:
    """
    Return the rules to judge, and notes on those that were asked for and are not judged.

    Raises:
        RequestError: none is left.
    """
    from include.sync_health.checks import PLATFORM_RULES
    from include.sync_health.errors import RequestError
    from include.sync_health.rule_policies import RuleMode

    wanted = list(CHECKS.values()) if named == "all" else [CHECKS[named]]
    off = [rule for rule in wanted if policy.rules.named(rule).mode is RuleMode.OFF]
    over_all = [rule for rule in wanted if rule in PLATFORM_RULES and rule not in off]
    partial = [rule for rule in over_all if not filters.whole_environments]
    watched = {
        "platform_outage": policy.rules.platform_outage.environments,
        "no_syncs": policy.rules.no_syncs.environments,
    }
    elsewhere = [rule for rule in over_all if rule not in partial and filters.environment not in (None, *watched[rule])]
    rules = [rule for rule in wanted if rule not in {*off, *partial, *elsewhere}]
    notes = []
    if off:
        notes.append(f"the policy has switched off {', '.join(off)}")
    if partial:
        notes.append(f"{' and '.join(partial)} can only be told of all credentials of an environment")
    if elsewhere:
        notes.append(f"the policy does not have {' and '.join(elsewhere)} watch {filters.environment}")
    if not rules:
        raise RequestError(f"{'; '.join(notes)}; there is nothing to check")
    return rules, [f"{note}: not checked" for note in notes]


def _listed(rules: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(rules[:-1]), rules[-1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    """
    What our own tables know: of the credentials, of the days that trends are compared with, of what is measured; and all
    that there is to read, where no rule needs the source.
    """

    memory: Memory
    stored: StoredDays | None = None
    measured: MeasuredFacts = NOTHING_MEASURED
    own: CheckRead | None = None


def _remembered(
    policy: Policy, *, as_of: datetime, rules: Sequence[str], filters: RunFilters
) -> tuple[_Remembered, str | None]:
    """
    Return what our own tables remember, and None; nothing, and why, where they cannot be read.

    Open runs are sought in the source all the same, so that the shell sees what a gap in that memory would hide.
    """
    from include.orchestration.check_reading import Memory, recall, recall_days
    from include.orchestration.measured_reading import read_own, recall_measured
    from include.orchestration.settings import postgres_conninfo
    from include.sync_health.checks import EVERYTHING
    from include.sync_health.errors import MonitorError, RequestError
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    try:
        with connect(postgres_conninfo(policy.storage_connection)) as conn:
            require_current(conn)
            memory = replace(recall(conn, policy=policy, as_of=as_of), open_sync_ids=None)
            check = replace(EVERYTHING, rules=tuple(rules))
            stored = recall_days(conn, check, policy=policy, as_of=as_of)
            measured = recall_measured(conn, check, policy=policy, as_of=as_of)
            own = None if check.reads_source else read_own(conn, as_of=as_of, filters=filters, memory=memory)
            return _Remembered(memory=memory, stored=stored, measured=measured, own=own), None
    except RequestError:
        raise
    except MonitorError as error:
        return _Remembered(memory=Memory()), " ".join(str(error).split())


def _length(rule: str, policy: Policy) -> timedelta:
    """Return how far back a rule looks."""
    rules = policy.rules
    match rule:
        case "stuck_sync":
            return policy.source.open_lookback
        case "no_syncs":
            return rules.no_syncs.silent_for
        case "stale_sync":
            return rules.stale_sync.stale_after
        case "token_expiry" | "connection_error":
            return timedelta(0)
        case "error_budget":
            return policy.service_levels.days * timedelta(days=1)
        case "quality_drop":
            return rules.quality_drop.weeks * timedelta(weeks=1)
    length: timedelta = getattr(rules, rule).window
    return length
