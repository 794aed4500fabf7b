"""
The simulated Slack workspace: its channels, its tokens and the messages in them. No HTTP here.

Messages are frozen records; an edit makes a new record that remembers what stood there before. Everything is guarded by
one lock, so that the server's threads, a test and the inbox page can look at the same time.

``ts`` values are the clock's seconds with six decimals, unique in the workspace and rising. Slack answers a reply to an
unknown thread, or to a reply, in more than one way; this workspace refuses it with ``thread_not_found``, so that a
mistake shows.

People do what they do in Slack by `Workspace.say`, `Workspace.delete` and `Workspace.archive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from include.simulation.slack_rules import MessageContent, SlackRefusal, read_content

BOT_TOKEN = "xoxb-simulated"  # noqa: S105  it opens nothing but this simulation
BOT_SCOPES = ("chat:write", "chat:write.public", "channels:read", "users:read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel: the bot may post when it is a member, or with the scope ``chat:write.public``."""

    id: str
    name: str
    is_member: bool = True
    is_archived: bool = False


DEFAULT_CHANNELS = (
    Channel(id="C0SERVICETITAN", name="servicetitan-alerts"),
    Channel(id="C0SERVICETITANCRIT", name="servicetitan-critical"),
    Channel(id="C0GENERAL", name="general"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackEdit:
    """What stood in a message until ``replaced_at`` (UTC)."""

    text: str
    blocks: tuple[Mapping[str, Any], ...]
    replaced_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """
    One message as the workspace holds it now.

    ``thread_ts`` is the parent's ``ts``, null for a message of its own. ``via`` says how it came. ``edits`` are the
    earlier versions, oldest first.
    """

    channel_id: str
    channel: str
    ts: str
    thread_ts: str | None
    text: str
    blocks: tuple[Mapping[str, Any], ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] | None = None
    username: str = "ServiceTitan Monitor"
    via: Literal["bot", "webhook", "person"] = "bot"
    reply_broadcast: bool = False
    edits: tuple[SlackEdit, ...] = ()

    @property
    def posted_at(self) -> datetime:
        """When it was posted, UTC."""
        return datetime.fromtimestamp(float(self.ts), tz=UTC)

    @property
    def shows_edited(self) -> bool:
        """Whether Slack shows "(edited)": it does not when the edit brought blocks."""
        return bool(self.edits) and not self.blocks


def _is_true(value: object) -> bool:
    return value in (True, "1", "true")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Workspace:
    """
    A workspace with its messages.

    Args:
        channels: the channels it has.
        tokens: scopes by bot token.
        channel_interval: the least time between two messages in a channel, else ``ratelimited``; None for no limit.
            Slack's is about one second.
        edit_window: how long after its posting a message may be edited, else ``edit_window_closed``; None: for ever.
        clock: the only source of "now"; must be UTC-aware.
        on_change: called, under the lock, with every new or edited message.
    """

    channels: tuple[Channel, ...] = DEFAULT_CHANNELS
    tokens: Mapping[str, Collection[str]] = field(default_factory=lambda: {BOT_TOKEN: BOT_SCOPES})
    channel_interval: timedelta | None = None
    edit_window: timedelta | None = None
    clock: Callable[[], datetime] = _utc_now
    on_change: Callable[[SlackMessage], None] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._messages: dict[tuple[str, str], SlackMessage] = {}
        self._revoked: set[str] = set()
        self._last_ts = 0  # microseconds
        self._last_post: dict[str, datetime] = {}
        self.revision = 0

    @property
    def messages(self) -> list[SlackMessage]:
        """Every message, in the order of posting; a copy."""
        with self._lock:
            return list(self._messages.values())

    def clear(self) -> None:
        """Forget every message; ``ts`` values go on rising."""
        with self._lock:
            self._messages.clear()
            self._last_post.clear()
            self.revision += 1

    def restore(self, messages: Iterable[SlackMessage]) -> None:
        """Take up messages kept from an earlier life; a later record of the same message replaces the earlier."""
        with self._lock:
            for message in messages:
                self._messages[message.channel_id, message.ts] = message
                self._last_ts = max(self._last_ts, int(message.ts.replace(".", "")))
            self.revision += 1

    def say(self, text: str, *, channel: str, thread_ts: str | None = None) -> SlackMessage:
        """Store what a person wrote in the channel with this name, and return it."""
        found = self.find_channel(channel, by_name=True)
        with self._lock:
            ts = self._next_ts(self.clock())
            return self._keep(
                SlackMessage(
                    channel_id=found.id,
                    channel=found.name,
                    ts=ts,
                    thread_ts=thread_ts,
                    text=text,
                    username="A person",
                    via="person",
                )
            )

    def delete(self, message: SlackMessage) -> None:
        """Take a message away, as a person may; the replies to it stay."""
        with self._lock:
            del self._messages[message.channel_id, message.ts]
            self.revision += 1

    def archive(self, channel: str) -> None:
        """Archive the channel with this name: what stands in it can be neither edited nor replied to."""
        found = self.find_channel(channel, by_name=True)
        self.channels = tuple(replace(each, is_archived=each is found or each.is_archived) for each in self.channels)

    def scopes_of(self, token: str | None, *, needs: Iterable[str] = ()) -> tuple[str, ...]:
        """
        Return the scopes of ``token``.

        Raises:
            SlackRefusal: ``not_authed``, ``invalid_auth``, ``token_revoked`` or ``missing_scope``.
        """
        if not token:
            raise SlackRefusal("not_authed")
        if token in self._revoked:
            raise SlackRefusal("token_revoked")
        if token not in self.tokens:
            raise SlackRefusal("invalid_auth")
        scopes = tuple(self.tokens[token])
        for scope in needs:
            if scope not in scopes:
                raise SlackRefusal("missing_scope", extra={"needed": scope, "provided": ",".join(scopes)})
        return scopes

    def revoke(self, token: str) -> None:
        """From now on ``token`` is answered with ``token_revoked``."""
        self._revoked.add(token)

    def find_channel(self, reference: object, *, by_name: bool) -> Channel:
        """
        Return the channel with this id or, where Slack takes names too, this name (with or without ``#``).

        Raises:
            SlackRefusal: ``invalid_arguments`` without a reference, else ``channel_not_found``.
        """
        if not reference or not isinstance(reference, str):
            raise SlackRefusal("invalid_arguments", messages=["missing required field: channel"])
        for channel in self.channels:
            if reference == channel.id or (by_name and reference.removeprefix("#") == channel.name):
                return channel
        raise SlackRefusal("channel_not_found")

    def post(
        self,
        arguments: Mapping[str, Any],
        *,
        channel: Channel,
        scopes: Collection[str],
        via: Literal["bot", "webhook"],
    ) -> SlackMessage:
        """
        Store a new message and return it.

        Raises:
            SlackRefusal: as ``read_content``, and ``is_archived``, ``not_in_channel``, ``ratelimited``,
                ``thread_not_found``.
        """
        if channel.is_archived:
            raise SlackRefusal("is_archived")
        if via == "bot" and not channel.is_member and "chat:write.public" not in scopes:
            raise SlackRefusal("not_in_channel")
        content = read_content(arguments)
        thread_ts = arguments.get("thread_ts") or None
        # Slack ignores a name of one's own without this scope; it does not refuse it.
        named = arguments.get("username") if "chat:write.customize" in scopes else None
        with self._lock:
            now = self.clock()
            parent = self._messages.get((channel.id, thread_ts or ""))
            if thread_ts is not None and (parent is None or parent.thread_ts is not None):
                raise SlackRefusal("thread_not_found")
            self._check_rate(channel, now=now)
            message = SlackMessage(
                channel_id=channel.id,
                channel=channel.name,
                ts=self._next_ts(now),
                thread_ts=thread_ts,
                text=content.text,
                blocks=content.blocks,
                attachments=content.attachments,
                metadata=content.metadata,
                via=via,
                reply_broadcast=thread_ts is not None and _is_true(arguments.get("reply_broadcast")),
            )
            self._last_post[channel.id] = now
            return self._keep(replace(message, username=named) if named else message)

    def update(self, arguments: Mapping[str, Any], *, channel: Channel) -> SlackMessage:
        """
        Replace the content of a message; ``text`` without blocks removes the blocks, as in Slack.

        Raises:
            SlackRefusal: as ``read_content``, and ``is_inactive``, ``message_not_found``, ``edit_window_closed``;
                ``cant_update_message`` for one that a webhook or a person posted; ``cant_broadcast_message`` and
                ``no_dual_broadcast_content_update`` where it asks for a broadcast.
        """
        content: MessageContent = read_content(arguments)
        if channel.is_archived:
            raise SlackRefusal("is_inactive")
        with self._lock:
            now = self.clock()
            found = self._messages.get((channel.id, str(arguments.get("ts") or "")))
            if found is None:
                raise SlackRefusal("message_not_found")
            if found.via != "bot":
                raise SlackRefusal("cant_update_message")
            if self.edit_window is not None and now - found.posted_at > self.edit_window:
                raise SlackRefusal("edit_window_closed")
            if _is_true(arguments.get("reply_broadcast")):
                # Slack broadcasts an old reply, but only as it stands; content is never absent here.
                raise SlackRefusal("no_dual_broadcast_content_update" if found.thread_ts else "cant_broadcast_message")
            earlier = SlackEdit(text=found.text, blocks=found.blocks, replaced_at=now)
            return self._keep(
                replace(
                    found,
                    text=content.text,
                    blocks=content.blocks,
                    attachments=content.attachments,
                    metadata=content.metadata or found.metadata,
                    edits=(*found.edits, earlier),
                )
            )

    def _check_rate(self, channel: Channel, *, now: datetime) -> None:
        last = self._last_post.get(channel.id)
        if self.channel_interval is None or last is None:
            return
        wait = self.channel_interval - (now - last)
        if wait > timedelta(0):
            raise SlackRefusal("ratelimited", retry_after=max(1, -(-wait // timedelta(seconds=1))))

    def _next_ts(self, now: datetime) -> str:
        micros = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        self._last_ts = max(self._last_ts + 1, micros)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def _keep(self, message: SlackMessage) -> SlackMessage:
        self._messages[message.channel_id, message.ts] = message
        self.revision += 1
        if self.on_change is not None:
            self.on_change(message)
        return message
