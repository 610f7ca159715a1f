"""Corners of the shared parts: keys and signatures by RFC 8032, request ids, body limits, cache, settings, outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NexusError, NotAllowed, NotFound, RateLimited, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.platform.blobs import MemoryBlobs, PostgresBlobs
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from agentnexus.platform.http import BodyLimit, RequestContext, error_response, install_error_handlers, run_checks
from agentnexus.platform.outbound import is_public
from agentnexus.platform.outbox import BATCH, OutboxReader, publish
from agentnexus.platform.settings import Environment, Settings
from agentnexus.platform.signing import Ed25519Signer, verify_ed25519_now

LIMIT = 1024


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
            "24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
            "eeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
            "8dc027beceea1ec40a",
        ),
    ],
)
async def test_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    signer = Ed25519Signer.from_seed(bytes.fromhex(seed))
    assert signer.public_id == f"ed25519:{public}"
    signed = await signer.sign(bytes.fromhex(message))
    assert signed.hex() == signature
    assert verify_ed25519_now(signer.public_id, bytes.fromhex(message), signed)
    assert not verify_ed25519_now(signer.public_id, bytes.fromhex(message) + b"\0", signed)
    assert not verify_ed25519_now(signer.public_id, bytes.fromhex(message), signed[:-1] + b"\xff")


@pytest.mark.parametrize(
    "spelling",
    [
        "{id} ", " {id}", "{id}\n", "ed25519: {hex}", "ed25519:{upper}", "ED25519:{hex}", "ed25519:0x{hex}", "{hex}",
        "ed25519:{hex}00", "ed25519:", "", "ed25519:{short}", "x25519:{hex}",
    ],
)  # fmt: skip
async def test_a_key_has_one_spelling(spelling: str) -> None:
    signer = Ed25519Signer.from_seed(b"\x07" * 32)
    key = signer.public_id.removeprefix("ed25519:")
    odd = spelling.format(id=signer.public_id, hex=key, upper=key.upper(), short=key[:-2])
    assert verify_ed25519_now(signer.public_id, b"m", await signer.sign(b"m"))
    assert not verify_ed25519_now(odd, b"m", await signer.sign(b"m"))


@given(st.binary(max_size=80))
def test_random_bytes_are_no_signature(signature: bytes) -> None:
    signer = Ed25519Signer.from_seed(b"\x07" * 32)
    assert not verify_ed25519_now(signer.public_id, b"m", signature)


def key_file(tmp_path: Path, data: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")),
    ],
    ids=["empty", "nonsense", "damaged", "another-kind", "locked"],
)
def test_a_file_without_a_usable_key_is_refused_with_what_to_do(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no Ed25519 key") as caught:
        Ed25519Signer.load_or_create(key_file(tmp_path, data))
    assert "move it away" in caught.value.next_step


@pytest.mark.parametrize("mode", [0o601, 0o604, 0o620, 0o640, 0o644, 0o660, 0o777])
def test_a_key_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    Ed25519Signer.load_or_create(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(NotAllowed) as caught:
        Ed25519Signer.load_or_create(tmp_path / "key.pem")
    assert caught.value.next_step.startswith("chmod 600")


def test_a_fresh_key_is_its_owners_alone_and_leaves_no_other_file(tmp_path: Path) -> None:
    first = Ed25519Signer.load_or_create(tmp_path / "deep" / "key.pem")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["key.pem"]
    assert (tmp_path / "deep" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert Ed25519Signer.load_or_create(tmp_path / "deep" / "key.pem").public_id == first.public_id


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.post("/big/echo")
    async def big(request: Request) -> int:
        return len(await request.body())

    @app.get("/slow")
    async def slow() -> None:
        raise RateLimited("too many", next_step="wait", retry_after_seconds=7)

    transport = httpx.ASGITransport(
        RequestContext(BodyLimit(app, LIMIT, {"/big": 4 * LIMIT})), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/echo", 0, 200),
        ("/echo", LIMIT - 1, 200),
        ("/echo", LIMIT, 200),
        ("/echo", LIMIT + 1, 413),
        ("/big/echo", LIMIT + 1, 200),
        ("/big/echo", 4 * LIMIT, 200),
        ("/big/echo", 4 * LIMIT + 1, 413),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
async def test_bodies_are_taken_up_to_their_limit(
    client: httpx.AsyncClient, path: str, size: int, status: int, declared: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 100):
            yield b"x" * min(100, size - start)

    answer = await client.post(path, content=b"x" * size if declared else pieces())
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == size
    else:
        assert answer.json()["error"]["details"] == {"limit_bytes": 4 * LIMIT if "big" in path else LIMIT}


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "9" * 19, "9" * 5000, "0x10", "+5", "1e3", ""])
async def test_a_declared_length_that_is_none_is_refused(client: httpx.AsyncClient, length: str) -> None:
    answer = await client.post("/echo", content=b"", headers={"Content-Length": length})
    assert answer.status_code == 413


@pytest.mark.parametrize("given_id", ["a", "req_1", "A-b.c_9", "x" * 64])
async def test_a_request_id_of_the_caller_is_kept(client: httpx.AsyncClient, given_id: str) -> None:
    assert (await client.get("/none", headers={"X-Request-ID": given_id})).headers["x-request-id"] == given_id


@pytest.mark.parametrize("given_id", ["", "x" * 65, "a b", "a/b", "a\tb", "\u00e9", "a\n", "<script>", "a;b", "../a"])
async def test_a_request_id_with_anything_else_is_replaced(client: httpx.AsyncClient, given_id: str) -> None:
    answer = await client.get("/none", headers=[(b"X-Request-ID", given_id.encode())])
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_caller_that_is_too_fast_is_told_when_to_come_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/slow")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("path", ["/none", "/echo/none", "/%2e%2e/none"])
async def test_a_path_nobody_serves_has_the_documented_shape(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"success": False, "error": {"code": "not_found", "message": "Not Found"}}


def family(kind: type[NexusError]) -> list[type[NexusError]]:
    return [kind, *(child for each in kind.__subclasses__() for child in family(each))]


CORE = [kind for kind in family(NexusError) if kind.__module__ == "agentnexus.core.errors"]


@pytest.mark.parametrize("kind", CORE, ids=lambda kind: kind.__name__)
def test_every_error_answers_with_its_own_status_and_code(kind: type[NexusError]) -> None:
    answer = error_response(kind("no", next_step="do this", field="x", absent=None))
    assert answer.status_code == kind.http_status
    assert (
        bytes(answer.body)
        == (
            f'{{"success":false,"error":{{"code":"{kind.code}","message":"no","next_step":"do this",'
            f'"details":{{"field":"x"}}}}}}'
        ).encode()
    )


async def _fine() -> None:
    return


async def _away() -> None:
    raise Unavailable("away")


async def _refused() -> None:
    raise ConnectionRefusedError("refused")


@pytest.mark.parametrize(
    ("checks", "overall", "states"),
    [
        ({}, "healthy", []),
        ({"a": _fine}, "healthy", ["healthy"]),
        ({"a": _fine, "b": _fine}, "healthy", ["healthy", "healthy"]),
        ({"a": _fine, "b": _away}, "degraded", ["healthy", "unhealthy"]),
        ({"a": _refused, "b": _fine, "c": _fine}, "degraded", ["unhealthy", "healthy", "healthy"]),
        ({"a": _away}, "unhealthy", ["unhealthy"]),
        ({"a": _away, "b": _refused}, "unhealthy", ["unhealthy", "unhealthy"]),
    ],
)
async def test_health_is_the_sum_of_its_parts(checks: dict, overall: str, states: list[str]) -> None:
    found, parts = await run_checks(checks)
    assert found == overall
    assert [part["status"] for part in parts.values()] == states  # type: ignore[index]  # entries are objects
    assert list(parts) == list(checks)


class Shelf:
    """A shared level in memory that may hold anything."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content

    async def get(self, key: str) -> bytes | None:
        return self.content

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        self.content = value

    async def delete(self, key: str) -> None:
        self.content = None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"not json", b"[1"])
async def test_a_shared_value_that_is_none_is_loaded_and_overwritten(content: bytes, clock: ManualClock) -> None:
    shelf = Shelf(content)
    found = await Cache(clock=clock, second=shelf).get_or_load("k", _seven)
    assert (found.value, found.hit) == (7, False)
    assert shelf.content == b"7"


async def _seven() -> object:
    return 7


@pytest.mark.parametrize("value", [None, 0, False, "", [], {}])
async def test_values_that_look_like_nothing_are_values(value: object, clock: ManualClock) -> None:
    cache = Cache(clock=clock)
    loads = 0

    async def load() -> object:
        nonlocal loads
        loads += 1
        return value

    assert [(await cache.get_or_load("k", load)).value for _ in range(3)] == [value] * 3
    assert (loads, cache.statistics.hits, cache.statistics.misses) == (1, 2, 1)


@pytest.mark.parametrize(("after", "hit"), [(0, True), (59.999, True), (60, False), (61, False)])
async def test_a_value_is_fresh_until_the_second_it_expires(after: float, hit: bool, clock: ManualClock) -> None:
    cache = Cache(ttl_seconds=60, clock=clock)
    await cache.get_or_load("k", _seven)
    clock.advance(after)
    assert (await cache.get_or_load("k", _seven)).hit is hit


async def test_forgetting_one_key_or_all(clock: ManualClock) -> None:
    cache = Cache(clock=clock)
    for key in ("a", "b"):
        await cache.get_or_load(key, _seven)
    await cache.clear("a")
    assert [(await cache.get_or_load(key, _seven)).hit for key in ("a", "b")] == [False, True]
    await cache.clear()
    assert [(await cache.get_or_load(key, _seven)).hit for key in ("a", "b")] == [False, False]


@given(st.lists(st.binary(max_size=40), max_size=6))
async def test_blobs_in_memory_are_what_was_put(contents: list[bytes]) -> None:
    blobs = MemoryBlobs()
    references = [await blobs.put(content) for content in contents]
    assert [await blobs.get(reference) for reference in references] == contents
    assert len(set(references)) == len(set(contents))


@pytest.mark.parametrize("reference", ["", "sha256:", "sha256:" + "0" * 64, "x", "sha256:" + "A" * 64, "'; drop table"])
async def test_a_blob_that_is_not_there_is_not_found(reference: str, database: Database) -> None:
    for blobs in (MemoryBlobs(), PostgresBlobs(database)):
        with pytest.raises(NotFound, match="no file") as caught:
            await blobs.get(reference)
        assert caught.value.next_step == "upload it again"


async def test_more_events_than_a_batch_arrive_once_and_in_order(database: Database) -> None:
    count = BATCH + 5
    async with database.transaction() as connection:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        events = [Event(name=EventName.STEP_PROGRESS, subject="s", sequence=n, at=now) for n in range(1, count + 1)]
        await publish(connection, events)
        await publish(connection, events[:3])
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.sequence)

    assert await OutboxReader(database, "one").drain(handle) == count
    assert await OutboxReader(database, "one").drain(handle) == 0
    assert await OutboxReader(database, "two").drain(handle) == count
    assert seen == [*range(1, count + 1)] * 2


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("100.127.255.255", False),
        ("100.128.0.1", True),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("::", False),
        ("::1", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2001::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fd12:3456::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("::8.8.8.8", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEXUS_DATABASE_POOL_MAX", "0"),
        ("NEXUS_DATABASE_POOL_MAX", "201"),
        ("NEXUS_DATABASE_POOL_MAX", "many"),
        ("NEXUS_WORKFLOW_SLOTS", "0"),
        ("NEXUS_WORKFLOW_SLOTS", "257"),
        ("NEXUS_REQUESTS_PER_MINUTE", "0"),
        ("NEXUS_MAX_UPLOAD_BYTES", "1023"),
        ("NEXUS_ENVIRONMENT", "staging"),
        ("NEXUS_UNSAFE_LOCAL", "perhaps"),
        ("NEXUS_EVM_CHAIN_ID", "base"),
    ],
)
def test_a_setting_out_of_range_stops_the_start_and_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert caught.value.errors()[0]["loc"] == (name.removeprefix("NEXUS_").lower(),)


def test_settings_come_from_either_name_and_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://a/b",
        "NEXUS_REDIS_URL": "redis://a",
        "NEXUS_BUYER_KEY": "0x" + "ab" * 32,
        "NEXUS_USDC_ADDRESS": "0x" + "AB" * 20,
        "NEXUS_EVM_CHAIN_ID": "8453",
        "NEXUS_ENVIRONMENT": "production",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.database_url, settings.redis_url) == ("postgresql://a/b", "redis://a")
    assert settings.environment is Environment.PRODUCTION
    assert settings.usdc is not None
    assert settings.usdc.caip19 == "eip155:8453/erc20:0x" + "ab" * 20
    assert "abab" not in repr(settings.buyer_key)
    assert "ab" * 32 not in repr(settings)


async def test_a_load_that_fails_for_all_who_wait_fails_once(clock: ManualClock) -> None:
    cache, asked, gate = Cache(clock=clock), 0, asyncio.Event()

    async def dead() -> object:
        nonlocal asked
        asked += 1
        await gate.wait()
        raise Unavailable("dead")

    waiting = [asyncio.create_task(cache.get_or_load("k", dead)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert asked == 1
