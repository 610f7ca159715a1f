"""Fetches a page through the sandbox's egress proxy, which is the only way out and knows the allowed hosts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from agentnexus.sdk import Refusal
from agentnexus.sdk.texts import decode_text, looks_binary

MAX_PAGE_BYTES = 5 * 1024 * 1024
TIMEOUT_SECONDS = 20.0
MAX_REDIRECTS = 5
HEADERS = {"User-Agent": "agentnexus-summarizer/1", "Accept": "text/html"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """`fetched_at` is RFC 3339 UTC; `url` the one that answered, after redirects."""

    url: str
    html: str
    body: bytes
    fetched_at: str


def fetch_page(url: str) -> Fetched:
    """The page at `url`. Raises `Refusal` naming what to do: not allowed, not there, too big, not a page."""
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname or address.username is not None:
        raise Refusal("only plain https addresses are fetched", next_step="send an https address", field="url")
    try:
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True, max_redirects=MAX_REDIRECTS) as client,
            client.stream("GET", url, headers=HEADERS) as answer,
        ):
            return _read(answer)
    except (httpx.ConnectError, httpx.ProxyError, httpx.ConnectTimeout) as error:
        raise Refusal(
            f"this agent may not or cannot reach {address.hostname}",
            next_step="send the page's HTML in `html`, or have the operator add the host under [egress] in agent.toml",
            field="url",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Refusal(
            f"the page could not be fetched ({type(error).__name__})",
            next_step="try the address in a browser, or send the page's HTML in `html`",
            field="url",
        ) from error


def _read(answer: httpx.Response) -> Fetched:
    if answer.status_code != 200:
        raise Refusal(
            f"the page answered with status {answer.status_code}",
            next_step="check the address, or send the page's HTML in `html`",
            field="url",
        )
    body = bytearray()
    for piece in answer.iter_bytes(65536):
        body += piece
        if len(body) > MAX_PAGE_BYTES:
            raise Refusal(
                f"the page is larger than {MAX_PAGE_BYTES // 2**20} MB",
                next_step="send the part you need as text",
                field="url",
            )
    if looks_binary(bytes(body)):
        raise Refusal("the address does not lead to a web page", next_step="send a page's address", field="url")
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Fetched(url=str(answer.url), html=decode_text(bytes(body))[0], body=bytes(body), fetched_at=now)
