"""
What the planted faults must make the monitor say, worked out from the plan and the rule table, never by the rules.

Instants are whole seconds, as the source's are: where a rule says "more than 48 hours", it breaches from the second
after. They are those of what happened; who reads naive stamps cannot tell the repeated hour of a change of the clock
from the one before it, so no fault begins or ends near one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from include.simulation.messy_rows import PlannedRun
from include.simulation.planted_faults import OUTAGES, PLATFORM_FAULTS, TYPE_FAILS, Fault, PlantedFault
from include.simulation.world_plan import DAY, HOUR, SECOND, Account
from include.sync_health.verdicts import Severity

FAILURES, FAILURES_WITHIN = 3, HOUR
STUCK_AFTER = HOUR
STALE_AFTER = 2 * DAY
SHORT_TOKEN_MAY_BE_EXPIRED = 2 * DAY
LONG_LIVED_FROM = DAY
OUTAGE_SHARE, OUTAGE_LEAST, OUTAGE_WITHIN = 50, 3, HOUR
SILENT_FOR = 2 * HOUR
BAD_SHARE, VERY_BAD_SHARE, QUALITY_WITHIN = 20, 50, DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """
    One breach that must come, and when it must be over.

    Args:
        fault: what was planted; ``rule`` and ``identity`` are those of the alert it must raise.
        began_at: when it began to go wrong.
        due_at: the first second from which the rule's text says BREACH.
        over_at: the first second from which it says so no more; None: it does until the end.
        severity: at ``due_at``, before any cap of an environment.
    """

    fault: Fault
    rule: str
    identity: Mapping[str, str]
    began_at: datetime
    due_at: datetime
    over_at: datetime | None
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """
    All that happens to one account: its runs by start, the instants at which it gets a new token with the expiry of
    each, and how ids read as text.
    """

    account: Account
    runs: Sequence[PlannedRun]
    tokens: Sequence[tuple[datetime, datetime]]
    credential_id: str
    run_id: Callable[[PlannedRun], str]

    def successes(self, data_type: str | None = None) -> list[tuple[datetime, datetime]]:
        """Return ``(told at, completed at)`` of every completed run, in the order told."""
        return sorted(
            (run.ended_at, run.completed_at)
            for run in self.runs
            if run.status == "completed" and run.completed_at and run.ended_at and data_type in (None, run.data_type)
        )


def truths_of(
    faults: Iterable[PlantedFault], stories: Mapping[int, Story], *, until: datetime, counts_records: bool
) -> list[Truth]:
    """
    Return what must be told by ``until``, ordered by ``due_at``.

    Args:
        stories: by account number.
        counts_records: False where the shape does not say how many records failed: quality cannot be judged.
    """
    found: list[Truth] = []
    mine: dict[int, list[PlantedFault]] = {}
    for fault in faults:
        if fault.fault in PLATFORM_FAULTS:
            found += _platform(fault, stories)
        elif fault.account is not None:
            mine.setdefault(fault.account, []).append(fault)
            if counts_records or fault.fault is not Fault.QUALITY_REGRESSION:
                found += _single(fault, stories[fault.account])
    for number, planted in mine.items():
        found += [*_stale(planted, stories[number], until=until), *_short_token(planted, stories[number], until=until)]
    return sorted((truth for truth in found if truth.due_at <= until), key=lambda truth: (truth.due_at, truth.rule))


def breach_interval(
    points: Iterable[datetime], is_breach: Callable[[datetime], bool]
) -> tuple[datetime, datetime | None] | None:
    """Return from when to when it breaches, judged at the instants at which that can change; None: never."""
    judged = [(at, is_breach(at)) for at in sorted(set(points))]
    breaching = [at for at, is_bad in judged if is_bad]
    if not breaching:
        return None
    return breaching[0], next((at for at, _ in judged if at > breaching[-1]), None)


def _single(fault: PlantedFault, story: Story) -> list[Truth]:
    # Of runs whose stamps lie in the past: those told before the fault began do not belong to it.
    bad = [run for run in story.runs if run.fault == fault.fault and _belongs(run, fault)]
    who = {"credential": story.credential_id}

    def truth(rule: str, severity: Severity, due: datetime, over: datetime | None, **more: str) -> Truth:
        return Truth(
            fault=fault.fault,
            rule=rule,
            identity=who | more,
            began_at=fault.at,
            due_at=due,
            over_at=over,
            severity=severity,
        )

    if fault.fault is Fault.AUTH_BREAK:
        found = [truth("sync_failures", Severity.HIGH, *span) for span in _three_within_an_hour(bad)]
        in_a_row = _in_a_row(bad, story, fault.data_type)
        return found + [
            truth("consecutive_failures", Severity.MEDIUM, *span, data_type=fault.data_type) for span in in_a_row
        ]
    if fault.fault in TYPE_FAILS:
        in_a_row = _in_a_row(bad, story, "invoices")
        return [truth("consecutive_failures", Severity.MEDIUM, *span, data_type="invoices") for span in in_a_row]
    if fault.fault is Fault.TOKEN_ABOUT_TO_LAPSE:
        return [truth("token_expiry", Severity.MEDIUM, fault.at, fault.over)]
    if fault.fault is Fault.FAILED_REFRESH:
        return [truth("connection_error", Severity.HIGH, fault.at, fault.over)]
    if fault.fault is Fault.QUALITY_REGRESSION:
        return _quality(fault, bad, truth)
    return [
        truth(
            "stuck_sync",
            Severity.MEDIUM,
            max(run.started_at + STUCK_AFTER + SECOND, run.inserted_at),
            run.completed_at,
            sync=story.run_id(run),
        )
        for run in bad
        if fault.fault in (Fault.STUCK, Fault.STUCK_FOR_EVER)
    ]


def _belongs(run: PlannedRun, fault: PlantedFault) -> bool:
    if fault.marks and fault.fault is not Fault.NOISE:
        return run.completed_at in fault.marks
    return run.started_at >= fault.at and (fault.over is None or run.started_at < fault.over)


Span = tuple[datetime, datetime | None]


def _three_within_an_hour(bad: Sequence[PlannedRun]) -> list[Span]:
    ends = [(run.completed_at, run.ended_at) for run in bad if run.completed_at and run.ended_at]

    def is_breach(at: datetime) -> bool:
        return sum(told <= at and at - FAILURES_WITHIN < end <= at for end, told in ends) >= FAILURES

    points = [*(told for _, told in ends), *(end + FAILURES_WITHIN for end, _ in ends)]
    found = breach_interval(points, is_breach)
    return [found] if found else []


def _in_a_row(bad: Sequence[PlannedRun], story: Story, data_type: str) -> list[Span]:
    """Return from when to when the data type's runs have failed at least three times in a row."""
    told = sorted(run.ended_at for run in bad if run.ended_at)
    if len(told) < FAILURES:
        return []
    last = max(run.completed_at for run in bad if run.completed_at)
    over = next((at for at, end in story.successes(data_type) if end > last), None)
    return [(told[FAILURES - 1], over)]


def _quality(fault: PlantedFault, bad: Sequence[PlannedRun], truth: Callable[..., Truth]) -> list[Truth]:
    spans = []
    for run in bad:
        if run.completed_at is None or run.ended_at is None or fault.bad_share <= BAD_SHARE:
            continue
        corrected = run.corrections[0][0] if run.corrections else None
        leaves = run.completed_at + QUALITY_WITHIN
        spans.append((run.ended_at, leaves if corrected is None else min(leaves, corrected)))
    if not spans:
        return []
    severity = Severity.HIGH if fault.bad_share > VERY_BAD_SHARE else Severity.MEDIUM
    due, over = min(due for due, _ in spans), max(over for _, over in spans)
    return [truth("data_quality", severity, due, over, data_type=fault.data_type)]


def _stale(planted: Sequence[PlantedFault], story: Story, *, until: datetime) -> list[Truth]:
    """Return where more than 48 hours lie between one completed run and the next."""
    told = [*story.successes(), (until + DAY, until + DAY)]
    return [
        Truth(
            fault=_during(planted, end),
            rule="stale_sync",
            identity={"credential": story.credential_id},
            began_at=end,
            due_at=end + STALE_AFTER + SECOND,
            over_at=next_told if next_told <= until else None,
            severity=Severity.MEDIUM,
        )
        for (_, end), (next_told, _) in pairwise(told)
        if next_told > end + STALE_AFTER + SECOND
    ]


def _short_token(planted: Sequence[PlantedFault], story: Story, *, until: datetime) -> list[Truth]:
    """Return where a short-lived token has been expired for more than 48 hours, and no run completed since."""
    if story.account.token >= LONG_LIVED_FROM:
        return []
    ends = [told for told, _ in story.successes()]
    found = []
    for (given, expires), (renewed, _) in pairwise([*story.tokens, (until + DAY, until + DAY)]):
        due = expires + SHORT_TOKEN_MAY_BE_EXPIRED + SECOND
        over = min([renewed, *(at for at in ends if at > expires)])
        if due < over:
            found.append(
                Truth(
                    fault=_during(planted, given),
                    rule="token_expiry",
                    identity={"credential": story.credential_id},
                    began_at=expires,
                    due_at=due,
                    over_at=over if over <= until else None,
                    severity=Severity.HIGH,
                )
            )
    return found


def _during(planted: Sequence[PlantedFault], at: datetime) -> Fault:
    """Return the account's fault that began nearest to an instant."""
    return min(planted, key=lambda fault: abs(fault.at - at)).fault


def _platform(fault: PlantedFault, stories: Mapping[int, Story]) -> list[Truth]:
    production = [story for story in stories.values() if story.account.environment == "production"]
    end = fault.over or fault.at
    if fault.fault is Fault.PLATFORM_SILENT:
        starts = sorted(run.started_at for story in production for run in story.runs)
        last = max((at for at in starts if at < fault.at), default=None)
        first = next((at for at in starts if at >= end), None)
        span: Span | None = None if last is None else (last + SILENT_FOR, first)
        return _of_platform(fault, "no_syncs", Severity.HIGH, span, last or fault.at)
    error_class = OUTAGES[fault.fault][1]
    near = [
        (story.account, run)
        for story in production
        for run in story.runs
        if run.completed_at and fault.at - 2 * OUTAGE_WITHIN <= run.completed_at <= end + 2 * OUTAGE_WITHIN
    ]

    def is_breach(at: datetime) -> bool:
        ran, failing = set(), set()
        for account, run in near:
            is_there = run.ended_at is not None and run.ended_at <= at
            is_there &= account.deleted_at is None or at < account.deleted_at
            if is_there and run.completed_at and at - OUTAGE_WITHIN < run.completed_at <= at:
                ran.add(account.number)
                if run.fault == fault.fault:
                    failing.add(account.number)
        return len(failing) >= OUTAGE_LEAST and len(failing) * 100 >= OUTAGE_SHARE * len(ran)

    ends = [(run.completed_at, run.ended_at) for _, run in near if run.completed_at and run.ended_at]
    points = [*(told for _, told in ends), *(at + OUTAGE_WITHIN for at, _ in ends)]
    found = breach_interval(points, is_breach)
    return _of_platform(fault, "platform_outage", Severity.CRITICAL, found, fault.at, error_class=error_class)


def _of_platform(
    fault: PlantedFault, rule: str, severity: Severity, span: Span | None, began: datetime, **more: str
) -> list[Truth]:
    if span is None:
        return []
    return [
        Truth(
            fault=fault.fault,
            rule=rule,
            identity={"environment": "production", **more},
            began_at=began,
            due_at=span[0],
            over_at=span[1],
            severity=severity,
        )
    ]
