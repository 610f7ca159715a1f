"""Signatures of smart accounts: checked by the contract itself (ERC-1271), also of accounts not made yet (ERC-6492).

Our accounts bind a signature to themselves (ERC-7739): what an owner signs is not the digest but `bound_digest` of it,
so one owner's signature for one account is none for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from agentnexus.core.errors import InvalidInput, NotAllowed, Unavailable
from agentnexus.rails.evm.contracts.abi import abi_of, decode_values, encode_values
from agentnexus.rails.evm.contracts.account import VALID_SIGNATURE
from agentnexus.rails.evm.contracts.contract import as_bytes, as_text
from agentnexus.rails.evm.encoding import from_hex, keccak, to_hex
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, RpcValue, call_data, method_missing
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.evm.typed_data import Domain

_MAGIC = bytes.fromhex("6492" * 16)
_WRAPPING = ["address", "bytes", "bytes"]
_PERSONAL_SIGN = keccak(b"PersonalSign(bytes prefixed)")
# A passkey checked in Solidity takes a quarter of a million; making an account as much.
GAS_MAX = 1_000_000
TIMEOUT_SECONDS = 5.0


def bound_digest(digest: bytes, account: str, chain_id: int) -> bytes:
    """What an owner of our account signs so that the account calls it a signature of `digest`."""
    return Domain("AgentNexus Account", "1", chain_id, account).digest(keccak(_PERSONAL_SIGN + digest))


def wrap_undeployed(signature: bytes, factory: str, factory_data: bytes) -> bytes:
    """A signature that carries how to make its account, for whoever checks it before that happened."""
    return encode_values(_WRAPPING, [factory, factory_data, signature]) + _MAGIC


def unwrap(signature: bytes) -> tuple[str, bytes, bytes] | None:
    """Factory, its calldata and the signature inside; None for one that is not wrapped. Raises `InvalidInput`."""
    if not signature.endswith(_MAGIC):
        return None
    factory, data, inner = decode_values(_WRAPPING, signature[: -len(_MAGIC)], field="signature")
    return as_text(factory).lower(), as_bytes(data), as_bytes(inner)


async def verify_signature(
    rpc: Rpc,
    address: str,
    digest: bytes,
    signature: bytes,
    *,
    factories: Collection[str],
    gas_max: int = GAS_MAX,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> bool:
    """Whether `signature` is the address's over `digest`, as of the chain's latest block.

    The order is ERC-6492's: a wrapped signature, then a contract's own opinion, then an ordinary key. Whoever signs
    chooses what runs here, so gas and time are capped, and only `factories` (lower case) may make an account.

    Raises `NotAllowed` for another factory, `InvalidInput` for a damaged wrapping, `Unavailable` when the node gives no
    answer in time.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            wrapped, deployed = unwrap(signature), await _has_code(rpc, address)
            if wrapped is None:
                plain = recover(digest, signature) == address
                return await _ask(rpc, address, digest, signature, gas_max) if deployed else plain
            if deployed:
                return await _ask(rpc, address, digest, wrapped[2], gas_max)
            _require_known(wrapped[0], factories)
            return await _make_and_ask(rpc, address, digest, wrapped, gas_max)
    except TimeoutError:
        raise Unavailable(
            "checking the signature took too long", next_step="try again; the node or the account is slow"
        ) from None


def _require_known(factory: str, factories: Collection[str]) -> None:
    if factory not in factories:
        raise NotAllowed(
            f"accounts of the factory {factory} are not known here",
            next_step="use an account that is deployed, or one of our factory",
        )


async def _make_and_ask(rpc: Rpc, address: str, digest: bytes, wrapped: tuple[str, bytes, bytes], gas_max: int) -> bool:
    """Both in one simulation, after which the chain is as before."""
    factory, factory_data, inner = wrapped
    calls: list[RpcValue] = [
        {"to": factory, "data": to_hex(factory_data), "gas": hex(gas_max)},
        {"to": address, "data": to_hex(_question(digest, inner)), "gas": hex(gas_max)},
    ]
    try:
        answer = await rpc.call("eth_simulateV1", {"blockStateCalls": [{"calls": calls}]}, "latest")
    except Reverted:
        return False
    except NodeError as error:
        if method_missing(error):
            raise Unavailable(
                "this node cannot simulate, so signatures of accounts that are not deployed cannot be checked",
                next_step="use a node with eth_simulateV1, or deploy the account by its first operation",
            ) from error
        raise
    return _answered_yes(answer)


def _answered_yes(answer: RpcValue) -> bool:
    """Whether both simulated calls went through and the second returned the magic value."""
    (block,) = answer if isinstance(answer, list) and len(answer) == 1 else [None]
    results = block.get("calls") if isinstance(block, dict) else None
    if not isinstance(results, list) or len(results) != 2:
        raise InvalidInput("the node's simulation cannot be read", field="eth_simulateV1")
    made, checked = results
    if not isinstance(made, dict) or not isinstance(checked, dict):
        return False
    if made.get("status") != "0x1" or checked.get("status") != "0x1":
        return False
    return _is_valid(from_hex(checked.get("returnData"), field="returnData"))


async def _has_code(rpc: Rpc, address: str) -> bool:
    (answer,) = await rpc.batch([RpcCall("eth_getCode", (address, "latest"))])
    return call_data(answer) != b""


async def _ask(rpc: Rpc, address: str, digest: bytes, signature: bytes, gas_max: int) -> bool:
    request: dict[str, RpcValue] = {
        "to": address,
        "data": to_hex(_question(digest, signature)),
        "gas": hex(gas_max),
    }
    (answer,) = await rpc.batch([RpcCall("eth_call", (request, "latest"))])
    if isinstance(answer, Reverted):
        return False
    return _is_valid(call_data(answer))


def _question(digest: bytes, signature: bytes) -> bytes:
    return abi_of("Account").encode("isValidSignature", (digest, signature))


def _is_valid(returned: bytes) -> bool:
    return returned[:32] == VALID_SIGNATURE.ljust(32, b"\0")
