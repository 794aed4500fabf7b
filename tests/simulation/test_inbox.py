"""The inbox page in a real browser."""

from __future__ import annotations

import re
import shutil
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_httpserver import HTTPServer
from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

from include.simulation.inbox import Inbox
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer

CHANNEL = "C0SERVICETITAN"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = (
    "<script>document.title='pwned'</script> <img src=x onerror=\"document.title='pwned'\"> "
    "</pre><svg onload=alert(1)> <javascript:alert(1)|click me> {{ 7*7 }} \u202edlrow\u202c \u2066x"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("chromium is not on PATH; the project's setup installs Debian's package of that name")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as running:
        yield running


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
def inbox(slack: SlackServer, mail: MailServer) -> Iterator[Inbox]:
    with Inbox(slack, mail) as running:
        yield running


@pytest.fixture
def page(browser: Browser, inbox: Inbox) -> Iterator[Page]:
    """The open page, in a fixed time zone; a script that fails, fails the test."""
    context = browser.new_context(timezone_id="America/New_York", locale="en-US")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    page.goto(inbox.url)
    yield page
    context.close()
    assert errors == []


def web(slack: SlackServer) -> WebClient:
    return WebClient(token=slack.token, base_url=slack.base_url)


def post(slack: SlackServer, text: str, **more: Any) -> str:
    return str(web(slack).chat_postMessage(channel=more.pop("channel", CHANNEL), text=text, **more)["ts"])


def send(mail: MailServer, *, subject: str = "Hello", text: str = "plain words", html: str | None = None) -> None:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "Monitor <monitor@example.com>"
    message["To"] = "ops@example.com"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
        connection.send_message(message)


def test_the_empty_page_says_what_will_appear_and_when(page: Page) -> None:
    expect(page.get_by_text("the failure check runs every 15 minutes")).to_be_visible()
    page.get_by_role("link", name="All mail").click()
    expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()


def test_what_arrives_appears_without_a_reload(page: Page, slack: SlackServer, mail: MailServer) -> None:
    expect(page.get_by_text("Nothing in # servicetitan-alerts yet")).to_be_visible()
    page.evaluate("window.never_reloaded = true")

    post(slack, "It *failed* again")
    post(slack, "elsewhere", channel="C0GENERAL")
    send(mail, subject="A mail about it")

    expect(page.get_by_role("article")).to_contain_text("It failed again")
    expect(page.locator("strong")).to_have_text("failed")
    expect(page.get_by_role("link", name="# general")).to_contain_text("+1")
    page.get_by_role("link", name="All mail").click()
    expect(page.get_by_role("link", name="A mail about it")).to_be_visible()
    assert page.evaluate("window.never_reloaded")


def test_an_edit_and_a_reply_change_the_message_in_place(page: Page, slack: SlackServer) -> None:
    ts = post(slack, "open")
    expect(page.get_by_role("article")).to_contain_text("open")

    web(slack).chat_update(channel=CHANNEL, ts=ts, text="closed")
    post(slack, "it is over", thread_ts=ts)

    expect(page.get_by_role("article").first).to_contain_text("closed")
    expect(page.get_by_text("(edited)")).to_be_visible()
    expect(page.get_by_text("1 reply")).to_be_visible()
    expect(page.locator(".replies article")).to_contain_text("it is over")
    expect(page.get_by_text("open", exact=True)).to_have_count(0)


def test_someone_who_reads_is_not_moved_by_what_arrives(page: Page, slack: SlackServer) -> None:
    for number in range(40):
        post(slack, f"message {number}")
    expect(page.get_by_text("message 39")).to_be_in_viewport()
    page.locator(".scroller").evaluate("node => { node.scrollTop = 120 }")

    post(slack, "the newest")

    expect(page.get_by_role("button", name="New messages below")).to_be_visible()
    assert page.locator(".scroller").evaluate("node => node.scrollTop") == 120
    page.get_by_role("button", name="New messages below").click()
    expect(page.get_by_text("the newest")).to_be_in_viewport()


def test_block_kit_is_shown_as_slack_shows_it(page: Page, slack: SlackServer) -> None:
    moment = datetime(2024, 2, 29, 17, 5, tzinfo=UTC)
    post(
        slack,
        "the notification",
        blocks=[
            {"type": "header", "text": {"type": "plain_text", "text": ":red_circle: Sync *Failures*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "_slanted_ `code` ~gone~ a &amp; b &lt;c&gt;"}},
            {
                "type": "section",
                "fields": [{"type": "mrkdwn", "text": f"*Field {number}*\nvalue"} for number in (1, 2)],
            },
            {"type": "section", "text": {"type": "mrkdwn", "text": "```two\nlines <not a link>```\n&gt; quoted"}},
            {"type": "divider"},
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Runbook"},
                        "url": "https://example.com/?a=1&b=2",
                    }
                ],
            },
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "text": f"since <!date^{int(moment.timestamp())}^{{date_short_pretty}} at {{time}}|utc> "
                        "<https://example.com/h|history> <!here>",
                    }
                ],
            },
        ],
    )
    article = page.get_by_role("article")

    expect(article.get_by_role("heading", name="Sync *Failures*")).to_be_visible()
    expect(article.get_by_role("img", name="red circle")).to_be_visible()
    expect(article.locator("em")).to_have_text("slanted")
    expect(article.locator("s")).to_have_text("gone")
    expect(article.locator(".section").first).to_contain_text("a & b <c>")
    expect(article.locator(".fields strong")).to_have_text(["Field 1", "Field 2"])
    expect(article.locator("pre")).to_have_text("two\nlines <not a link>")
    expect(article.locator("blockquote")).to_have_text("quoted")
    expect(article.get_by_role("link", name="Runbook")).to_have_attribute("href", "https://example.com/?a=1&b=2")
    expect(article.get_by_role("link", name="history")).to_have_attribute("rel", "noopener noreferrer")
    expect(article.locator(".context time")).to_have_text(re.compile(r"^Feb 29, 2024 at 12:05\sPM$"))
    expect(article.locator(".mention")).to_have_text("@here")
    expect(article.get_by_text("the notification")).to_be_hidden()
    page.get_by_label("Show notification texts").check()
    expect(article.get_by_text("the notification")).to_be_visible()


def test_hostile_texts_stay_texts(page: Page, slack: SlackServer, mail: MailServer) -> None:
    """Whatever a message says, nothing in it becomes an element, a handler or a script."""
    post(slack, HOSTILE)
    post(
        slack,
        HOSTILE,
        blocks=[
            {"type": "header", "text": {"type": "plain_text", "text": HOSTILE[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": f"```{HOSTILE}``` *{HOSTILE}* > {HOSTILE}"}},
            {
                "type": "actions",
                "elements": [
                    {"type": "button", "text": {"type": "plain_text", "text": "x"}, "url": "javascript://x/%0Aalert(1)"}
                ],
            },
        ],
        attachments=[{"color": "red; background: url(https://example.com)", "text": HOSTILE}],
    )
    WebhookClient(slack.webhook_url).send(text=HOSTILE)
    send(mail, subject=HOSTILE.splitlines()[0], text=HOSTILE)

    expect(page.get_by_role("article")).to_have_count(3)
    expect(page.get_by_role("article").first).to_contain_text("<script>document.title='pwned'</script>")
    assert page.locator("main script, main img, main iframe, main [onerror], main [onload]").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    page.get_by_role("link", name="All mail").click()
    expect(page.get_by_role("heading", name="<script>document.title='pwned'</script>")).to_be_visible()
    assert page.locator("main script, main img, main [onerror], main [onload]").count() == 0
    assert "pwned" not in page.title()


def test_text_that_runs_backwards_stays_in_its_own_place(page: Page, slack: SlackServer) -> None:
    """A right-to-left override must not reorder the sender's name or the time beside it."""
    post(slack, "\u202edlrow")
    body = page.get_by_role("article").locator(".text")
    expect(body).to_have_text("\u202edlrow")

    assert body.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"


def test_a_mail_is_shown_with_its_parts_and_headers(page: Page, mail: MailServer) -> None:
    html = "<h1 style='color: rgb(1, 2, 3)'>Rich</h1><a href='https://example.com/'>out</a>" + "<p>line</p>" * 60
    send(mail, subject="With both parts", text="plain words", html=html)
    page.get_by_role("link", name="All mail").click()
    page.get_by_role("link", name="With both parts").click()

    inside = page.frame_locator("iframe")
    expect(inside.get_by_role("heading", name="Rich")).to_have_css("color", "rgb(1, 2, 3)")
    expect(inside.get_by_role("link", name="out")).to_have_attribute("target", "_blank")
    # As tall as what it holds, so that the mail is read in one scroll.
    page.wait_for_function("document.querySelector('iframe').clientHeight > 1500")
    page.get_by_role("button", name="Text").click()
    expect(page.locator("pre.plain")).to_have_text("plain words\n")
    expect(page.get_by_role("button", name="Text")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("Headers (").click()
    expect(page.locator(".headers dd").first).to_be_visible()
    expect(page.locator(".headers")).to_contain_text("Monitor <monitor@example.com>")


def test_a_hostile_mail_runs_nothing_and_asks_for_nothing(page: Page, mail: MailServer, httpserver: HTTPServer) -> None:
    """No pixel that tells the sender of the reader: the other server is real, and hears nothing."""
    other = httpserver.url_for("")
    send(
        mail,
        subject="Hostile",
        html="<p id=here>here</p><script>parent.document.title='pwned'</script>"
        f"<img src='{other}/pixel.png' onerror=\"parent.document.title='pwned'\">"
        f"<link rel=stylesheet href='{other}/a.css'><style>body {{ background: url({other}/b.png) }}</style>"
        f"<meta http-equiv=refresh content='0;url={other}/gone'><iframe src='{other}'></iframe>",
    )
    page.get_by_role("link", name="All mail").click()
    page.get_by_role("link", name="Hostile").click()
    expect(page.frame_locator("iframe.html").locator("#here")).to_be_visible()
    # One more poll: time enough for anything the mail might have set off.
    with page.expect_response(re.compile(r"messages\.json")):
        pass

    expect(page.frame_locator("iframe.html").locator("#here")).to_be_visible()
    assert "pwned" not in page.title()
    assert httpserver.log == []


def test_a_newer_mail_does_not_take_the_place_of_the_one_being_read(page: Page, mail: MailServer) -> None:
    send(mail, subject="First")
    page.get_by_role("link", name="All mail").click()
    expect(page.get_by_role("heading", name="First")).to_be_visible()

    send(mail, subject="Second")

    expect(page.get_by_role("link", name="Second")).to_be_visible()
    expect(page.get_by_role("heading", name="First")).to_be_visible()


def test_the_page_says_so_when_the_server_is_gone_and_recovers(page: Page, inbox: Inbox, slack: SlackServer) -> None:
    expect(page.get_by_role("status")).to_have_text("Live")
    inbox.stop()
    expect(page.get_by_role("status")).to_contain_text("does not answer")
    inbox.start()
    expect(page.get_by_role("status")).to_have_text("Live")


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, inbox: Inbox, slack: SlackServer, mail: MailServer, width: int, scheme: Any
) -> None:
    post(slack, "x" * 300, blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": f"`{'y' * 300}`"}}])
    send(mail, subject="z" * 300, html=f"<p>{'w' * 300}</p>")
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    for place, ready in (("", "article"), ("#/mail/1", "iframe")):
        page.goto(inbox.url + place)
        page.wait_for_selector(ready)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelector('.scroller, .mail-pane').scrollWidth") <= width
    page.close()


def test_the_page_can_be_used_with_the_keyboard_alone(page: Page, slack: SlackServer) -> None:
    post(slack, "hello")
    expect(page.get_by_role("article")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the messages")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Show notification texts")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".scroller")).to_be_focused()


def test_landmarks_and_headings_tell_the_page_to_a_screen_reader(page: Page, slack: SlackServer) -> None:
    post(slack, "hello")
    expect(page.get_by_role("banner")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("navigation", name="Channels and mail")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_text("Local inbox")
    expect(page.get_by_role("heading", level=2)).to_have_text(["Slack", "Mail", "# servicetitan-alerts"])
    expect(page.get_by_role("log").get_by_role("article", name=re.compile("ServiceTitan Monitor"))).to_have_count(1)
