"""The message of EIP-4361, as other wallets' software reads it; and the site that it and passkeys are bound to."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_defunct
from starlette.requests import HTTPConnection

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.identity.origin import local_path
from agentnexus.identity.sites import Site, Sites
from agentnexus.identity.wallets import message, personal_digest

NODE_MODULES = Path(__file__).parents[2] / "node_modules"
WALLET = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
NONCE = "32891756" * 4
READ = """
import { parseSiweMessage, validateSiweMessage } from 'viem/siwe';
const { text, domain, time } = JSON.parse(process.argv[1]);
const message = parseSiweMessage(text);
const valid = validateSiweMessage({ message, domain, time: new Date(time), nonce: message.nonce });
console.log(JSON.stringify({ message, valid }));
"""


def written(site: Site, wallet: str = WALLET) -> str:
    return message(wallet, site, chain_id=8453, nonce=NONCE, now=NOW, expires_at=NOW + timedelta(minutes=5))


def test_it_is_the_text_that_wallets_know() -> None:
    assert written(Site("https://nexus.example:8443")) == (
        "nexus.example:8443 wants you to sign in with your Ethereum account:\n"
        "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\n"
        "\n"
        "Sign in to AgentNexus. This spends nothing.\n"
        "\n"
        "URI: https://nexus.example:8443\n"
        "Version: 1\n"
        "Chain ID: 8453\n"
        f"Nonce: {NONCE}\n"
        "Issued At: 2026-11-21T10:30:00.000Z\n"
        "Expiration Time: 2026-11-21T10:35:00.000Z"
    )


def test_keys_that_are_no_ethereum_account_read_which_they_are() -> None:
    first, second, *rest = written(Site("https://nexus.example"), "ed25519:" + "ab" * 32).split("\n")
    assert first == "nexus.example wants you to sign in with your Ed25519 account:"
    assert second == "ed25519:" + "ab" * 32
    assert not any(line.startswith("Chain ID") for line in rest)


@pytest.mark.peer
@pytest.mark.timeout(120)
@pytest.mark.parametrize("origin", ["https://nexus.example", "http://localhost:5000", "http://127.0.0.1:8123"])
async def test_viem_reads_the_message_and_finds_it_valid_until_it_ends(origin: str) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "viem").exists():
        pytest.skip("no viem: npm ci")
    site = Site(origin)
    for minutes, valid in ((1, True), (5, False)):
        time = (NOW + timedelta(minutes=minutes)).isoformat()
        asked = json.dumps({"text": written(site), "domain": site.domain, "time": time})
        process = await asyncio.create_subprocess_exec(
            node, "--input-type=module", "-e", READ, asked, cwd=NODE_MODULES.parent, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        found = json.loads(out)
        assert found["valid"] is valid
        told = found["message"]
        assert (told["domain"], told["uri"], told["version"], told["chainId"]) == (site.domain, origin, "1", 8453)
        assert (told["address"].lower(), told["nonce"]) == (WALLET, NONCE)
        assert told["statement"] == "Sign in to AgentNexus. This spends nothing."


def test_the_digest_is_that_of_personal_sign() -> None:
    for text in ("", "a", "ü" * 200, written(Site("https://nexus.example"))):
        assert personal_digest(text) == _hash_eip191_message(encode_defunct(text=text))
        signed = Account.from_key(b"\x11" * 32).sign_message(encode_defunct(text=text))
        assert signed.message_hash == personal_digest(text)


def asked(host: str, scheme: str = "http") -> HTTPConnection:
    headers = [(b"host", host.encode())]
    return HTTPConnection(
        {"type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": scheme, "headers": headers}
    )


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("LOCALHOST:5000", "http://localhost:5000"),
        ("localhost", "http://localhost"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("evil.example", "https://nexus.example"),
        ("localhost.evil.example", "https://nexus.example"),
        ("localhost:port", "https://nexus.example"),
        ("localhost:99999", "https://nexus.example"),
        ("", "https://nexus.example"),
        ("localhost:80/evil", "http://localhost"),
        ("user@localhost:81", "http://localhost:81"),
    ],
)
def test_a_development_node_is_where_it_was_asked_and_only_on_this_machine(host: str, origin: str) -> None:
    assert Sites("https://nexus.example", local=True).of(asked(host)).origin == origin


@pytest.mark.parametrize("host", ["localhost:5000", "evil.example", "nexus.example:1"])
def test_a_node_in_production_is_where_its_settings_say(host: str) -> None:
    site = Sites("https://Nexus.Example/api/", local=False).of(asked(host))
    assert (site.origin, site.domain, site.rp_id) == ("https://nexus.example", "nexus.example", "nexus.example")


@pytest.mark.parametrize("url", ["", "nexus.example", "/path"])
def test_without_a_public_address_nobody_is_told_a_wrong_one(url: str) -> None:
    with pytest.raises(Unavailable, match="no public address"):
        Sites(url, local=False).of(asked("nexus.example"))


def test_usual_ports_are_left_out_as_browsers_do() -> None:
    for url, origin in (
        ("https://nexus.example:443", "https://nexus.example"),
        ("http://nexus.example:80/", "http://nexus.example"),
        ("http://nexus.example:443", "http://nexus.example:443"),
    ):
        assert Sites(url, local=False).public.origin == origin


def test_browsers_over_a_proxy_with_tls_get_secure_cookies() -> None:
    assert Sites("https://nexus.example", local=False).is_secure(asked("nexus.example"))
    assert Sites("http://nexus.example", local=False).is_secure(asked("nexus.example", "https"))
    assert not Sites("http://nexus.example", local=False).is_secure(asked("nexus.example"))
    assert not Sites("", local=False).is_secure(asked("nexus.example"))
    # A development node's own name has no TLS, wherever its public address leads.
    assert not Sites("https://nexus.example", local=True).is_secure(asked("localhost:5000"))


@pytest.mark.parametrize("origin", ["http://127.0.0.1:5000", "http://[::1]:5000", "http://10.0.0.7"])
def test_an_address_can_have_no_passkeys(origin: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Site(origin).require_name()
    led = raised.value.details.get("open")
    assert led == (None if "10.0" in origin else "http://localhost:5000")


@pytest.mark.parametrize(
    "path", ["/", "/wallet", "/agents/a?x=1&y=%2F%2Fevil#part", "/connect?next=/wallet", "/ü", "/a b"]
)
def test_signing_in_leads_to_our_own_pages(path: str) -> None:
    assert local_path(path, "/connect") == path


@pytest.mark.parametrize(
    "path",
    [
        "", "wallet", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/a\\..\\b",
        "https://evil.example", "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "\t//evil.example",
        " /wallet", "/\x00", "/\u2028/evil", "/" + "a" * 2000, "data:text/html,x",
    ],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(path: str) -> None:
    assert local_path(path, "/connect") == "/connect"
