"""Signing in with a wallet: one answer per challenge, by the right key, in time."""

from __future__ import annotations

import base64

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.identity.sites import Site
from agentnexus.identity.tokens import Holder, Tokens
from agentnexus.identity.wallets import WalletLogin
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from tests.identity.desk import open_desk

EVM = Account.from_key("0x" + "11" * 32)
KEY = Ed25519Signer.from_seed(b"\x02" * 32)


SITE = Site("https://nexus.example")


@pytest.fixture
def login(database: Database, clock: ManualClock) -> WalletLogin:
    return WalletLogin(database, Tokens(database, SeededEntropy(1)), clock, SeededEntropy(2), chain_id=31337)


def sign(message: str, key: object = EVM) -> str:
    return key.sign_message(encode_defunct(text=message)).signature.to_0x_hex()  # type: ignore[attr-defined]  # an account


async def test_an_evm_wallet_signs_in_whatever_case_its_address_has(login: WalletLogin, database: Database) -> None:
    asked = await login.challenge(EVM.address, SITE)
    person, token = await login.sign_in(EVM.address.lower(), asked.nonce, sign(asked.message))
    assert person == EVM.address.lower()
    assert await Tokens(database, SeededEntropy(9)).find(token) == Holder(person, "basic")


async def test_an_ed25519_key_signs_in(login: WalletLogin) -> None:
    asked = await login.challenge(KEY.public_id, SITE)
    signature = base64.b64encode(await KEY.sign(asked.message.encode())).decode()
    person, _ = await login.sign_in(KEY.public_id, asked.nonce, signature)
    assert person == KEY.public_id.replace(":", ".")


async def test_a_challenge_is_good_for_one_answer(login: WalletLogin) -> None:
    asked = await login.challenge(EVM.address, SITE)
    await login.sign_in(EVM.address, asked.nonce, sign(asked.message))
    with pytest.raises(NotAllowed, match="unknown, used or too old"):
        await login.sign_in(EVM.address, asked.nonce, sign(asked.message))


@pytest.mark.parametrize("signature", ["", "0x", "0x" + "00" * 65, "zz", "0x" + "ff" * 65])
async def test_a_wrong_signature_uses_the_challenge_up(login: WalletLogin, signature: str) -> None:
    asked = await login.challenge(EVM.address, SITE)
    with pytest.raises(NotAllowed, match="not by that wallet"):
        await login.sign_in(EVM.address, asked.nonce, signature)
    with pytest.raises(NotAllowed, match="unknown, used"):
        await login.sign_in(EVM.address, asked.nonce, sign(asked.message))


async def test_another_wallet_cannot_answer(login: WalletLogin) -> None:
    other = Account.from_key("0x" + "22" * 32)
    asked = await login.challenge(EVM.address, SITE)
    with pytest.raises(NotAllowed, match="not by that wallet"):
        await login.sign_in(EVM.address, asked.nonce, sign(asked.message, other))
    again = await login.challenge(EVM.address, SITE)
    with pytest.raises(NotAllowed, match="unknown"):
        await login.sign_in(other.address, again.nonce, sign(again.message, other))


async def test_an_old_challenge_is_refused(login: WalletLogin, clock: ManualClock) -> None:
    asked = await login.challenge(EVM.address, SITE)
    clock.advance(301)
    with pytest.raises(NotAllowed, match="too old"):
        await login.sign_in(EVM.address, asked.nonce, sign(asked.message))


@pytest.mark.parametrize("address", ["", "0x12", "ann", "ed25519:" + "A" * 64, "0x" + "g" * 40])
async def test_what_is_no_wallet_is_refused(login: WalletLogin, address: str) -> None:
    with pytest.raises(InvalidInput):
        await login.challenge(address, SITE)


async def test_over_http_strangers_are_counted(database: Database, clock: ManualClock) -> None:
    desk = open_desk(database, clock, per_minute=3)
    async with desk.browser() as client:
        asked = (await client.post("/api/v1/auth/challenge", json={"address": EVM.address})).json()["data"]
        body = {"address": EVM.address, "nonce": asked["nonce"], "signature": sign(asked["message"])}
        answer = await client.post("/api/v1/auth/login", json=body)
        assert answer.json()["data"]["token"].startswith("nx_")
        assert (await client.post("/api/v1/auth/login", json=body)).status_code == 403
        assert (await client.post("/api/v1/auth/login", json=body)).status_code == 429
