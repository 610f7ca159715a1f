"""Passkeys as owners: operations on the chain, and every way in which an answer is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_abi.abi import decode

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.contracts import ContractRefused, Owner
from agentnexus.rails.evm.encoding import keccak
from agentnexus.rails.evm.userops import Assertion, OperationSigner, passkey_owner
from agentnexus.rails.evm.userops.passkeys import PRECOMPILE, has_precompile
from tests.userops.conftest import Bench, Wallet
from tests.userops.soft_passkey import SoftPasskey

DIGEST = keccak(b"an operation")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def owned(bench: Bench, passkey: SoftPasskey, signer: OperationSigner) -> Wallet:
    wallet = await bench.wallet(plan=passkey.plan())
    await bench.chain.mint(wallet.address, 10)
    return replace(wallet, signer=signer)


async def test_a_passkeys_account_is_made_and_acts(bench: Bench) -> None:
    passkey = SoftPasskey()
    wallet = await owned(bench, passkey, passkey.signer())
    bob = bench.chain.accounts["bob"].address
    before = await bench.chain.usdc_of(bob)
    for _ in range(3):  # signatures differ: some have a high s
        assert (await wallet.run(wallet.transfer(bob, 2))).succeeded
    assert await bench.chain.usdc_of(bob) == before + 6


async def test_a_p256_key_without_a_browser_acts(bench: Bench) -> None:
    passkey = SoftPasskey()
    wallet = await owned(bench, passkey, passkey.plain_signer())
    for _ in range(3):
        assert (await wallet.run(wallet.transfer(bench.chain.accounts["bob"].address, 1))).succeeded


async def test_another_passkey_is_refused(bench: Bench) -> None:
    passkey = SoftPasskey()
    wallet = await owned(bench, passkey, passkey.signer())
    operation = await wallet.build(wallet.transfer(wallet.address, 0), signer=SoftPasskey().signer())
    with pytest.raises(ContractRefused) as caught:
        await bench.bundler.send(operation)
    assert caught.value.code_name == "AA24"
    assert "sign" in caught.value.next_step


async def test_the_chain_says_whether_it_checks_p256_itself(bench: Bench) -> None:
    assert await has_precompile(bench.chain.rpc)
    await bench.chain.rpc.call("anvil_setCode", "0x" + "77" * 20, "0x00")
    assert PRECOMPILE == "0x0000000000000000000000000000000000000100"


def test_the_usual_answer_of_a_browser_has_its_parts_where_contracts_expect_them() -> None:
    passkey = SoftPasskey()
    assertion = Assertion.from_browser(*passkey.answer(DIGEST))
    r, s, challenge_at, type_at, data, client = decode(
        ["bytes32", "bytes32", "uint256", "uint256", "bytes", "string"], assertion.encode()
    )
    assert (challenge_at, type_at) == (23, 1)
    assert (data, client) == (assertion.authenticator_data, assertion.client_data)
    assert int.from_bytes(r, "big") == assertion.r
    assert int.from_bytes(s, "big") == assertion.s <= ORDER // 2


def test_the_lower_of_the_two_forms_of_a_signature_is_taken() -> None:
    passkey = SoftPasskey()
    assert all(Assertion.from_browser(*passkey.answer(DIGEST)).s <= ORDER // 2 for _ in range(20))


def test_offsets_count_bytes_where_the_answer_begins_with_something_else() -> None:
    text = '{"näher":"ü","challenge":"abc","type":"webauthn.get"}'
    encoded = Assertion(bytes(37), text, 1, 1).encode()
    _, _, challenge_at, type_at, _, client = decode(
        ["bytes32", "bytes32", "uint256", "uint256", "bytes", "string"], encoded
    )
    raw = client.encode()
    assert raw[challenge_at:].startswith(b'"challenge":"')
    assert raw[type_at:].startswith(b'"type":"webauthn.get"')


def test_the_owners_answer_is_known_before_it_is_sent() -> None:
    passkey = SoftPasskey()
    answer = Assertion.from_browser(*passkey.answer(DIGEST))
    assert answer.signs(DIGEST, passkey.owner)
    assert not answer.signs(keccak(b"other"), passkey.owner)
    assert not answer.signs(DIGEST, SoftPasskey().owner)
    assert not replace(answer, authenticator_data=answer.authenticator_data + b"\0").signs(DIGEST, passkey.owner)
    assert not replace(answer, r=answer.r ^ 1).signs(DIGEST, passkey.owner)
    assert not replace(answer, client_data="no json").signs(DIGEST, passkey.owner)
    assert not replace(answer, client_data="[]").signs(DIGEST, passkey.owner)
    assert not answer.signs(DIGEST, Owner(x=b"\x01" * 32, y=b"\x01" * 32))


def test_an_answer_to_a_registration_is_no_signature() -> None:
    passkey = SoftPasskey()
    data, client, signature = passkey.answer(DIGEST, type="webauthn.create")
    answer = Assertion.from_browser(data, client, signature)
    assert not answer.signs(DIGEST, passkey.owner)
    with pytest.raises(InvalidInput, match="no signature of a challenge"):
        answer.encode()


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x04])
def test_a_passkey_that_did_not_check_its_user_is_refused(flags: int) -> None:
    with pytest.raises(NotAllowed) as caught:
        Assertion.from_browser(*SoftPasskey().answer(DIGEST, flags=flags))
    assert "userVerification" in caught.value.next_step


def test_damaged_answers_are_refused() -> None:
    data, client, signature = SoftPasskey().answer(DIGEST)
    for broken in ((data[:36], client, signature), (data, b"\xff\xfe", signature), (data, client, signature[:-1])):
        with pytest.raises(InvalidInput):
            Assertion.from_browser(*broken)


def test_a_public_key_is_read_in_both_forms() -> None:
    passkey = SoftPasskey()
    point = passkey.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert passkey_owner(point) == passkey_owner(passkey.public_key)
    assert passkey.owner.x == point[1:33]
    assert passkey.owner.y == point[33:]


def test_other_keys_are_no_passkeys() -> None:
    info = PublicFormat.SubjectPublicKeyInfo
    other_curve = ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(Encoding.DER, info)
    edwards = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, info)
    for wrong in (b"", b"nothing", bytes([4]) + b"\x01" * 64, other_curve, edwards):
        with pytest.raises(InvalidInput, match="P-256"):
            passkey_owner(wrong)
