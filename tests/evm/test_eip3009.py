"""Authorisations: digests as eth_account makes them, and the x402 form read without trust."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, cancellation_digest, nonce_for
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner, recover
from agentnexus.rails.evm.typed_data import Domain

SECRET = b"\x11" * 32
DOMAIN = Domain("USD Coin", "2", 84532, "0x036cbd53842c5426634e7929541ec2318f3dcf7e")
TRANSFER_TYPE = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]
CANCEL_TYPE = [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]
uints = st.integers(0, 2**256 - 1)
addresses = st.binary(min_size=20, max_size=20).map(to_hex)
nonces = st.binary(min_size=32, max_size=32)
authorizations = st.builds(Authorization, addresses, addresses, uints, uints, uints, nonces)


def reference(primary: str, fields: list[dict[str, str]], message: dict[str, object]) -> tuple[bytes, bytes]:
    """Digest and signature by eth_account."""
    signable = encode_typed_data(
        domain_data={
            "name": DOMAIN.name,
            "version": DOMAIN.version,
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.contract,
        },
        message_types={primary: fields},
        message_data=message,
    )
    signed = Account.sign_message(signable, SECRET)
    return bytes(signed.message_hash), bytes(signed.signature)


@given(authorizations)
async def test_digest_and_signature_are_eth_accounts(authorization: Authorization) -> None:
    message = {
        "from": authorization.payer,
        "to": authorization.payee,
        "value": authorization.value,
        "validAfter": authorization.valid_after,
        "validBefore": authorization.valid_before,
        "nonce": authorization.nonce,
    }
    digest, signature = reference("TransferWithAuthorization", TRANSFER_TYPE, message)
    assert authorization.digest(DOMAIN) == digest
    signer = LocalSigner(SECRET, NetworkKind.TESTNET)
    assert await signer.sign(digest) == signature
    assert recover(digest, signature) == signer.public_id


@given(addresses, nonces)
def test_cancellation_digest_is_eth_accounts(payer: str, nonce: bytes) -> None:
    digest, _ = reference("CancelAuthorization", CANCEL_TYPE, {"authorizer": payer, "nonce": nonce})
    assert cancellation_digest(DOMAIN, payer, nonce) == digest


def test_another_chain_or_contract_is_another_digest() -> None:
    authorization = Authorization("0x" + "11" * 20, "0x" + "22" * 20, 1, 0, 2, bytes(32))
    elsewhere = [
        Domain(DOMAIN.name, DOMAIN.version, 8453, DOMAIN.contract),
        Domain(DOMAIN.name, "1", DOMAIN.chain_id, DOMAIN.contract),
        Domain("USDC", DOMAIN.version, DOMAIN.chain_id, DOMAIN.contract),
        Domain(DOMAIN.name, DOMAIN.version, DOMAIN.chain_id, "0x" + "33" * 20),
    ]
    assert len({authorization.digest(domain) for domain in [DOMAIN, *elsewhere]}) == 5


@given(authorizations, st.binary(min_size=1, max_size=200))
def test_the_json_form_comes_back(authorization: Authorization, signature: bytes) -> None:
    signed = SignedAuthorization(authorization, signature)
    assert SignedAuthorization.from_json(signed.to_json()) == signed


GOOD: dict[str, object] = {
    "from": "0x" + "11" * 20,
    "to": "0x" + "22" * 20,
    "value": "10000",
    "validAfter": "0",
    "validBefore": "4000000000",
    "nonce": "0x" + "33" * 32,
}


@pytest.mark.parametrize("field", list(GOOD))
@pytest.mark.parametrize("value", [None, "", "x", -1, 1.5, [], {}, "0x", "-5", "1e3", "01", " 7", "9" * 79, True])
def test_a_bad_field_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Authorization.from_json({**GOOD, field: value})
    assert caught.value.details["field"] == f"authorization.{field}"


def test_a_number_past_256_bits_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Authorization.from_json({**GOOD, "value": str(2**256)})


@pytest.mark.parametrize("payload", [None, [], "0x", {}, {"signature": "0x"}, {"signature": "0x" + "00" * 9000}])
def test_a_payload_that_is_none_is_refused(payload: object) -> None:
    with pytest.raises(InvalidInput):
        SignedAuthorization.from_json(payload)


def test_a_signature_without_an_authorisation_is_refused() -> None:
    with pytest.raises(InvalidInput, match="authorization"):
        SignedAuthorization.from_json({"signature": "0x00", "authorization": []})


def test_the_nonce_of_a_key_never_changes() -> None:
    assert nonce_for("job-1").hex() == "1e8d7affdec8df51ae5319b51f761c1e6cd166e9fa61e013889f2e65136eb73a"
    assert nonce_for("job-1") != nonce_for("job-2")
