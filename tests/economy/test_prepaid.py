"""A prepaid account in the running economy: deposit on chain, work from it, take the rest back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from solders.keypair import Keypair

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail
from tests.economy.conftest import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")
NOTE = "The Moon causes the tides of the oceans. The Sun adds to them. Spring tides come at new and full moon."


async def pay(town: Town, keypair: Keypair, amount: int) -> str:
    """The user's own wallet pays the treasury; the transaction's signature, final."""
    chain = town.economy.solana
    database = await Database.open(town.economy.database_url, max_size=2)
    try:
        sender = await TransactionSender.open(database, chain.rpc, chain.network)
        rail = SolanaRail(sender, LocalSigner(keypair.secret(), NetworkKind.TESTNET))
        treasury = solana_accounts()["treasury"].address
        request = PaymentRequest(
            rail="solana", amount=Money(chain.usdc, amount), payee=treasury, mode=PayMode.PAY, reference={},
            binding=f"test:{keypair.pubkey()}",
        )  # fmt: skip
        payment = await rail.send(request, f"test:{keypair.pubkey()}")
        await chain.advance(40)
        return str(payment.evidence["transaction"])
    finally:
        await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def paula(town: Town) -> AsyncIterator[Town]:
    """The same economy for another user: the local one shall go on without a prepaid account."""
    database = await Database.open(town.economy.database_url, max_size=1)
    token = await Tokens(database, SystemEntropy()).issue("paula")
    await database.close()
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=town.economy.urls["api"], headers=headers, timeout=60) as client:
        yield Town(town.economy, client)


async def test_a_workflow_is_paid_from_the_prepaid_account_and_the_rest_goes_home(paula: Town) -> None:
    town, wallet = paula, Keypair()
    await town.economy.solana.mint(wallet.pubkey(), 5_000_000)
    await town.economy.solana.airdrop(wallet.pubkey(), 1_000_000_000)
    base = "/escrow/paula"
    made = await town.call("POST", f"{base}/create", json={"userWallet": str(wallet.pubkey())})
    assert made.status_code == 201, made.text
    signature = await pay(town, wallet, 50_000)

    short = await town.create("Summarise this text", autoApprove=False, files=[await note(town)], budget="2")
    await town.until(short, {"awaiting_approval"})
    refused = await town.call("POST", f"/workflows/{short}/approve")
    assert refused.status_code == 402
    assert "Insufficient escrow balance. Available: 0.0" in refused.text

    claimed = await town.call("POST", f"{base}/deposit", json={"signature": signature, "amount": 0.05})
    assert claimed.status_code == 200, claimed.text
    assert claimed.json()["escrow"]["balance"] == 0.05
    again = await town.call("POST", f"{base}/deposit", json={"signature": signature})
    assert again.status_code == 409

    assert (await town.call("POST", f"/workflows/{short}/approve")).status_code == 200
    state = await town.ended(short)
    assert state["status"] == "completed", state
    balance = (await town.call("GET", f"{base}/balance")).json()
    assert (balance["balance"], balance["assets"][0]["reserved"]) == (0.04, "0.0")  # a summary costs 0.01

    sent = await town.call("POST", f"{base}/withdraw", json={"amount": 0.04, "destination": str(wallet.pubkey())})
    assert sent.status_code == 200, sent.text
    assert await town.economy.solana.tokens_of(wallet.pubkey()) == 5_000_000 - 50_000 + 40_000
    history = (await town.call("GET", f"{base}/history")).json()
    kinds = [line["kind"] for line in reversed(history["history"])]
    assert kinds == ["deposit", "reserved", "charged", "withdrawal"]
    assert history["history"][0]["signature"] == sent.json()["signature"]


async def test_strangers_see_no_account_and_create_none_for_others(town: Town, paula: Town) -> None:
    for path in ("/escrow/paula/balance", "/escrow/paula/history"):
        assert (await paula.call("GET", path.replace("paula", "somebody"))).status_code == 404
    wallet = str(Keypair().pubkey())
    assert (await paula.call("POST", "/escrow/somebody/create", json={"userWallet": wallet})).status_code == 404
    address = (await town.call("GET", "/escrow/address")).json()
    assert address["address"] == solana_accounts()["treasury"].address


async def note(town: Town) -> dict[str, object]:
    answer = await town.call("POST", "/files", files={"file": ("note.txt", NOTE.encode(), "text/plain")})
    reference: dict[str, object] = answer.json()["file"]
    return reference


async def test_a_direct_hire_is_charged_to_the_account_and_refused_beyond_it(town: Town) -> None:
    database = await Database.open(town.economy.database_url, max_size=1)
    token = await Tokens(database, SystemEntropy()).issue("hana")
    await database.close()
    wallet = Keypair()
    await town.economy.solana.mint(wallet.pubkey(), 5_000_000)
    await town.economy.solana.airdrop(wallet.pubkey(), 1_000_000_000)
    headers = {"Authorization": f"Bearer {token}"}
    body = {"need": "text.summarize", "input": {"text": NOTE}, "max_price": "0.02"}
    async with httpx.AsyncClient(base_url=town.economy.urls["api"], headers=headers, timeout=60) as client:
        hana = Town(town.economy, client)
        made = await hana.call("POST", "/escrow/hana/create", json={"userWallet": str(wallet.pubkey())})
        assert made.status_code == 201, made.text
        poor = await hana.call("POST", "/api/v1/hire", json=body)
        assert (poor.status_code, poor.json()["error"]["code"]) == (402, "insufficient_funds")
        signature = await pay(town, wallet, 25_000)
        assert (await hana.call("POST", "/escrow/hana/deposit", json={"signature": signature})).status_code == 200
        hired = await hana.call("POST", "/api/v1/hire", json={**body, "key": "one"})
        assert hired.status_code == 200, hired.text
        again = await hana.call("POST", "/api/v1/hire", json={**body, "key": "one"})
        assert again.json()["data"]["receipt"] == hired.json()["data"]["receipt"]
        balance = (await hana.call("GET", "/escrow/hana/balance")).json()
        assert (balance["balance"], balance["assets"][0]["reserved"]) == (0.015, "0.0")
