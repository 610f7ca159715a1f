"""Under which origin a visitor sees us: what passkeys and wallets' messages are bound to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.identity.origin import is_loopback


@dataclass(frozen=True, slots=True)
class Site:
    """`origin` is scheme and authority as browsers write them: ``https://nexus.example``."""

    origin: str

    @property
    def domain(self) -> str:
        """Name and port, as EIP-4361 has it."""
        return urlsplit(self.origin).netloc

    @property
    def rp_id(self) -> str:
        """The name that passkeys are made for. Raises `InvalidInput` for an IP address, which can have none."""
        parts = urlsplit(self.origin)
        host = parts.hostname or ""
        if ":" in host or host.rpartition(".")[2].isdigit():
            elsewhere = self.by_name
            raise InvalidInput(
                f"passkeys are made for names, and {host} is an address",
                next_step=f"open {elsewhere}" if elsewhere else "open this node under its name",
                field="origin",
                open=elsewhere or None,
            )
        return host

    def require_name(self) -> None:
        """Raises `InvalidInput` as `rp_id` does."""
        _ = self.rp_id

    @property
    def by_name(self) -> str:
        """The same place under the name ``localhost``, where it is this machine under its address; otherwise ""."""
        parts = urlsplit(self.origin)
        if not is_loopback(parts.hostname or "") or parts.hostname == "localhost":
            return ""
        return origin_of(parts.scheme, "localhost", parts.port)


class Sites:
    """The site of each request.

    Args:
        public_url: where browsers find this node.
        local: whether this machine's own names count as well, which only a development node may allow: a browser that
            asks for ``localhost`` reaches nobody else.
    """

    def __init__(self, public_url: str, *, local: bool) -> None:
        self._public_url = public_url
        self._local = local

    def of(self, connection: HTTPConnection) -> Site:
        """Raises `Unavailable` where no public address is set."""
        if self._local:
            try:
                asked = urlsplit(f"//{connection.headers.get('host', '')}")
                host, port = asked.hostname or "", asked.port
            except ValueError:
                host, port = "", None
            if is_loopback(host):
                return Site(origin_of(connection.scope["scheme"], host, port))
        return self.public

    @property
    def public(self) -> Site:
        """Where everybody finds us."""
        parts = urlsplit(self._public_url)
        if not parts.scheme or not parts.hostname:
            raise Unavailable("this node has no public address", next_step="set NEXUS_API_URL")
        return Site(origin_of(parts.scheme, parts.hostname, parts.port))

    def is_secure(self, connection: HTTPConnection) -> bool:
        """Whether browsers come by HTTPS, perhaps to a proxy before us."""
        if connection.scope["scheme"] == "https":
            return True
        return bool(self._public_url) and self.of(connection).origin.startswith("https://")


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """As browsers write it: lower case, without the scheme's own port."""
    name = f"[{host}]" if ":" in host else host
    is_usual = port is None or (scheme, port) in (("http", 80), ("https", 443))
    return f"{scheme}://{name}" if is_usual else f"{scheme}://{name}:{port}"
