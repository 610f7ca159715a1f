"""Owners with a Solana wallet: the same proofs as on EVM, in the words of those wallets."""

from __future__ import annotations

import json

import httpx
import pytest
from solders.keypair import Keypair

from agentnexus.core.errors import NotAllowed
from agentnexus.markets.x402.registry.ownership import (
    ADDRESS_HEADER,
    SIGNATURE_HEADER,
    TIME_HEADER,
    sign_request,
    text_of,
    verified_address,
)
from agentnexus.markets.x402.wire import encode_header
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.signer import LocalSigner
from tests.registry.test_registry import ALICE, World, entry

SOLANA = LocalSigner(bytes(Keypair.from_seed(b"\x05" * 32)), NetworkKind.TESTNET)
OTHER = LocalSigner(bytes(Keypair.from_seed(b"\x06" * 32)), NetworkKind.TESTNET)
PATH = "/services/register"


def solana_entry(signer: LocalSigner = SOLANA, **changes: object) -> dict[str, object]:
    accept = {
        "scheme": "exact", "network": DEVNET.caip2, "asset": DEVNET.usdc_mint, "amount": "20000",
        "payTo": signer.public_id, "extra": {"feePayer": OTHER.public_id},
    }  # fmt: skip
    return entry(ALICE) | {"ownerWalletAddress": signer.public_id, "accepts": [accept]} | changes


async def send(world: World, signer: LocalSigner, method: str, path: str, body: object) -> httpx.Response:
    raw = json.dumps(body).encode()
    world.clock.advance(1)
    headers = await sign_request(signer, method, path, raw, world.clock.now())
    return await world.client.request(method, path, content=raw, headers=headers)


async def test_a_seller_registers_changes_and_is_found_under_its_solana_address(world: World) -> None:
    made = await send(world, SOLANA, "POST", PATH, solana_entry())
    assert made.status_code == 201, made.text
    identifier = made.json()["id"]
    owned = (await world.client.get(f"/services/owner/{SOLANA.public_id}")).json()
    assert [service["ownerWalletAddress"] for service in owned] == [SOLANA.public_id]
    assert (await world.client.get(f"/services/owner/{SOLANA.public_id.lower()}")).json() == []  # another address
    changed = await send(world, SOLANA, "PATCH", f"/services/{identifier}", {"name": "Better"})
    assert changed.json()["name"] == "Better"


async def test_its_own_402_verifies_it(world: World) -> None:
    made = await send(world, SOLANA, "POST", PATH, solana_entry())
    terms = {"x402Version": 2, "resource": {"url": "http://seller.test"}, "accepts": [
        {"scheme": "exact", "network": DEVNET.caip2, "asset": DEVNET.usdc_mint, "amount": "20000",
         "payTo": SOLANA.public_id, "maxTimeoutSeconds": 60, "extra": {}},
    ]}  # fmt: skip
    url = str(solana_entry()["url"])
    world.answers[url] = httpx.Response(402, headers={"PAYMENT-REQUIRED": encode_header(terms)})
    verified = await world.client.post(f"/services/{made.json()['id']}/verify")
    assert verified.status_code == 200, verified.text
    assert verified.json()["verified"] is True


async def test_nobody_else_changes_it_whatever_their_wallet_is(world: World) -> None:
    made = await send(world, SOLANA, "POST", PATH, solana_entry())
    for stranger in (OTHER, ALICE):
        answer = await send(world, stranger, "PATCH", f"/services/{made.json()['id']}", {"status": "PAUSED"})  # type: ignore[arg-type]  # either kind signs
        assert answer.status_code == 403
    taken = await send(world, OTHER, "POST", PATH, solana_entry(OTHER))
    assert taken.status_code == 409


@pytest.mark.parametrize(
    ("field", "value"), [("ownerWalletAddress", OTHER.public_id), ("ownerWalletAddress", SOLANA.public_id.lower())]
)
async def test_an_entry_for_another_address_is_refused(world: World, field: str, value: str) -> None:
    assert (await send(world, SOLANA, "POST", PATH, solana_entry(**{field: value}))).status_code == 403


async def test_terms_that_pay_somebody_else_are_refused(world: World) -> None:
    accepts = solana_entry(OTHER)["accepts"]
    assert (await send(world, SOLANA, "POST", PATH, solana_entry(accepts=accepts))).status_code == 403


async def test_a_signature_is_good_once(world: World) -> None:
    raw = json.dumps(solana_entry()).encode()
    headers = await sign_request(SOLANA, "POST", PATH, raw, world.clock.now())
    first = await world.client.post(PATH, content=raw, headers=headers)
    again = await world.client.post(PATH, content=raw, headers=headers)
    assert (first.status_code, again.status_code) == (201, 409)


async def test_the_text_is_what_a_wallet_shows_and_every_change_to_it_is_noticed(world: World) -> None:
    now, body = world.clock.now(), b"{}"
    headers = await sign_request(SOLANA, "POST", PATH, body, now)
    assert text_of("POST", PATH, body, int(headers[TIME_HEADER])).startswith(b"AgentNexus registry\nPOST /services")
    assert verified_address("POST", PATH, body, headers, now) == SOLANA.public_id
    evm = await sign_request(ALICE, "POST", PATH, body, now)
    wrong = [
        ("PATCH", PATH, body, headers),
        ("POST", "/services/x", body, headers),
        ("POST", PATH, b"[]", headers),
        ("POST", PATH, body, headers | {ADDRESS_HEADER: OTHER.public_id}),
        ("POST", PATH, body, headers | {ADDRESS_HEADER: ALICE.public_id}),
        ("POST", PATH, body, headers | {ADDRESS_HEADER: "not an address"}),
        ("POST", PATH, body, headers | {ADDRESS_HEADER: SOLANA.public_id + "1"}),
        ("POST", PATH, body, headers | {SIGNATURE_HEADER: evm[SIGNATURE_HEADER]}),
        ("POST", PATH, body, headers | {SIGNATURE_HEADER: "1" * 3000}),
        ("POST", PATH, body, headers | {SIGNATURE_HEADER: "1" * 64}),
        ("POST", PATH, body, headers | {TIME_HEADER: str(int(headers[TIME_HEADER]) + 1)}),
        ("POST", PATH, body, evm | {ADDRESS_HEADER: SOLANA.public_id}),
    ]
    for method, path, sent, given in wrong:
        with pytest.raises(NotAllowed):
            verified_address(method, path, sent, given, now)
