"""`nexus receipt verify`: what the receipt says is looked up on the chain, and every lie is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PaymentState, PayMode, ReceiptStatus
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.hiring.receipts import sign_receipt
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.evm.eip3009 import nonce_for
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.wallet import EvmRail
from tests.hiring.test_receipts import payment, unsigned

SIGNER = Ed25519Signer.from_seed(b"\x07" * 32)
NOBODY = "0x" + "0" * 40


async def receipt(
    chain: DevelopmentChain, status: ReceiptStatus = ReceiptStatus.SETTLED, **changes: object
) -> dict[str, object]:
    """A receipt for 42 units that really moved (new USDC comes from the zero address)."""
    alice = chain.accounts["alice"].address
    await chain.mint(alice, 42)
    logs = await chain.rpc.call(
        "eth_getLogs", {"fromBlock": "latest", "toBlock": "latest", "address": chain.usdc.reference}
    )
    assert isinstance(logs, list) and isinstance(logs[0], dict)
    fields: dict[str, object] = {
        "network": chain.network.caip2,
        "asset": chain.usdc.caip19,
        "amount": "42",
        "payer": NOBODY,
        "payee": alice,
        "transaction": str(logs[0]["transactionHash"]),
    }
    paid = payment(**fields | changes)
    quoted = Money(Asset("USDC", 6, paid.asset), 42_000)
    plain = unsigned(payments=(paid,))
    plain = plain.model_copy(update={"quote": plain.quote.model_copy(update={"maximum": quoted}), "status": status})
    if status is ReceiptStatus.REFUNDED:
        plain = plain.model_copy(update={"error": {"code": "agent_refused", "message": "a scan"}, "result_hash": ""})
    signed = await sign_receipt(plain, SIGNER)
    found: dict[str, object] = signed.model_dump(mode="json")
    return found


async def test_a_payment_that_is_on_the_chain_is_valid(chain: DevelopmentChain) -> None:
    entry = await receipt(chain)
    report = await verify_with_chain(entry, chain.rpc_url)
    assert (report["id"], report["valid"], report["problems"]) == ("rct_1", True, [])
    assert (await verify_with_chain(entry, None))["valid"]
    assert (await verify_with_chain(json.loads(json.dumps(entry)), chain.rpc_url))["valid"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount": "43"}, "42 units"),
        ({"payer": "0x" + "9" * 40}, "0 units"),
        ({"payee": "0x" + "9" * 40}, "0 units"),
        ({"transaction": "0x" + "ab" * 32}, "does not know"),
        ({"network": "eip155:8453"}, "does not know"),
        ({"network": "cosmos:hub"}, "does not know"),
        ({"asset": "eip155:31337/erc20:0x" + "9" * 40}, "0 units"),
    ],
)
async def test_a_signed_lie_about_the_payment_is_found_on_the_chain(
    chain: DevelopmentChain, changes: dict[str, object], said: str
) -> None:
    entry = await receipt(chain, **changes)
    report = await verify_with_chain(entry, chain.rpc_url)
    assert not report["valid"]
    problem = next(each for each in report["problems"] if each.startswith("payments.0.on_network"))
    assert said in problem


async def test_a_receipt_changed_after_signing_is_not_valid_even_offline(chain: DevelopmentChain) -> None:
    entry = await receipt(chain)
    report = await verify_with_chain(entry | {"job_id": "job_2"}, None)
    assert not report["valid"]
    assert any("signature" in problem for problem in report["problems"])


async def given_back(chain: DevelopmentChain, transaction: str, **changes: object) -> list[str]:
    """Problems of a receipt that says a payment of the buyer was taken back in `transaction`."""
    fields = {"state": PaymentState.REFUNDED, "transaction": "", "refund_transaction": transaction}
    entry = await receipt(
        chain, ReceiptStatus.REFUNDED, **fields | {"payer": chain.accounts["buyer"].address} | changes
    )
    return (await verify_with_chain(entry, chain.rpc_url))["problems"]


@pytest.fixture
async def cancellation(chain: DevelopmentChain, database: Database) -> str:
    """The transaction that cancelled an authorised payment of the buyer."""
    sender = await TransactionSender.open(database, chain.rpc, chain.chain_id)
    rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=chain.accounts["relayer"].signer)
    terms = {
        "network": chain.network.caip2,
        "asset": chain.usdc.reference,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    request = PaymentRequest(
        rail="evm",
        amount=Money(chain.usdc, 42),
        payee=chain.accounts["seller-1"].address,
        mode=PayMode.AUTHORIZE,
        reference=terms,
        binding="verify",
        expires_at=datetime.now(UTC) + timedelta(minutes=10),
    )
    payment = await rail.cancel(await rail.open(request, "verify"))
    return str(payment.evidence["cancel_transaction"])


async def test_a_payment_that_was_given_back_is_looked_up_by_its_cancellation(
    chain: DevelopmentChain, cancellation: str
) -> None:
    assert await given_back(chain, cancellation) == []
    assert await given_back(chain, cancellation, payer=chain.accounts["buyer"].address.upper().replace("X", "x")) == []


async def test_a_refund_is_of_the_authorisation_that_the_receipt_names(
    chain: DevelopmentChain, cancellation: str
) -> None:
    """Any cancellation by the same payer would do otherwise: old receipts name none, and say no more."""
    nonce = to_hex(nonce_for("verify"))
    assert await given_back(chain, cancellation, authorization=nonce) == []
    assert await given_back(chain, cancellation, authorization=nonce.upper().replace("X", "x")) == []
    assert await given_back(chain, cancellation, authorization="") == []
    for other in (to_hex(nonce_for("another")), "nonsense", nonce[:-1]):
        (problem,) = await given_back(chain, cancellation, authorization=other)
        assert "did not cancel" in problem


async def test_a_signed_lie_about_a_refund_is_found_on_the_chain(chain: DevelopmentChain, cancellation: str) -> None:
    other_token = f"{chain.network.caip2}/erc20:0x{'9' * 40}"
    mint = str((await receipt(chain))["payments"][0]["transaction"])  # type: ignore[index]  # JSON
    lies = {
        "does not know": await given_back(chain, "0x" + "1" * 64),
        "did not cancel": await given_back(chain, mint),
        f"of {NOBODY}": await given_back(chain, cancellation, payer=NOBODY),
        "did not": await given_back(chain, cancellation, asset=other_token),
    }
    for said, problems in lies.items():
        assert any(each.startswith("payments.0.refund_on_network") and said in each for each in problems), (
            said,
            problems,
        )


async def test_a_payment_that_was_never_sent_needs_no_transaction(chain: DevelopmentChain) -> None:
    assert await given_back(chain, "") == []


@pytest.mark.parametrize("entry", [None, 5, "text", [], {}, {"id": "x", "payments": 3}])
async def test_what_is_no_receipt_is_named_so(entry: object) -> None:
    report = await verify_with_chain(entry, None)
    assert not report["valid"]
    assert report["problems"]


async def test_a_chain_that_does_not_answer_is_no_verdict(chain: DevelopmentChain) -> None:
    entry = await receipt(chain)
    with pytest.raises(Unavailable) as error:
        await verify_with_chain(entry, "http://127.0.0.1:1")
    assert "--rpc" in error.value.next_step
