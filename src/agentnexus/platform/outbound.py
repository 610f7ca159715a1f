"""Requests to addresses that strangers wrote: only to the open internet, by a name that is resolved and checked once.

A registry entry may name a cloud's metadata service, a router or a database next door. Names are resolved here and the
checked address is dialled, so that a second answer of a hostile name server has no effect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeAlias

import httpcore
import httpx

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to address texts. Raises `OSError` when the name is not known."""

IDLE_SECONDS = 5.0
_CARRIERS = tuple(
    # Networks that Python calls global although they carry an IPv4 address of anybody's choice inside, or are a site's
    # own by an older rule (fec0::/10).
    ipaddress.ip_network(network)
    for network in (
        *("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
        *("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "fec0::/10"),
    )
)


async def resolve_by_system(host: str, port: int) -> list[str]:
    """What the host's resolver says."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


def is_public(text: str) -> bool:
    """Whether this address is on the open internet, and not a private one wrapped in a public prefix."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in _CARRIERS if network.version == address.version)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Dials checked addresses only; TLS above it still checks the certificate of the name."""

    def __init__(self, resolve: Resolve, trusted: Collection[str], *, allow_loopback: bool) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._resolve = resolve
        self._trusted = trusted
        self._allow_loopback = allow_loopback

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"nobody says in time where {host} is") from error
        except OSError as error:
            raise httpcore.ConnectError(f"nobody knows where {host} is") from error
        is_good = host in self._trusted or all(self._allowed(address) for address in addresses)
        if not addresses or not is_good:
            raise httpcore.ConnectError(f"{host} is not on the open internet")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    def _allowed(self, address: str) -> bool:
        is_loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        return self._allow_loopback if is_loopback else is_public(address)


class OutboundTransport(httpx.AsyncHTTPTransport):
    """For ``httpx.AsyncClient(transport=...)``. A forbidden address fails as `httpx.ConnectError`.

    Args:
        allow_loopback: this machine may be asked too: the economy on a laptop.
        trusted: host names of the operator's own, wherever they are.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool,
        trusted: Collection[str] = (),
        connections_max: int = 100,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections_max,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=_CheckedBackend(resolve, trusted, allow_loopback=allow_loopback),
        )
