"""Who signs what: dummies while gas is estimated, the request for an owner, and the check of their answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.contracts.entry_point import DELEGATION_MARKER, ENTRY_POINT
from agentnexus.rails.evm.contracts.paymaster import DUMMY_SIGNATURE
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.passkeys import Assertion, PasskeySigner
from agentnexus.rails.evm.userops.signers import ECDSA_KIND, PASSKEY_KIND
from agentnexus.wallets.model import Answer, KeySignature, Operation, SigningRequest, Wallet, WalletKind

_FIELDS = (
    ("sender", "address"),
    ("nonce", "uint256"),
    ("initCode", "bytes"),
    ("callData", "bytes"),
    ("accountGasLimits", "bytes32"),
    ("preVerificationGas", "uint256"),
    ("gasFees", "bytes32"),
    ("paymasterAndData", "bytes"),
)
_DOMAIN_FIELDS = (("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))
_TRY_AGAIN = "ask for what is to be signed again, and sign exactly that"


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An `OperationSigner` for what is built before its owner is asked: the dummy stays in the signature's place."""

    dummy: bytes
    extra_verification_gas: int = 0

    async def sign(self, operation_hash: bytes) -> bytes:
        return self.dummy


def unsigned(kind: WalletKind, *, precompiled: bool) -> Unsigned:
    """What stands for the signature of such a wallet; `precompiled` as `PasskeySigner` has it."""
    if kind is not WalletKind.PASSKEY:
        return Unsigned(ECDSA_KIND + DUMMY_SIGNATURE)
    like = PasskeySigner(_nobody, precompiled=precompiled)
    return Unsigned(like.dummy, like.extra_verification_gas)


async def _nobody(_digest: bytes) -> Assertion:
    raise NotAllowed("nobody is asked while gas is estimated", next_step="ask the wallet's owner to sign")


@dataclass(frozen=True, slots=True)
class Undelegated:
    """Stands for a key whose delegation (EIP-7702) is still to be signed: an `EvmSigner` of 65 empty bytes."""

    public_id: str
    kind: NetworkKind

    async def sign(self, message: bytes) -> bytes:
        return bytes(64) + b"\x1b"


def request_for(wallet: Wallet, operation: Operation, body: UserOperation, chain_id: int) -> SigningRequest:
    """What the owner is to sign for an operation that is built."""
    assert operation.valid_until is not None
    delegation = body.delegation
    return SigningRequest(
        operation_id=operation.id,
        kind=wallet.kind,
        hash=body.hash(chain_id),
        valid_until=operation.valid_until,
        credential_id=wallet.credential_id,
        typed_data=None if wallet.kind is WalletKind.PASSKEY else typed_data(body, chain_id),
        delegation=None
        if delegation is None
        else {"chainId": delegation.chain_id, "address": delegation.delegate, "nonce": delegation.nonce},
    )


def typed_data(body: UserOperation, chain_id: int) -> dict[str, object]:
    """The operation as EIP-712 JSON (``eth_signTypedData_v4``), whose digest is its hash."""
    packed = body.pack()
    init_code = packed.init_code
    if body.delegate is not None and init_code[:20] == DELEGATION_MARKER:
        init_code = bytes.fromhex(body.delegate[2:]) + init_code[20:]
    return {
        "types": {
            "EIP712Domain": [{"name": name, "type": kind} for name, kind in _DOMAIN_FIELDS],
            "PackedUserOperation": [{"name": name, "type": kind} for name, kind in _FIELDS],
        },
        "primaryType": "PackedUserOperation",
        "domain": {"name": "ERC4337", "version": "1", "chainId": chain_id, "verifyingContract": ENTRY_POINT},
        "message": {
            "sender": packed.sender,
            "nonce": str(packed.nonce),
            "initCode": to_hex(init_code),
            "callData": to_hex(packed.call_data),
            "accountGasLimits": to_hex(packed.account_gas_limits),
            "preVerificationGas": str(packed.pre_verification_gas),
            "gasFees": to_hex(packed.gas_fees),
            "paymasterAndData": to_hex(packed.paymaster_and_data),
        },
    }


def signed(wallet: Wallet, body: UserOperation, answer: Answer, chain_id: int) -> UserOperation:
    """The operation with its owner's signature. Raises `NotAllowed` for a wrong one, `InvalidInput` for no such one."""
    digest = body.hash(chain_id)
    if wallet.kind is WalletKind.PASSKEY:
        if not isinstance(answer, Assertion):
            raise InvalidInput(
                "this wallet is signed for by a passkey",
                field="signature",
                next_step="send authenticator_data, client_data and signature",
            )
        if not answer.signs(digest, wallet.owner):
            raise NotAllowed("this is not the wallet's passkey over this operation", next_step=_TRY_AGAIN)
        return body.signed(PASSKEY_KIND + answer.encode())
    if not isinstance(answer, KeySignature):
        raise InvalidInput(
            "this wallet is signed for by a key", field="signature", next_step="send 65 bytes of signature as 0x… hex"
        )
    if recover(digest, answer.signature) != wallet.owner.key:
        raise NotAllowed(f"this is no signature of {wallet.owner.key} over this operation", next_step=_TRY_AGAIN)
    whole = body.signed(ECDSA_KIND + _with_usual_parity(answer.signature))
    if body.delegation is None:
        return whole
    return replace(whole, delegation=_delegated(wallet, body.delegation, answer.delegation))


def _delegated(wallet: Wallet, asked: DelegationSignature, signature: bytes) -> DelegationSignature:
    """The delegation as it was asked for, with the key's signature."""
    if len(signature) != 65:
        raise InvalidInput(
            "the operation also needs the delegation (EIP-7702) signed",
            field="delegation",
            next_step="sign what `delegation` of the request says, and send 65 bytes as 0x… hex",
        )
    usual = _with_usual_parity(signature)
    r, s = (int.from_bytes(usual[at : at + 32], "big") for at in (0, 32))
    given = replace(asked, parity=usual[64] - 27, r=r, s=s)
    if recover(asked.digest, signature) != wallet.address:
        raise NotAllowed(f"this is no delegation signed by {wallet.address}", next_step=_TRY_AGAIN)
    return given


def _with_usual_parity(signature: bytes) -> bytes:
    """Contracts take 27 or 28 where some wallets give 0 or 1."""
    return signature[:64] + bytes([signature[64] + 27 if signature[64] < 27 else signature[64]])
