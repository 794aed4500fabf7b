"""Sending a message by mail: HTML with a text part, through the connection of an Airflow `SmtpHook`."""

from __future__ import annotations

import hashlib
import smtplib
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.errors import HeaderDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import TYPE_CHECKING, Any

from include.orchestration.conversation import ALONE, CANNOT_EDIT, Conversation
from include.sync_health.errors import DeliveryError
from include.sync_health.mail import MailContent, mail_content
from include.sync_health.messages import Message

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

MAX_LINE_LENGTH = 998
"""Characters of a line, at most: https://www.rfc-editor.org/rfc/rfc5322#section-2.1.1"""


def send_by_mail(
    open_hook: Callable[[], SmtpHook], *, to: str, clock: Callable[[], Any]
) -> Callable[..., Mapping[str, Any]]:
    """
    Return a sender that mails ``to`` and gives ``{"message_id": ...}`` as receipt.

    A mail that began a conversation has ``"parent": True`` in its receipt; later ones refer to it. None can be edited.
    Each message has a connection of its own, so that one that breaks off spoils no other.

    Args:
        open_hook: returns an `SmtpHook` not yet connected; its connection's ``from_email`` is the sender.
        to: one address.
        clock: returns the wall clock, aware, for the Date header.
    """

    def send(message: Message, *, delivery_key: str, into: Conversation = ALONE) -> Mapping[str, Any]:
        if into.edits:
            raise DeliveryError("a mail cannot be edited", code=CANNOT_EDIT, permanent=True, channel_wide=False)
        content = mail_content(message)
        parent = (into.parent or {}).get("message_id")
        with _Connected(open_hook) as hook:
            sender = hook.from_email
            if not sender:
                raise DeliveryError(
                    "the connection alert_email has no from_email in its extra", code="no_sender", permanent=True
                )
            try:
                mail = mime_of(
                    content, sender=sender, to=to, delivery_key=delivery_key, date=clock(), in_reply_to=parent
                )
            except (ValueError, UnicodeError, HeaderDefect, IndexError):
                raise DeliveryError(
                    "from_email of the connection alert_email, or the recipient, is no mail address",
                    code="invalid_address",
                    permanent=True,
                ) from None
            client: smtplib.SMTP = hook._smtp_client  # noqa: SLF001 - the hook has no other way to a MIME of one's own
            try:
                client.send_message(mail)
            except smtplib.SMTPRecipientsRefused as error:
                code, text = next(iter(error.recipients.values()))
                raise _refused(code, text, code_if_permanent="invalid_recipient") from None
            except smtplib.SMTPSenderRefused as error:
                raise _refused(error.smtp_code, error.smtp_error, code_if_permanent="invalid_sender") from None
            except smtplib.SMTPDataError as error:
                # The content is refused: the next mail may well pass.
                raise _refused(
                    error.smtp_code, error.smtp_error, code_if_permanent="refused", channel_wide=False
                ) from None
            except (smtplib.SMTPNotSupportedError, smtplib.SMTPHeloError) as error:
                raise DeliveryError(
                    f"the mail server cannot take this mail ({type(error).__name__})",
                    code="unsupported",
                    permanent=True,
                ) from None
            except (smtplib.SMTPException, OSError) as error:
                # It may have broken off after the final dot: then the mail is on its way.
                raise DeliveryError(
                    f"the mail server broke off ({type(error).__name__})",
                    code="no_answer",
                    permanent=False,
                    ambiguous=True,
                ) from None
        receipt = {"message_id": mail["Message-ID"]}
        return {**receipt, "parent": True} if into.begins or (into.parent and not parent) else receipt

    return send


def mime_of(
    content: MailContent, *, sender: str, to: str, delivery_key: str, date: Any, in_reply_to: str | None = None
) -> EmailMessage:
    """
    Return the mail as MIME: multipart/alternative, text first.

    Its Message-ID follows from its delivery: a repeat has the same, so that a mailbox that knows it already may leave
    the repeat out, and later mails refer to whichever arrived.

    Args:
        content: subject, text and HTML.
        sender: the From address, with or without a name.
        to: the recipient.
        delivery_key: carried in a header of its own, so that a mailbox can tell a repeat.
        date: aware.
        in_reply_to: the Message-ID of the conversation's first mail; None: this one is part of none, or begins it.
    """
    mail = EmailMessage()
    mail["Subject"] = content.subject
    name, address = parseaddr(sender)
    mail["From"] = Address(display_name=name or "ServiceTitan monitor", addr_spec=address)
    mail["To"] = to
    mail["Date"] = format_datetime(date)
    mail["Message-ID"] = message_id(delivery_key, domain=address.rpartition("@")[2] or "localhost")
    if in_reply_to is not None:
        mail["In-Reply-To"] = mail["References"] = in_reply_to  # https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: out-of-office replies stay away
    mail["X-ServiceTitan-Delivery"] = delivery_key
    mail.set_content(content.text)
    mail.add_alternative(content.html, subtype="html")
    if content.subject.isascii():
        # A subject that just fits a line of its own is folded before its first word, and read back with a blank in front.
        # One with encoded words keeps the usual limit: RFC 2047 allows them no more than 75 characters.
        mail.policy = mail.policy.clone(max_line_length=MAX_LINE_LENGTH)
    return mail


def message_id(delivery_key: str, *, domain: str) -> str:
    """Return the Message-ID of the mail of a delivery."""
    return f"<{hashlib.sha256(delivery_key.encode()).hexdigest()[:40]}@{domain}>"


class _Connected:
    """Connects the hook, and turns what goes wrong there into `DeliveryError`; nothing was sent by then."""

    def __init__(self, open_hook: Callable[[], SmtpHook]) -> None:
        self._open_hook = open_hook

    def __enter__(self) -> SmtpHook:
        hook = self._open_hook()
        try:
            self._hook = hook.get_conn()
        except Exception as error:  # noqa: BLE001 - the hook raises AirflowException for most, with its own words
            client = hook._smtp_client  # noqa: SLF001 - see above
            if client is not None:
                client.close()
            raise _unconnected(error) from None
        return self._hook

    def __exit__(self, *failure: object) -> None:
        client = self._hook._smtp_client  # noqa: SLF001 - see above
        if client is None:
            return
        with suppress(smtplib.SMTPException, OSError):  # an accepted mail is not taken back by a rude goodbye
            client.close() if failure[0] else client.quit()


def _unconnected(error: Exception) -> DeliveryError:
    """Return why the mail server cannot be used; of what the hook raises only the type is told."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        # A server that is busy says 454: https://www.rfc-editor.org/rfc/rfc4954#section-6
        return DeliveryError(
            "the mail server refused the login",
            code=f"smtp_{error.smtp_code}",
            permanent=not 400 <= error.smtp_code < 500,
        )
    if isinstance(error, smtplib.SMTPConnectError):
        return _refused(error.smtp_code, error.smtp_error, code_if_permanent="refused")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return DeliveryError(
            "the mail server has no STARTTLS or no login; see disable_tls in the extra of alert_email",
            code="unsupported",
            permanent=True,
        )
    return DeliveryError(
        f"the mail server cannot be reached ({type(error).__name__})", code="unreachable", permanent=False
    )


def _refused(code: int, text: bytes | str, *, code_if_permanent: str, channel_wide: bool = True) -> DeliveryError:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    permanent = 500 <= code < 600
    return DeliveryError(
        f"the mail server answered {code} {words[:200]}",
        code=code_if_permanent if permanent else f"smtp_{code}",
        permanent=permanent,
        channel_wide=channel_wide,
    )
