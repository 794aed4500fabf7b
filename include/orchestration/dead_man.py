"""
The dead man's switch: an address outside that is pinged after each completed check, and raises the alarm when it is not.

It is the one thing that can tell that Airflow itself is down. The address is a secret of its own (who knows it can keep
the alarm quiet), so it lives in an Airflow connection and is neither logged nor told.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from include.orchestration.connections import ConnectionValues, find_connection
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.errors import MonitorError

TIMEOUT_SECONDS = 10.0

log = DecisionLog("servicetitan.dead_man")


def ping_dead_man(conn_id: str | None, *, check: str) -> bool:
    """
    Ping the address of a connection, once; whatever goes wrong is logged, and fails nothing.

    Args:
        conn_id: of type http; its host may be a whole address. None: there is no switch.
        check: the check that completed, for the log.

    Returns:
        Whether the ping was taken.
    """
    if conn_id is None:
        return False
    import httpx

    try:
        timeout = httpx.Timeout(TIMEOUT_SECONDS).as_dict()
        request = httpx.Request("GET", address_of(find_connection(conn_id)), extensions={"timeout": timeout})
        # By the transport: a client logs every address. Nor does it follow redirects, which would take the secret along.
        with httpx.HTTPTransport(proxy=_proxy_to(request.url.scheme, request.url.host)) as transport:
            answer = transport.handle_request(request)
            answer.close()
    except MonitorError as error:
        log.error("ping_failed", "%(connection)s was not pinged: %(error)s", connection=conn_id, error=str(error))
        return False
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # Its text may have the address.
        log.error(
            "ping_failed", "%(connection)s was not pinged: %(error)s", connection=conn_id, error=type(error).__name__
        )
        return False
    if not answer.is_success:
        log.error(
            "ping_failed",
            "%(connection)s was not pinged: %(error)s",
            connection=conn_id,
            error=f"it answered {answer.status_code}",
        )
        return False
    log.info("pinged", "%(connection)s was pinged after %(check)s", connection=conn_id, check=check)
    return True


def _proxy_to(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``): a transport does not look for one."""
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def address_of(connection: ConnectionValues) -> str:
    """
    Return the address that a connection of type http names: its host, which may be a whole one, with its port.

    Raises:
        MonitorError: it is of another type, or names no address; the text does not show it.
    """
    if connection.conn_type != "http":
        raise MonitorError(
            f"connection {connection.conn_id!r} is of type {connection.conn_type or 'unknown'!r}; give it conn_type http"
        )
    host = connection.host or ""
    address = host if "://" in host else f"{connection.schema or 'https'}://{host}"
    try:
        parts = urlsplit(address)
        netloc = f"{parts.netloc}:{connection.port}" if connection.port and parts.port is None else parts.netloc
    except ValueError:
        parts, netloc = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MonitorError(
            f"connection {connection.conn_id!r} names no address to ping; put it into host, such as https://hc-ping.com/..."
        )
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
