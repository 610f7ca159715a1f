"""The facilitator on a real chain: every refusal in the protocol's words, one settlement however often it is asked."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.evm.conftest import load_test_artifact
from tests.x402.support import PRICE, START, requirement, sign
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitator import REASONS, Facilitator
from agentnexus.markets.x402.facilitator_app import facilitator_app
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.sponsor import SponsorLimits
from agentnexus.markets.x402.wire import MAX_BODY_BYTES, Resource, to_json, to_v1
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization, cancellation_digest, nonce_for
from agentnexus.rails.evm.encoding import word
from agentnexus.rails.evm.errors import Refusal
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.settlement import AuthorizationSettler
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import Token, cancel_authorization_call, transfer_with_authorization_call
from agentnexus.rails.evm.transactions import Intent, TransactionSender


@pytest.fixture
def buyer(chain: DevelopmentChain) -> LocalSigner:
    return chain.accounts["buyer"].signer


def paying(payload: dict[str, object], asked: PaymentRequirements, **more: object) -> PaymentPayload:
    return PaymentPayload(x402_version=2, payload=payload, accepted=asked.model_copy(update=more))


async def good(buyer: LocalSigner, asked: PaymentRequirements, key: str = "f1", **wrong: object) -> PaymentPayload:
    return paying(await sign(buyer, asked, key, **wrong), asked)  # type: ignore[arg-type]  # passed through


async def test_a_good_payment_verifies_settles_and_moves_exactly_the_price(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    payload = await good(buyer, usdc_price)
    verified = await facilitator.verify(payload, usdc_price)
    assert (verified.is_valid, verified.payer) == (True, buyer.public_id)
    before = await chain.usdc_of(usdc_price.pay_to)
    settled = await facilitator.settle(payload, usdc_price)
    assert settled.success
    assert settled.amount == str(PRICE)
    assert await chain.usdc_of(usdc_price.pay_to) == before + PRICE
    assert (await facilitator.verify(payload, usdc_price)).invalid_reason == Reason.NONCE_USED


async def test_v1_messages_verify_and_settle_as_well(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    payload = PaymentPayloadV1(scheme="exact", network=usdc_price.network, payload=await sign(buyer, usdc_price, "v1"))
    asked = to_v1(usdc_price, Resource("http://h/x", "d"))
    assert (await facilitator.verify(payload, asked)).is_valid
    assert (await facilitator.settle(payload, asked)).success


async def test_settling_again_gives_the_same_transaction_and_spends_no_gas(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    payload = await good(buyer, usdc_price)
    first = await facilitator.settle(payload, usdc_price)
    relayer = chain.accounts["relayer"].address
    sent = await chain.rpc.read_int("eth_getTransactionCount", relayer, "latest")
    again = await asyncio.gather(*(facilitator.settle(payload, usdc_price) for _ in range(8)))
    assert {each.transaction for each in again} == {first.transaction}
    assert await chain.rpc.read_int("eth_getTransactionCount", relayer, "latest") == sent


DOMAIN = {"name": "USD Coin", "version": "2"}
WRONG = [
    ({"value": 1}, Reason.AUTHORIZATION_VALUE),
    ({"value": PRICE + 1}, Reason.AUTHORIZATION_VALUE),
    ({"payee": "0x" + "99" * 20}, Reason.RECIPIENT_MISMATCH),
    ({"valid_for": -10}, Reason.AUTHORIZATION_EXPIRED),
    ({"valid_after": START + 3000}, Reason.AUTHORIZATION_NOT_YET_VALID),
    ({"chain_id": 1}, Reason.INVALID_SIGNATURE),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
async def test_every_wrong_term_has_its_reason(
    facilitator: Facilitator,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    wrong: dict[str, object],
    reason: Reason,
) -> None:
    payload = await good(buyer, usdc_price, **wrong)
    verified = await facilitator.verify(payload, usdc_price)
    assert (verified.is_valid, verified.invalid_reason) == (False, reason)
    assert verified.invalid_message
    settled = await facilitator.settle(payload, usdc_price)
    assert (settled.success, settled.error_reason, settled.transaction) == (False, reason, "")


async def test_a_payer_without_the_money_is_refused_before_gas_is_spent(
    facilitator: Facilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    payload = await good(chain.accounts["outsider"].signer, usdc_price)
    relayer = chain.accounts["relayer"].address
    sent = await chain.rpc.read_int("eth_getTransactionCount", relayer, "latest")
    assert (await facilitator.verify(payload, usdc_price)).invalid_reason == Reason.INSUFFICIENT_BALANCE
    assert (await facilitator.settle(payload, usdc_price)).error_reason == Reason.INSUFFICIENT_BALANCE
    assert await chain.rpc.read_int("eth_getTransactionCount", relayer, "latest") == sent


@pytest.mark.parametrize(
    ("accepted", "asked", "reason"),
    [
        ({"scheme": "upto"}, {}, Reason.UNSUPPORTED_SCHEME),
        ({"network": "eip155:1"}, {}, Reason.NETWORK_MISMATCH),
        ({"network": "eip155:1"}, {"network": "eip155:1"}, Reason.INVALID_NETWORK),
        ({"network": "solana:x"}, {"network": "solana:x"}, Reason.INVALID_NETWORK),
        ({}, {"extra": {}}, Reason.MISSING_DOMAIN),
        (
            {},
            {"extra": {"name": "USD Coin", "version": "2", "assetTransferMethod": "permit2"}},
            Reason.UNSUPPORTED_SCHEME,
        ),
        ({}, {"extra": {"name": "Other", "version": "2"}}, Reason.EIP3009_NOT_SUPPORTED),
        ({}, {"asset": "0x" + "99" * 20}, Reason.INVALID_REQUIREMENTS),
        ({}, {"asset": "usdc"}, Reason.INVALID_REQUIREMENTS),
        ({}, {"amount": "1.5"}, Reason.INVALID_REQUIREMENTS),
    ],
)
async def test_requirements_that_make_no_sense_are_refused(
    facilitator: Facilitator,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    accepted: dict[str, object],
    asked: dict[str, object],
    reason: Reason,
) -> None:
    payload = paying(await sign(buyer, usdc_price, "f1"), usdc_price, **accepted)
    verified = await facilitator.verify(payload, usdc_price.model_copy(update=asked))
    assert (verified.is_valid, verified.invalid_reason) == (False, reason)


async def test_a_contract_wallet_pays_by_its_owners_signature_and_by_nobody_elses(
    facilitator: Facilitator, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    owner = chain.accounts["alice"]
    wallet = (await chain.deploy(load_test_artifact("ContractWallet") + word(owner.address))).lower()
    await chain.mint(wallet, PRICE)
    by_owner = await signed_for(wallet, owner.signer, usdc_price, chain)
    by_stranger = await signed_for(wallet, chain.accounts["bob"].signer, usdc_price, chain)
    assert not (await facilitator.verify(by_stranger, usdc_price)).is_valid
    assert (await facilitator.verify(by_owner, usdc_price)).payer == wallet
    assert (await facilitator.settle(by_owner, usdc_price)).success


async def signed_for(
    wallet: str, signer: LocalSigner, asked: PaymentRequirements, chain: DevelopmentChain
) -> PaymentPayload:
    """An authorisation of a contract wallet, signed by a key."""
    from dataclasses import replace

    own = SignedAuthorization.from_json(await sign(signer, asked, "wallet"))
    authorization = replace(own.authorization, payer=wallet)
    domain = await Token(chain.rpc, asked.asset, chain.chain_id).domain()
    signature = await signer.sign(authorization.digest(domain))
    return paying(SignedAuthorization(authorization, signature).to_json(), asked)


async def test_a_payment_that_needs_too_much_gas_is_not_sponsored(
    sender: TransactionSender, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    limits = SponsorLimits(gas_per_payment=21_000)
    thrifty = Facilitator.on(sender, chain.accounts["relayer"].signer, [chain.usdc], limits)
    payload = await good(buyer, usdc_price)
    assert (await thrifty.verify(payload, usdc_price)).invalid_reason == Reason.FEE_CAP_EXCEEDED
    assert (await thrifty.settle(payload, usdc_price)).error_reason == Reason.FEE_CAP_EXCEEDED


async def test_a_token_that_is_not_listed_is_never_settled(
    sender: TransactionSender, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    nothing_listed = Facilitator.on(sender, chain.accounts["relayer"].signer, [])
    payload = await good(buyer, usdc_price)
    assert (await nothing_listed.verify(payload, usdc_price)).invalid_reason == Reason.INVALID_REQUIREMENTS
    assert not (await nothing_listed.settle(payload, usdc_price)).success


async def test_a_sent_and_unmined_settlement_is_pending_with_its_transaction_and_ends_well(
    sender: TransactionSender, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    settler = AuthorizationSettler(sender, chain.accounts["relayer"].signer)
    facilitator = Facilitator([settler], [chain.usdc], settle_timeout_seconds=0.2)
    payload = await good(buyer, usdc_price)
    await chain.automine(False)
    pending = await facilitator.settle(payload, usdc_price)
    assert (pending.success, pending.error_reason) == (False, Reason.SETTLEMENT_PENDING)
    assert pending.transaction.startswith("0x")
    await chain.automine(True)
    await chain.mine()
    settled = await facilitator.settle(payload, usdc_price)
    assert (settled.success, settled.transaction) == (True, pending.transaction)


async def submit(sender: TransactionSender, signer: LocalSigner, token: str, data: bytes) -> str:
    intent = await sender.estimate(signer, Intent(token, data, 0))
    return (await sender.submit(signer, f"outside:{data.hex()[:80]}", intent)).transaction


async def test_an_authorisation_that_somebody_else_settled_is_neither_ours_nor_called_unpaid(
    facilitator: Facilitator,
    sender: TransactionSender,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
) -> None:
    """Another seller of the payee may have delivered for it; calling it unpaid would make the client pay twice."""
    payload = await good(buyer, usdc_price)
    signed = SignedAuthorization.from_json(payload.payload)
    data = transfer_with_authorization_call(signed, contract_wallet=False)
    transaction = await submit(sender, chain.accounts["bob"].signer, usdc_price.asset, data)
    settled = await facilitator.settle(payload, usdc_price)
    assert (settled.success, settled.error_reason) == (False, Reason.DUPLICATE_SETTLEMENT)
    assert settled.transaction == transaction


async def test_a_transaction_of_ours_that_was_given_up_and_mined_all_the_same_is_ours(
    facilitator: Facilitator,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    database: Database,
) -> None:
    payload = await good(buyer, usdc_price)
    settled = await facilitator.settle(payload, usdc_price)
    async with database.connection() as connection:
        await connection.execute("update evm.outgoing set state = 'rejected', mined_transaction = null")
    again = await facilitator.settle(payload, usdc_price)
    assert (again.success, again.transaction) == (True, settled.transaction)


async def test_a_settlement_belongs_to_the_claim_that_came_first(
    facilitator: Facilitator, remote: FacilitatorClient, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    payload = await good(buyer, usdc_price)
    first = await remote.settle_for(payload, usdc_price, "first")
    assert first.success
    assert await facilitator.settle_for(payload, usdc_price, "first") == first
    for other in (facilitator.settle_for(payload, usdc_price, "second"), remote.settle(payload, usdc_price)):
        refused = await other
        assert (refused.success, refused.error_reason) == (False, Reason.DUPLICATE_SETTLEMENT)
        assert refused.transaction == first.transaction


async def test_a_settlement_from_before_there_were_claims_is_anybodys(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements, database: Database
) -> None:
    payload = await good(buyer, usdc_price)
    before = await facilitator.settle(payload, usdc_price)
    async with database.connection() as connection:
        await connection.execute("update evm.settlement set claim = null")
    assert await facilitator.settle_for(payload, usdc_price, "later") == before


async def test_racing_claims_for_one_payment_have_one_winner(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    payload = await good(buyer, usdc_price)
    for number in range(2):  # both find it good before either settles
        assert (await facilitator.verify(payload, usdc_price)).is_valid, number
    settled = await asyncio.gather(*(facilitator.settle_for(payload, usdc_price, f"c{n}") for n in range(6)))
    assert sum(each.success for each in settled) == 1
    assert {each.error_reason for each in settled if not each.success} == {Reason.DUPLICATE_SETTLEMENT}


async def test_a_claim_that_is_no_word_is_refused(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    transport = httpx.ASGITransport(facilitator_app(facilitator), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        for claim in ("a b", "x" * 65):
            with pytest.raises(Unavailable, match="400"):
                await FacilitatorClient("http://facilitator", http).settle_for(
                    await good(buyer, usdc_price), usdc_price, claim
                )


async def test_a_cancelled_authorisation_is_refused_for_good(
    facilitator: Facilitator,
    sender: TransactionSender,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
) -> None:
    payload = await good(buyer, usdc_price, "cancelled")
    domain = await Token(chain.rpc, usdc_price.asset, chain.chain_id).domain()
    nonce = nonce_for("cancelled")
    signature = await buyer.sign(cancellation_digest(domain, buyer.public_id, nonce))
    data = cancel_authorization_call(buyer.public_id, nonce, signature)
    await submit(sender, chain.accounts["bob"].signer, usdc_price.asset, data)
    settled = await facilitator.settle(payload, usdc_price)
    assert (settled.success, settled.error_reason) == (False, Reason.INVALID_STATE)


async def test_a_nonce_used_for_another_payment_is_refused_for_good(
    facilitator: Facilitator,
    sender: TransactionSender,
    buyer: LocalSigner,
    usdc_price: PaymentRequirements,
    chain: DevelopmentChain,
) -> None:
    other = SignedAuthorization.from_json(await sign(buyer, usdc_price, "twice", payee=chain.accounts["alice"].address))
    data = transfer_with_authorization_call(other, contract_wallet=False)
    await submit(sender, chain.accounts["bob"].signer, usdc_price.asset, data)
    settled = await facilitator.settle(await good(buyer, usdc_price, "twice"), usdc_price)
    assert (settled.success, settled.error_reason) == (False, Reason.INVALID_STATE)


def test_every_refusal_of_the_rail_has_a_word_of_the_protocol() -> None:
    assert set(REASONS) == set(Refusal)


# --- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def remote(facilitator: Facilitator):
    transport = httpx.ASGITransport(facilitator_app(facilitator), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        yield await FacilitatorClient.connect("http://facilitator/", http)


async def test_a_seller_gets_the_same_answers_over_http(
    facilitator: Facilitator, remote: FacilitatorClient, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    payload = await good(buyer, usdc_price)
    assert remote.get_supported() == facilitator.get_supported()
    assert await remote.verify(payload, usdc_price) == await facilitator.verify(payload, usdc_price)
    settled = await remote.settle(payload, usdc_price)
    assert settled == await facilitator.settle(payload, usdc_price)
    assert settled.success
    used = await remote.verify(payload, usdc_price)
    assert (used.is_valid, used.invalid_reason) == (False, Reason.NONCE_USED)


async def test_supported_names_both_versions_and_the_relayer(facilitator: Facilitator, chain: DevelopmentChain) -> None:
    supported = facilitator.get_supported()
    assert {(kind.x402_version, kind.network) for kind in supported.kinds} == {
        (1, "eip155:31337"),
        (2, "eip155:31337"),
    }
    assert supported.signers == {"eip155:*": [chain.accounts["relayer"].address]}


async def test_an_invalid_payment_is_http_200_and_a_non_message_is_400(
    facilitator: Facilitator, buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    transport = httpx.ASGITransport(facilitator_app(facilitator), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://facilitator") as http:
        payload = to_json(await good(buyer, usdc_price, value=1))
        message = {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": to_json(usdc_price)}
        for path in ("/verify", "/settle"):
            assert (await http.post(path, json=message)).status_code == 200
            for body in (b"", b"[]", b"{}", b'{"paymentPayload":{},"paymentRequirements":{}}', b"\xff"):
                refused = await http.post(path, content=body)
                assert refused.status_code == 400
                assert refused.json()["error"]["code"] == "invalid_input"
            assert (await http.post(path, content=b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
            assert (await http.get(path)).status_code == 405
        assert (await http.get("/health")).json() == {"status": "healthy"}
        assert (await http.get("/supported")).json()["kinds"][0]["scheme"] == "exact"


async def test_a_dead_chain_is_not_a_refusal(
    sender: TransactionSender, buyer: LocalSigner, usdc_price: PaymentRequirements, chain: DevelopmentChain
) -> None:
    async with Rpc("http://127.0.0.1:9", connect_retries=0) as nowhere:
        lost = TransactionSender(sender.database, nowhere, chain.network, clock=SystemClock())
        facilitator = Facilitator.on(lost, chain.accounts["relayer"].signer, [chain.usdc])
        payload = await good(buyer, usdc_price)
        with pytest.raises(Unavailable):
            await facilitator.verify(payload, usdc_price)
        with pytest.raises(Unavailable):
            await facilitator.settle(payload, usdc_price)
        transport = httpx.ASGITransport(facilitator_app(facilitator), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(Unavailable, match="503"):
                await FacilitatorClient("http://facilitator", http).settle(payload, usdc_price)


async def test_a_facilitator_that_is_not_there_or_talks_nonsense_is_unavailable(
    buyer: LocalSigner, usdc_price: PaymentRequirements
) -> None:
    payload = await good(buyer, usdc_price)

    def nonsense(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=["not", "an", "object"])

    async with httpx.AsyncClient(transport=httpx.MockTransport(nonsense)) as http:
        with pytest.raises(Unavailable, match="not with an x402 message"):
            await FacilitatorClient("http://facilitator", http).verify(payload, usdc_price)
    async with httpx.AsyncClient() as http:
        with pytest.raises(Unavailable, match="does not answer"):
            await FacilitatorClient.connect("http://127.0.0.1:9", http)


def test_requirement_helper_and_fixture_agree(usdc_price: PaymentRequirements) -> None:
    assert usdc_price.extra == requirement().extra
