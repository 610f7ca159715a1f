"""Where a request comes from: a page of ours, a page of another site, or a program; and under which name we were asked.

A browser adds cookies by itself and reaches loopback from any page, so a request without a token is only as good as
what sent it.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

PATH_CHARS = 2000
IPV6_PREFIX = 64
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def same_origin(headers: Headers) -> bool:
    """Whether a browser sent it from our own page, or no browser did.

    Browsers name the sender in ``Sec-Fetch-Site`` or ``Origin`` whenever it matters; programs send neither.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def may_act(connection: HTTPConnection) -> bool:
    """Whether a request may use what the browser adds by itself. Other sites' pages may link here and no more."""
    is_read = connection.scope["type"] == "http" and connection.scope.get("method", "GET") in SAFE_METHODS
    return is_read or same_origin(connection.headers)


def local_path(text: str, otherwise: str) -> str:
    """`text` where it is an address of our own pages to lead a browser to; browsers read much as another site."""
    is_path = text.startswith("/") and not text.startswith("//") and "\\" not in text
    return text if is_path and text.isprintable() and len(text) <= PATH_CHARS else otherwise


def from_this_machine(connection: HTTPConnection) -> bool:
    """Whether both ends are this machine, and the name asked for is not one that a stranger's DNS points here."""
    client = connection.client
    host = _hostname(connection.headers.get("host", "localhost"))
    return is_loopback(host) and (client is None or is_loopback(client.host))


def counted_as(host: str) -> str:
    """Under which name calls from an address are counted: of IPv6 everybody has at least 2^64, so a /64 is one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether the host name or address is this machine, whatever any DNS says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
