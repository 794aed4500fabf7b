"""
Whether Slack and the mail server would take our messages, found out without sending one.

Slack: ``auth.test`` (the token's scopes stand in its ``x-oauth-scopes`` header), then each channel where the scopes
allow a look. Mail: connect, TLS as the connection's extras say and Airflow's SMTP provider reads them, EHLO, login,
NOOP.
"""

from __future__ import annotations

import http.client
import ipaddress
import smtplib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from include.orchestration.connections import ConnectionValues
from include.orchestration.findings import Finding, failed, passed, warned, without

if TYPE_CHECKING:
    from slack_sdk import WebClient

TIMEOUT_SECONDS = 10
PAGE, MAX_PAGES = 1000, 20  # Slack lists at most 1000 channels a page; https://api.slack.com/methods/conversations.list
POST, POST_ANYWHERE = "chat:write", "chat:write.public"
SEE_PUBLIC, SEE_PRIVATE = "channels:read", "groups:read"
_EXAMPLE_DOMAINS = ("@example.com", "@example.org", "@example.net")  # RFC 2606
_SCOPE_FIX = "add the scope under OAuth & Permissions of the Slack app, and reinstall it"


def slack_findings(
    connection: ConnectionValues, channels: Sequence[str], *, timeout: int = TIMEOUT_SECONDS
) -> Iterator[Finding]:
    """
    Yield what a bot token can do for the channels (``#name`` or id) that are told.

    Never raises for what Slack answers, or for no answer within ``timeout`` seconds for each call.
    """
    from slack_sdk.errors import SlackApiError, SlackClientError

    from include.orchestration.slack_client import DirectClient
    from include.orchestration.slack_sender import quiet_logger

    name = "slack.token"
    if connection.conn_type != "slack" or not connection.password:
        yield failed(
            name,
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r}"
            + ("" if connection.password else " and has no token in its password field"),
            fix="use conn_type slack with the bot token (xoxb-...) as password",
        )
        return
    options: dict[str, Any] = {
        key: str(connection.extra[key]) for key in ("base_url", "proxy") if connection.extra.get(key)
    }
    # slack_sdk would try a dropped call again by itself: a probe need not.
    client = DirectClient(
        token=connection.password, timeout=timeout, retry_handlers=[], logger=quiet_logger(), **options
    )
    try:
        answer = client.auth_test()
    except SlackApiError as error:
        status = int(error.response.status_code)
        if 300 <= status < 400:
            yield failed(
                name,
                f"Slack cannot be reached: its address leads elsewhere (HTTP {status}), and the token is not sent there",
                fix="correct base_url in the connection's extra, or the proxy",
            )
            return
        code = without(error.response.get("error", "an unreadable answer"), connection.secrets)
        yield failed(name, f"Slack refuses the token: {code}", fix="install the app again and store its new bot token")
        return
    except (SlackClientError, OSError, http.client.HTTPException, ValueError) as error:
        yield failed(
            name,
            f"Slack cannot be reached ({type(error).__name__})",
            fix="check the network, the proxy and base_url in the connection's extra",
        )
        return
    user = str(answer.get("user") or "the bot")
    yield passed(name, f"accepted as {user} in {answer.get('team', 'an unnamed workspace')}")

    scopes = _scopes(answer.headers)
    if scopes is None:
        yield warned("slack.scopes", "Slack did not tell the token's scopes", fix=f"make sure that it has {POST}")
        scopes = frozenset()
    elif POST not in scopes:
        yield failed("slack.scopes", f"the token lacks {POST}; it has {', '.join(sorted(scopes))}", fix=_SCOPE_FIX)
    else:
        yield passed("slack.scopes", ", ".join(sorted(scopes)))
    try:
        yield from _channel_findings(client, channels, scopes=scopes, user=user)
    except (SlackClientError, OSError, http.client.HTTPException, ValueError) as error:
        yield warned(
            "slack.channels",
            f"the channels could not be looked up ({type(error).__name__})",
            fix="try again; test-alert tells for certain",
        )


def _channel_findings(
    client: WebClient, channels: Sequence[str], *, scopes: frozenset[str], user: str
) -> Iterator[Finding]:
    if not scopes & {SEE_PUBLIC, SEE_PRIVATE}:
        for channel in channels:
            yield warned(
                f"slack.channel.{channel}",
                f"without {SEE_PUBLIC} it cannot be told whether {user} may post there",
                fix=f"add the scope {SEE_PUBLIC}, or run test-alert",
            )
        return
    named = any(channel.startswith("#") for channel in channels)
    by_name = _listed(client, scopes) if named else {}
    for channel in channels:
        name = f"slack.channel.{channel}"
        found = by_name.get(channel[1:]) if channel.startswith("#") else _looked_up(client, channel)
        if found is None:
            hidden = SEE_PRIVATE not in scopes
            detail = f"not among the channels that {user} can see"
            fix = f"create it, correct its name, or, if it is private, /invite @{user}"
            # A private channel stays out of sight without groups:read, although posting to it may work.
            if hidden:
                yield warned(name, detail, fix=f"{fix}; test-alert tells for certain")
            else:
                yield failed(name, detail, fix=fix)
        elif found.get("is_archived"):
            yield failed(name, "is archived", fix="unarchive it or name another one")
        elif found.get("is_member"):
            yield passed(name, f"{user} is a member")
        elif POST_ANYWHERE in scopes and not found.get("is_private"):
            yield passed(name, f"{user} is no member, and may post by {POST_ANYWHERE}")
        else:
            yield failed(name, f"{user} is no member", fix=f"/invite @{user} there, or add the scope {POST_ANYWHERE}")


def _listed(client: WebClient, scopes: frozenset[str]) -> Mapping[str, Mapping[str, Any]]:
    visible = {SEE_PUBLIC: "public_channel", SEE_PRIVATE: "private_channel"}
    types = ",".join(kind for scope, kind in visible.items() if scope in scopes)
    found: dict[str, Mapping[str, Any]] = {}
    cursor = ""
    for _ in range(MAX_PAGES):
        page = client.conversations_list(types=types, limit=PAGE, cursor=cursor or None)
        channels: list[Mapping[str, Any]] = page.get("channels") or []
        found |= {str(channel["name"]): channel for channel in channels}
        cursor = (page.get("response_metadata") or {}).get("next_cursor", "")
        if not cursor:
            break
    return found


def _looked_up(client: WebClient, channel: str) -> Mapping[str, Any] | None:
    from slack_sdk.errors import SlackApiError

    try:
        found: Mapping[str, Any] = client.conversations_info(channel=channel)["channel"]
    except SlackApiError as error:
        if error.response.get("error") in ("channel_not_found", "missing_scope"):
            return None
        raise
    return found


def _scopes(headers: Mapping[str, Any]) -> frozenset[str] | None:
    told = next((value for key, value in headers.items() if key.lower() == "x-oauth-scopes"), None)
    if told is None:
        return None
    text = ",".join(told) if isinstance(told, list) else str(told)
    return frozenset(scope.strip() for scope in text.split(",") if scope.strip())


def mail_findings(
    connection: ConnectionValues, addresses: Sequence[str], *, timeout: int = TIMEOUT_SECONDS
) -> Iterator[Finding]:
    """
    Yield whether the mail server takes our login, and what else stands in the way of mail to the addresses.

    Never raises for what the server answers, or for no answer within ``timeout`` seconds for each step.
    """
    if connection.conn_type != "smtp" or not connection.host:
        yield failed(
            "mail.server",
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r}"
            + ("" if connection.host else " and names no host"),
            fix="use conn_type smtp with host and port",
        )
        return
    if not connection.extra.get("from_email"):
        yield failed("mail.sender", "no sender is configured", fix='give "from_email" in the connection\'s extra')
    for key in ("disable_ssl", "disable_tls"):
        if str(connection.extra.get(key, "")).strip().lower() in ("false", "no", "off", "0") and connection.extra[key]:
            yield warned(
                f"mail.{key}",
                f"{key} is the text {str(connection.extra[key])!r}, which Airflow reads as true",
                fix="write the connection as JSON, with true or false without quotes, or leave the key out",
            )
    yield _server_finding(connection, timeout=timeout)
    examples = [address for address in addresses if address.lower().endswith(_EXAMPLE_DOMAINS)]
    if examples:
        yield warned("mail.recipients", f"{', '.join(examples)} is only an example", fix="name your own")


def _server_finding(connection: ConnectionValues, *, timeout: int) -> Finding:
    name, secrets = "mail.server", connection.secrets
    where = f"{connection.host}:{connection.port or 'default port'}"
    by_tls, starts_tls = _tls_of(connection)
    if by_tls and starts_tls:
        return failed(
            name,
            f"{where}: TLS from the first byte and STARTTLS are both on, as they are when extra says nothing",
            fix="set disable_tls to true (port 465), or disable_ssl to true (port 587), in the connection's extra",
        )
    try:
        reached = _login(connection, by_tls=by_tls, starts_tls=starts_tls, timeout=timeout)
    except smtplib.SMTPAuthenticationError as error:
        said = without(_decoded(error.smtp_error), secrets)
        return failed(name, f"{where} refuses the login: {error.smtp_code} {said}", fix="check login and password")
    except smtplib.SMTPNotSupportedError as error:
        return failed(
            name,
            f"{where}: {without(error, secrets)}",
            fix="for no TLS set disable_tls to true in extra; for no login leave the password out",
        )
    except ssl.SSLCertVerificationError as error:
        return failed(
            name,
            f"{where}: its certificate is not trusted ({without(error.verify_message, secrets)})",
            fix="use the host name that the certificate is for, and install its authority's certificate",
        )
    except ssl.SSLError as error:
        return failed(
            name,
            f"{where}: TLS fails ({without(error.reason or 'no reason given', secrets)})",
            fix="for STARTTLS (port 587) set disable_ssl to true in extra; for TLS from the first byte use port 465",
        )
    except smtplib.SMTPResponseException as error:
        said = without(_decoded(error.smtp_error), secrets)
        return failed(name, f"{where} answers {error.smtp_code} {said}", fix="ask its owner")
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return failed(
            name, f"{where} cannot be reached ({type(error).__name__})", fix="check host, port and the network between"
        )
    if connection.password and not (by_tls or starts_tls) and not _is_loopback(str(connection.host)):
        return warned(name, f"{reached}, but the password travels unencrypted", fix="switch TLS on in extra")
    return passed(name, reached)


def _login(connection: ConnectionValues, *, by_tls: bool, starts_tls: bool, timeout: int) -> str:
    """Go as far as Airflow's provider goes before it sends; return how far that was."""
    # "none" means what the provider takes it for: no verification. It is the operator's decision.
    context = None if connection.extra.get("ssl_context") == "none" else ssl.create_default_context()
    host, port = str(connection.host), connection.port or 0
    client = (
        smtplib.SMTP_SSL(host, port, timeout=timeout, context=context)
        if by_tls
        else smtplib.SMTP(host, port, timeout=timeout)
    )
    with client:
        if starts_tls:
            client.starttls(context=context)
        client.ehlo_or_helo_if_needed()
        by = "TLS" if by_tls else "STARTTLS" if starts_tls else "no TLS"
        how = f"{host}:{connection.port or 'default port'} answers ({by}"
        if connection.extra.get("auth_type") == "oauth2":
            how += ", OAuth2 login not tried"
        elif connection.login and connection.password:
            client.login(connection.login, connection.password)
            how += f", logged in as {connection.login}"
        code, text = client.noop()
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
    return how + ")"


def _tls_of(connection: ConnectionValues) -> tuple[bool, bool]:
    """Return (TLS from the first byte, STARTTLS), read as the provider's ``use_ssl`` and ``smtp_starttls`` do."""
    return not bool(connection.extra.get("disable_ssl", False)), not bool(connection.extra.get("disable_tls", False))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
