"""``silence``: keep messages about some alerts back for a while, with a reason and an end; list silences, and end one."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.sync_health.muting import Silence
    from include.warehouse.silences import Preview

PREVIEWED = timedelta(days=7)
"""How far back a preview looks."""

SHOWN_ID = 8
"""Characters of a silence's id that people see and type."""

_EVER = datetime(2000, 1, 1, tzinfo=UTC)


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "silence",
        help="ask for silence about some alerts for a while, list silences, end one",
        description="Keep back the messages about some alerts for a while. The alerts go on being judged, a close is told to "
        "whoever heard of the opening, and when the silence ends one summary tells what it hid and what of that still fires.",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_add(actions)
    listing = actions.add_parser(
        "list", help="the silences that hold or are to come", description="List silences, the newest first."
    )
    listing.add_argument("--all", action="store_true", help="those that are over as well")
    listing.set_defaults(run=_list)
    ending = actions.add_parser(
        "end",
        help="end one before its time",
        description="End a silence now. The next run of a check tells what it kept back and still fires.",
    )
    ending.add_argument("id", metavar="ID", help="of the silence, or at least 6 characters that it begins with")
    ending.add_argument("--by", required=True, metavar="NAME", help="who ends it")
    ending.set_defaults(run=_end)
    for action in (listing, ending):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    parser.set_defaults(run=_list, all=False)


def _add_add(actions: Any) -> None:
    adding = actions.add_parser(
        "add",
        help="ask for one",
        description="Ask for a silence. What it would have hidden in the last 7 days is printed first. A match names "
        "rule, severity, environment, company, credential (ids), data_type, tag (of the policy) or fingerprint; several keys "
        "must all match, and one of several values of one key.",
    )
    adding.add_argument(
        "--match",
        required=True,
        action="append",
        metavar="KEY=VALUE",
        help="of which alerts, such as rule=stale_sync or credential=42; may be given several times",
    )
    adding.add_argument("--from", dest="start", metavar="TIME", help="ISO 8601 with an offset (default: now)")
    end = adding.add_mutually_exclusive_group(required=True)
    end.add_argument("--until", metavar="TIME", help="ISO 8601 with an offset; at most 90 days after --from")
    end.add_argument("--for", dest="span", metavar="SPAN", help="how long, such as 2h or 3d, instead of --until")
    adding.add_argument("--author", required=True, metavar="NAME", help="who wants it")
    adding.add_argument("--reason", required=True, metavar="TEXT", help="why")
    adding.add_argument("--preview", action="store_true", help="only say what it would have hidden; store nothing")
    adding.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    adding.set_defaults(run=_add)


def _add(args: argparse.Namespace) -> int:
    """
    Print what a silence would have hidden, and store it.

    With ``--json``: ``{"preview": {"since", "messages", "in_part", "by_rule", "examples"}, "silence": {...}, "stored"}``.

    Returns:
        0: stored, or with ``--preview`` looked at.

    Raises:
        MonitorError: an argument, the policy or the storage connection is wrong.
    """
    from include.commands.alert_arguments import match_words
    from include.commands.monitoring_access import monitoring, policy_of_alerts
    from include.warehouse.silences import add_silence, messages_matching

    now = datetime.now(UTC)
    since = now - PREVIEWED
    policy = policy_of_alerts()
    silence = _asked(args, tags=policy.tags, now=now)
    with monitoring(policy) as conn:
        preview = messages_matching(conn, silence.match, since=since, tags=policy.tags)
        if not args.json:
            for line in _preview_lines(preview):
                print(line)
        if not args.preview:
            add_silence(conn, silence)
    stored = not args.preview
    if args.json:
        answer = {
            "preview": _preview_json(preview, since=since),
            "silence": _as_json(silence, now=now),
            "stored": stored,
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    span = f"from {_utc(silence.starts_at)} until {_utc(silence.ends_at)}"
    if stored:
        print(f"silence {str(silence.id)[:SHOWN_ID]} stored: {match_words(silence.match)}, {span}")
    else:
        print(f"nothing is stored: {match_words(silence.match)}, {span}")
    return 0


def _list(args: argparse.Namespace) -> int:
    """
    Print the silences; with ``--json``: ``{"silences": [{"id", "match", "starts_at", "ends_at", "author", "reason",
    "created_at", "ended_early_by", "state"}]}``, where ``state`` is "holds", "to come" or "over".

    Returns:
        0.

    Raises:
        MonitorError: the policy or the storage connection is wrong.
    """
    from include.commands.monitoring_access import monitoring, policy_of_alerts
    from include.warehouse.silences import silences_since

    now = datetime.now(UTC)
    with monitoring(policy_of_alerts()) as conn:
        found = silences_since(conn, _EVER if args.all else now)
    if args.json:
        print(json.dumps({"silences": [_as_json(each, now=now) for each in found]}, indent=2, ensure_ascii=False))
        return 0
    for silence in found:
        print(_line(silence, now=now))
    if not found:
        print("no silence is stored" if args.all else "no silence holds or is to come")
    return 0


def _end(args: argparse.Namespace) -> int:
    """
    End one silence; with ``--json``: ``{"silence": {...}}``.

    Returns:
        0: it is over.

    Raises:
        MonitorError: no such silence holds or is to come, or several begin so; or the storage connection is wrong.
    """
    from include.commands.alert_arguments import match_words, shown, words
    from include.commands.monitoring_access import monitoring, policy_of_alerts
    from include.sync_health.errors import RequestError
    from include.warehouse.silences import end_silence

    by, now = words(args.by, option="--by"), datetime.now(UTC)
    with monitoring(policy_of_alerts()) as conn:
        ended = end_silence(conn, args.id, by=by, now=now)
        if ended is None:
            raise RequestError(
                f"ID: {shown(args.id)} is the beginning of no silence that holds or is to come; see silence list --all"
            )
    if args.json:
        print(json.dumps({"silence": {**_as_json(ended, now=now), "state": "over"}}, indent=2, ensure_ascii=False))
        return 0
    print(
        f"silence {str(ended.id)[:SHOWN_ID]} is over: {match_words(ended.match)}; the next run of a check tells what it "
        "kept back and still fires"
    )
    return 0


def _asked(args: argparse.Namespace, *, tags: Any, now: datetime) -> Silence:
    """Return the silence that the arguments ask for, or raise `RequestError`."""
    from include.commands.alert_arguments import matcher_of, span_of, words
    from include.sync_health.errors import RequestError
    from include.sync_health.muting import LONGEST_SILENCE, Silence
    from include.sync_health.windows import parse_instant

    match = matcher_of(args.match, tags=tags)
    starts_at = now if args.start is None else parse_instant(args.start, name="--from")
    if args.until is not None:
        ends_at = parse_instant(args.until, name="--until")
    else:
        ends_at = starts_at + span_of(args.span, option="--for", at_most=LONGEST_SILENCE)
    option, given = ("--until", args.until) if args.until is not None else ("--for", args.span)
    if ends_at <= now:
        raise RequestError(f"{option}: {given!r} is over already, it is {_utc(now)}; choose a later end")
    if ends_at <= starts_at:
        raise RequestError(f"{option}: {given!r} is not after --from, {args.start!r}; choose a later end")
    if ends_at - starts_at > LONGEST_SILENCE:
        raise RequestError(
            f"{option}: {given!r} is more than {LONGEST_SILENCE.days} days after it begins; choose less, or set the rule's "
            "mode to shadow in the policy"
        )
    return Silence(
        id=uuid.uuid4(),
        match=match,
        starts_at=starts_at,
        ends_at=ends_at,
        author=words(args.author, option="--author"),
        reason=words(args.reason, option="--reason"),
        created_at=now,
    )


def _preview_lines(preview: Preview) -> Iterator[str]:
    from include.sync_health.message_parts import SHOWN_DIGITS
    from include.sync_health.redaction import clean
    from include.sync_health.time_lines import TOLD

    days = f"the last {PREVIEWED.days} days"
    if not preview.messages:
        yield f"would have hidden no message of {days}"
        return
    in_part = f"; {preview.in_part} of them speak of others too, and would have gone with those alone"
    messages = "1 message" if preview.messages == 1 else f"{preview.messages} messages"
    yield f"would have hidden {messages} of {days}{in_part if preview.in_part else ''}"
    for rule, count in sorted(preview.by_rule.items(), key=lambda each: (-each[1], each[0])):
        yield f"  {count:>6} {rule}"
    for each in preview.examples:
        about = clean(each.company_name or each.title, limit=80)
        credential = f", credential {each.credential_id}" if each.credential_id else ""
        yield (
            f"  {_utc(each.as_of)} {each.channel}: {each.rule} of {about}{credential} "
            f"({each.fingerprint[:SHOWN_DIGITS]}), {TOLD[each.reason]}"
        )
    if preview.messages > len(preview.examples):
        yield f"  and {preview.messages - len(preview.examples)} older ones"


def _preview_json(preview: Preview, *, since: datetime) -> dict[str, Any]:
    from include.sync_health.redaction import clean

    return {
        "since": since.isoformat(),
        "messages": preview.messages,
        "in_part": preview.in_part,
        "by_rule": dict(preview.by_rule),
        "examples": [
            {
                "as_of": each.as_of.isoformat(),
                "channel": each.channel,
                "reason": str(each.reason),
                "fingerprint": each.fingerprint,
                "rule": each.rule,
                "title": clean(each.title, limit=200),
                "company": clean(each.company_name, limit=200) or None,
                "credential_id": each.credential_id,
            }
            for each in preview.examples
        ],
    }


def _as_json(silence: Silence, *, now: datetime) -> dict[str, Any]:
    from include.commands.alert_arguments import match_tree
    from include.sync_health.message_parts import person
    from include.sync_health.redaction import clean

    return {
        "id": str(silence.id),
        "match": match_tree(silence.match),
        "starts_at": silence.starts_at.isoformat(),
        "ends_at": silence.ends_at.isoformat(),
        "author": person(silence.author),
        "reason": clean(silence.reason, limit=1_000),
        "created_at": silence.created_at.isoformat(),
        "ended_early_by": None if silence.ended_early_by is None else person(silence.ended_early_by),
        "state": _state(silence, now=now),
    }


def _line(silence: Silence, *, now: datetime) -> str:
    from include.commands.alert_arguments import match_words
    from include.sync_health.message_parts import person
    from include.sync_health.redaction import clean

    ended = f" (ended by {person(silence.ended_early_by)})" if silence.ended_early_by else ""
    span = f"{_utc(silence.starts_at)} to {_utc(silence.ends_at)}{ended}"
    said = f"{person(silence.author)}: {clean(silence.reason, limit=200)}"
    return f"{str(silence.id)[:SHOWN_ID]} {_state(silence, now=now):<7} {span}  {match_words(silence.match)}  {said}"


def _state(silence: Silence, *, now: datetime) -> str:
    if silence.holds_at(now):
        return "holds"
    return "to come" if now < silence.starts_at else "over"


def _utc(instant: datetime) -> str:
    from include.sync_health.time_lines import utc_text

    return utc_text(instant)
