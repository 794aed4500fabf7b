"""
A Slack client that follows no redirect.

slack_sdk leaves redirects to `urllib`, which asks the new address with all headers of the first request: a wrong
``base_url``, or a proxy's login page, would be handed the bot token.
"""

from __future__ import annotations

from typing import Any
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackRequestError


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no request: the answer is then an error like any other."""


class DirectClient(WebClient):
    """A ``WebClient`` to which a redirect is a refusal."""

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        if not url.lower().startswith(("http://", "https://")):
            raise SlackRequestError("base_url is no http address")
        # Without a proxy of ours urllib goes by the environment, as it does for slack_sdk.
        proxies = [ProxyHandler({"http": self.proxy, "https": self.proxy})] if self.proxy else []
        opener = build_opener(_NoRedirects, HTTPSHandler(context=self.ssl), *proxies)
        with opener.open(req, timeout=self.timeout) as answer:
            charset = answer.headers.get_content_charset() or "utf-8"
            return {"status": answer.status, "headers": answer.headers, "body": answer.read().decode(charset)}


def direct(client: WebClient) -> DirectClient:
    """Return a client like this one, without its retry handlers, that follows no redirect."""
    return DirectClient(
        token=client.token,
        base_url=client.base_url,
        timeout=client.timeout,
        ssl=client.ssl,
        proxy=client.proxy,
        headers=client.headers,
        logger=client.logger,
        retry_handlers=[],
    )
