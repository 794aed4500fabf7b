"""
Strategies: small worlds whose every number lies at, just before or just after a threshold of some rule.

A world for the credential rules, one for data quality, one for an outage and one for silence; `whole_worlds` has all of
them in one, for the way through a real source. Times are whole seconds, as Doctrine writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential, Snapshot

AS_OF = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NUDGES = st.sampled_from((-SECOND, timedelta(0), SECOND))
EXPIRY_EDGES = (timedelta(0), 15 * MINUTE, DAY, 2 * DAY, 7 * DAY, 30 * DAY)
AGE_EDGES = (timedelta(0), HOUR, 2 * HOUR, DAY, 2 * DAY, 4 * DAY, 7 * DAY)
TEXTS = {
    "ServiceTitan API server error: 503": "server",
    "HTTP 401 invalid_client": "auth",
    "ServiceTitan API rate limit exceeded": "rate_limit",
    "odd": "unknown",
    None: "unknown",
    "Sync cancelled by user": "cancelled",
}
"""Error texts, and the class that each belongs to."""
FEW_STARTS = 49
"""From 50 starts on, the monitor judges the source's rhythm too, which is no rule of the oracle's."""
DATA_TYPES = ("invoices", "customers", "both")


@dataclass(frozen=True, kw_only=True)
class World:
    """What a source holds, and what we remember of it."""

    credentials: list[Credential] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)


def a_run(number: int, *, credential: int, end: datetime, status: str = "completed", **known: object) -> Row:
    """A run of five minutes that ended at ``end``."""
    values: dict[str, object] = {
        "data_type": "both",
        "started_at": end - 5 * MINUTE,
        "completed_at": end,
        "updated_at": end,
        **known,
    }
    return Row(id=number, credential=credential, status=status, **values)  # type: ignore[arg-type]


def before(edges: Sequence[timedelta], *, as_of: datetime = AS_OF) -> st.SearchStrategy[datetime]:
    """Instants at, just before and just after these distances before ``as_of``."""
    return st.builds(lambda edge, nudge: as_of - edge + nudge, st.sampled_from(edges), NUDGES)


@st.composite
def credential_worlds(draw: st.DrawFn, *, most: int = 3, statuses: Iterable[str] = ()) -> World:
    """Credentials around every boundary of tokens, errors and staleness, with successes around the instants they name."""
    world = World()
    for number in range(1, draw(st.integers(1, most)) + 1):
        credential, snapshots, rows = draw(
            _one_credential(number, first_run=100 * number, statuses=tuple(statuses) or STATUSES)
        )
        world.credentials.append(credential)
        world.snapshots.extend(snapshots)
        world.rows.extend(rows)
    return world


STATUSES = ("active", "connected", "error", "error", "inactive", "pending")
NEARLY_ALWAYS = st.sampled_from((True,) * 11 + (False,))


@st.composite
def _one_credential(
    draw: st.DrawFn, number: int, *, first_run: int, statuses: Sequence[str]
) -> tuple[Credential, list[Snapshot], list[Row]]:
    ahead = draw(st.sampled_from(EXPIRY_EDGES)) * draw(st.sampled_from((1, -1)))
    expires = AS_OF + ahead + draw(NUDGES) if draw(NEARLY_ALWAYS) else None
    lifetimes = draw(st.sampled_from(((15 * MINUTE,), (15 * MINUTE, DAY), (DAY,), (30 * DAY,))))
    issued = [] if expires is None else [expires - lifetime + draw(NUDGES) for lifetime in lifetimes]
    # Stamps at which a token was given, or any: of a credential whose row was written long ago the token lasts long.
    stamps = st.sampled_from(issued) if issued and draw(st.booleans()) else before(AGE_EDGES)
    credential = Credential(
        id=number,
        environment=draw(st.sampled_from(("production", "production", "integration"))),
        status=draw(st.sampled_from(statuses)),
        token_expires_at=expires,
        last_connection_attempt=draw(st.one_of(st.none(), stamps)),
        created_at=draw(st.one_of(st.just(AS_OF - 300 * DAY), st.none(), before(AGE_EDGES))),
        updated_at=draw(st.one_of(st.none(), stamps)),
        has_client_id=draw(NEARLY_ALWAYS),
        has_client_secret=draw(NEARLY_ALWAYS),
        company=number,
    )
    snapshots = [
        Snapshot(
            credential=number,
            at=at,
            status=draw(st.sampled_from(("error", "error", "active"))),
            token_expires_at=draw(st.sampled_from((at + 15 * MINUTE, None, expires, at + DAY - SECOND, at + DAY))),
            is_deleted=draw(NEARLY_ALWAYS) is False,
        )
        for at in sorted(set(draw(st.lists(stamps, max_size=3))))
    ]
    named = [expires, credential.updated_at, credential.last_connection_attempt, *(each.at for each in snapshots)]
    instants = [instant for instant in named if instant is not None] or [AS_OF]
    around = st.builds(lambda instant, nudge: instant + nudge, st.sampled_from(instants), NUDGES)
    rows = [
        a_run(
            first_run + position,
            credential=number,
            end=draw(st.one_of(around, before(AGE_EDGES))),
            status=draw(st.sampled_from(("completed", "completed", "failed", "cancelled"))),
        )
        for position in range(draw(st.integers(0, 3)))
    ]
    return credential, snapshots, rows


@st.composite
def quality_rows(draw: st.DrawFn, *, credentials: int = 2, most: int = 8, contradictions: bool = True) -> list[Row]:
    """Syncs around 10 and 11 records, and around 10, 20 and 50 percent of them failed, at the edges of the day."""
    rows = []
    for number in range(1, draw(st.integers(0, most)) + 1):
        processed = draw(st.sampled_from((0, 10, 11, 20, 100, 1_000, 1_001)))
        share = draw(st.sampled_from((0, 10, 20, 50, 100)))
        failed = min(max(processed * share // 100 + draw(st.sampled_from((-1, 0, 1))), 0), processed)
        if contradictions and draw(st.integers(0, 9)) == 0:
            failed = draw(st.sampled_from((processed + 1, -1)))
        end = draw(st.one_of(before((timedelta(0), DAY)), before((HOUR, 2 * HOUR, 3 * HOUR))))
        status = draw(st.sampled_from(("completed", "completed", "completed", "failed", "cancelled", "running")))
        rows.append(
            a_run(
                number,
                credential=draw(st.integers(1, credentials)),
                end=end,
                status=status,
                data_type=draw(st.sampled_from(DATA_TYPES[:2])),
                completed_at=None if status == "running" else end,
                records_processed=processed,
                records_successful=max(processed - failed, 0),
                records_failed=failed,
            )
        )
    return rows


@st.composite
def outage_worlds(draw: st.DrawFn, *, most: int = 8) -> World:
    """Credentials that ran within the hour, a quarter, a half or three of them with one class of error; and others."""
    ran = draw(st.sampled_from([size for size in (0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 8) if size <= most]))
    failing = draw(
        st.sampled_from([count for count in (0, 1, 2, 3, ran // 4, ran // 2, ran // 2, ran) if count <= ran])
    )
    common = draw(st.sampled_from([*TEXTS, *list(TEXTS)[:3]]))
    world = World()
    numbers = iter(range(1, 10_000))
    ends = before((timedelta(0), HOUR)) if draw(st.booleans()) else st.just(AS_OF - 30 * MINUTE)
    strangers = draw(st.sampled_from(((), (), (), (1,), (1, ran))))
    for credential in range(1, ran + 1):
        environment = draw(st.sampled_from(("integration", "unknown"))) if credential in strangers else "production"
        world.credentials.append(Credential(id=credential, environment=environment, company=credential))
        status = "failed" if credential <= failing else "completed"
        text = common if credential <= failing else None
        world.rows.append(
            a_run(next(numbers), credential=credential, end=draw(ends), status=status, error_message=text)
        )
    for _ in range(draw(st.sampled_from((0, 0, 1, 2, 3))) if ran else 0):
        status = draw(st.sampled_from(("failed", "failed", "completed", "cancelled", "running")))
        text = draw(st.sampled_from(list(TEXTS)))
        end = draw(ends)
        has_end = status != "running" and draw(st.booleans())
        world.rows.append(
            a_run(
                next(numbers),
                credential=draw(st.integers(1, ran)),
                end=end,
                status=status,
                completed_at=end if has_end else None,
                error_message=text if status == "failed" else None,
            )
        )
    return world


@st.composite
def silence_worlds(draw: st.DrawFn) -> World:
    """A day of hourly starts with some hours left out, each start at an edge of its hour or inside, then silence or not."""
    world = World(
        credentials=[
            Credential(id=1, environment="production"),
            Credential(id=2, environment=draw(st.sampled_from(("integration", "production")))),
        ]
    )
    idle = draw(st.sets(st.integers(0, 23), min_size=2, max_size=6))
    inside = st.sampled_from((timedelta(0), SECOND, 30 * MINUTE, HOUR - SECOND))
    starts = [AS_OF - 2 * HOUR - hour * HOUR - draw(inside) for hour in range(24) if hour not in idle]
    starts += draw(st.lists(before((timedelta(0), 2 * HOUR, 26 * HOUR, 27 * HOUR)), max_size=2))
    stranger = draw(st.integers(-3, len(starts)))
    for number, start in enumerate(starts, start=1):
        world.rows.append(
            a_run(
                number,
                credential=2 if number == stranger else 1,
                end=start + MINUTE,
                started_at=start,
                status=draw(st.sampled_from(("completed", "failed", "cancelled"))),
            )
        )
    return world


@st.composite
def whole_worlds(draw: st.DrawFn) -> World:
    """All of them in one: run ids are given anew, in the order of the starts, as a serial key would."""
    parts = draw(credential_worlds(most=3))
    outage = draw(outage_worlds(most=6))
    shift = len(parts.credentials)
    credentials = parts.credentials + [
        replace(each, id=each.id + shift, company=each.company + shift) for each in outage.credentials
    ]
    rows = parts.rows + [replace(row, credential=row.credential + shift) for row in outage.rows]
    rows += draw(quality_rows(credentials=min(2, shift), most=6))
    if draw(st.booleans()):
        # Silence needs that nothing else has started, either.
        quiet_from = AS_OF - draw(st.sampled_from((timedelta(0), 2 * HOUR)))
        rows = [row for row in rows if row.started_at <= quiet_from] + draw(silence_worlds()).rows
    rows = [row for row in rows if row.credential <= len(credentials)][:FEW_STARTS]
    rows.sort(key=lambda row: row.started_at)
    return World(
        credentials=credentials,
        rows=[replace(row, id=number) for number, row in enumerate(rows, start=1)],
        snapshots=parts.snapshots,
    )
