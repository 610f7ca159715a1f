"""Peer test: what the official x402 package signs we settle, and what we sign it accepts."""

from __future__ import annotations

import pytest
from eth_account import Account
from tests.evm.conftest import Desk
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.mechanisms.evm.types import ExactEIP3009Authorization, ExactEIP3009Payload
from x402.schemas import PaymentRequirements

from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.encoding import checksum_address
from agentnexus.rails.evm.token import Token

pytestmark = pytest.mark.peer


def official_hash(desk: Desk, authorization: ExactEIP3009Authorization) -> bytes:
    token = checksum_address(desk.chain.usdc.reference)
    return bytes(hash_eip3009_authorization(authorization, desk.chain.chain_id, token, "USD Coin", "2"))


async def test_the_official_client_pays_us(desk: Desk) -> None:
    client = ExactEvmScheme(EthAccountSigner(Account.from_key(desk.chain.accounts["buyer"].private_key)))
    requirements = PaymentRequirements.model_validate(dict(desk.request().reference))
    signed = SignedAuthorization.from_json(client.create_payment_payload(requirements))
    await desk.settler.verify(signed, desk.requirement())
    assert (await desk.settler.settle(signed, desk.requirement())).payer == desk.rail.address
    assert await desk.seller_earned() == 10_000


async def test_our_payload_is_one_the_official_package_reads_and_hashes_the_same(desk: Desk) -> None:
    hold = await desk.rail.open(desk.request(), "job-1")
    payload = hold.payment.evidence["payload"]
    assert isinstance(payload, dict)
    theirs = ExactEIP3009Payload.from_dict(payload)
    ours = SignedAuthorization.from_json(payload)
    domain = await Token(desk.chain.rpc, desk.chain.usdc.reference, desk.chain.chain_id).domain()
    digest = official_hash(desk, theirs.authorization)
    assert digest == ours.authorization.digest(domain)
    assert Account._recover_hash(digest, signature=ours.signature).lower() == desk.rail.address
