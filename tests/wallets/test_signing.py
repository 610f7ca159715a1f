"""What is asked to be signed: the same as other tools compute, and answers that are checked before anything else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.devnet.accounts import development_accounts
from agentnexus.rails.evm.contracts import Owner
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import checksum_address, to_hex
from agentnexus.rails.evm.networks import NETWORKS, NetworkKind
from agentnexus.rails.evm.userops import UserOperation
from agentnexus.rails.evm.userops.passkeys import Assertion
from agentnexus.rails.evm.userops.signers import ECDSA_KIND, PASSKEY_KIND
from agentnexus.wallets.building import lane_of, nonce_for
from agentnexus.wallets.model import GasPayer, KeySignature, Operation, OperationState, Wallet, WalletKind
from agentnexus.wallets.signing import Undelegated, request_for, signed, typed_data, unsigned
from tests.userops.soft_passkey import SoftPasskey

CHAIN = 31337
ALICE = development_accounts()["alice"]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
BODY = UserOperation(
    ALICE.address,
    nonce_for("op_1"),
    b"\x01\x02",
    factory="0x" + "34" * 20,
    factory_data=b"\x05",
    call_gas_limit=1,
    verification_gas_limit=2,
    pre_verification_gas=3,
    max_fee_per_gas=5,
    max_priority_fee_per_gas=4,
    paymaster="0x" + "56" * 20,
    paymaster_verification_gas_limit=6,
    paymaster_post_op_gas_limit=7,
    paymaster_data=b"\x08",
)
DELEGATING = UserOperation(
    ALICE.address, nonce_for("op_2"), b"\x01", delegation=DelegationSignature(CHAIN, "0x" + "ab" * 20, 7, 0, 0, 0)
)


def wallet(kind: WalletKind, owner: Owner | None = None) -> Wallet:
    return Wallet(
        "wal_1", "alice", "eip155:31337", ALICE.address, kind, owner or Owner(ALICE.address), NOW, "credential"
    )


def operation() -> Operation:
    return Operation(
        "op_1",
        "alice",
        "wal_1",
        "k",
        "send",
        "Send",
        GasPayer.SPONSOR,
        OperationState.UNSIGNED,
        NOW,
        NOW,
        valid_until=NOW,
    )


@pytest.mark.parametrize("body", [BODY, DELEGATING])
def test_the_typed_data_has_the_operations_hash_for_other_tools_too(body: UserOperation) -> None:
    told = typed_data(body, CHAIN)
    signature = EthAccount.sign_message(encode_typed_data(full_message=told), ALICE.private_key).signature
    answer = KeySignature(bytes(signature))
    kind = WalletKind.KEY
    if body.delegation is not None:
        kind, delegation = (
            WalletKind.DELEGATED,
            EthAccount.from_key(ALICE.private_key).sign_authorization(
                {"chainId": CHAIN, "address": checksum_address(body.delegation.delegate), "nonce": 7}
            ),
        )
        parts = delegation.r.to_bytes(32, "big") + delegation.s.to_bytes(32, "big") + bytes([delegation.y_parity])
        answer = KeySignature(answer.signature, parts)
    whole = signed(wallet(kind), body, answer, CHAIN)
    assert whole.signature == ECDSA_KIND + bytes(signature)
    assert whole.hash(CHAIN) == body.hash(CHAIN)
    if whole.delegation is not None:
        assert whole.delegation.signer() == ALICE.address


async def test_a_signature_with_the_other_parity_is_sent_as_contracts_take_it() -> None:
    usual = await ALICE.signer.sign(BODY.hash(CHAIN))
    other = usual[:64] + bytes([usual[64] - 27])
    assert signed(wallet(WalletKind.KEY), BODY, KeySignature(other), CHAIN).signature == ECDSA_KIND + usual


async def test_a_delegation_by_another_key_or_of_something_else_is_refused() -> None:
    good = await ALICE.signer.sign(DELEGATING.hash(CHAIN))
    assert DELEGATING.delegation is not None
    bob = await development_accounts()["bob"].signer.sign(DELEGATING.delegation.digest)
    for wrong in (bob, bytes(65), good):
        with pytest.raises(NotAllowed):
            signed(wallet(WalletKind.DELEGATED), DELEGATING, KeySignature(good, wrong), CHAIN)
    for missing in (b"", b"\x01" * 64):
        with pytest.raises(InvalidInput, match="7702"):
            signed(wallet(WalletKind.DELEGATED), DELEGATING, KeySignature(good, missing), CHAIN)


async def test_the_answer_is_of_the_wallets_kind() -> None:
    passkey = SoftPasskey()
    assertion = Assertion.from_browser(*passkey.answer(BODY.hash(CHAIN)))
    key = KeySignature(await ALICE.signer.sign(BODY.hash(CHAIN)))
    owned = wallet(WalletKind.PASSKEY, passkey.owner)
    assert signed(owned, BODY, assertion, CHAIN).signature == PASSKEY_KIND + assertion.encode()
    with pytest.raises(InvalidInput, match="passkey"):
        signed(owned, BODY, key, CHAIN)
    with pytest.raises(InvalidInput, match="key"):
        signed(wallet(WalletKind.KEY), BODY, assertion, CHAIN)
    with pytest.raises(NotAllowed):
        signed(wallet(WalletKind.PASSKEY, SoftPasskey().owner), BODY, assertion, CHAIN)


def test_a_request_says_who_signs_what() -> None:
    keyed = request_for(wallet(WalletKind.KEY), operation(), BODY, CHAIN)
    assert (keyed.hash, keyed.delegation) == (BODY.hash(CHAIN), None)
    assert keyed.typed_data is not None
    passkey = request_for(wallet(WalletKind.PASSKEY), operation(), BODY, CHAIN)
    assert (passkey.typed_data, passkey.credential_id) == (None, "credential")
    delegated = request_for(wallet(WalletKind.DELEGATED), operation(), DELEGATING, CHAIN)
    assert delegated.delegation == {"chainId": CHAIN, "address": "0x" + "ab" * 20, "nonce": 7}


async def test_dummies_are_as_long_as_real_signatures_and_never_right() -> None:
    passkey = SoftPasskey()
    assertion = Assertion.from_browser(*passkey.answer(BODY.hash(CHAIN)))
    dummy = unsigned(WalletKind.PASSKEY, precompiled=True)
    assert await dummy.sign(bytes(32)) == dummy.dummy
    assert abs(len(dummy.dummy) - len(PASSKEY_KIND + assertion.encode())) <= 64
    slow = unsigned(WalletKind.PASSKEY, precompiled=False)
    assert slow.extra_verification_gas > dummy.extra_verification_gas
    for kind in (WalletKind.SERVER, WalletKind.KEY, WalletKind.DELEGATED):
        assert len(unsigned(kind, precompiled=True).dummy) == 66
    nobody = Undelegated(ALICE.address, NetworkKind.LOCAL)
    assert len(await nobody.sign(bytes(32))) == 65


def test_every_operation_has_a_lane_and_one_nonce_of_its_own() -> None:
    lanes = {lane_of(f"op_{number}") for number in range(1_000)}
    assert len(lanes) == 1_000
    assert max(lanes) < 1 << 192
    assert nonce_for("op_1") == lane_of("op_1") << 64
    assert NETWORKS[CHAIN].kind is NetworkKind.LOCAL
    assert to_hex(BODY.hash(CHAIN)) != to_hex(BODY.hash(CHAIN + 1))
