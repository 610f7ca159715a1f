"""Whose gas is paid at all: accounts that run code we know, whatever they say of themselves."""

from __future__ import annotations

from collections.abc import Collection

from agentnexus.rails.evm.delegation import delegate_of
from agentnexus.rails.evm.encoding import keccak, rlp, to_hex
from agentnexus.rails.evm.paymaster.refusals import NotSponsored

# ERC-1167's code on the chain, with the implementation between the two.
_CLONE_HEAD, _CLONE_TAIL = bytes.fromhex("363d3d373d3d3d363d73"), bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


def implementation_of(factory: str) -> str:
    """The accounts' code: the factory makes it in its constructor (nonce 1, EIP-161)."""
    return to_hex(keccak(rlp([bytes.fromhex(factory[2:]), 1]))[12:])


def clone_code(implementation: str) -> bytes:
    """The code of an account that a factory made."""
    return _CLONE_HEAD + bytes.fromhex(implementation[2:]) + _CLONE_TAIL


def require_account(sender: str, code: bytes, implementation: str, delegates: Collection[str]) -> None:
    """Raises `NotSponsored` unless `code` is that of a clone of ours, or delegates to ours or one of `delegates`."""
    if code == clone_code(implementation) or delegate_of(code) in {implementation, *delegates}:
        return
    if not code:
        raise NotSponsored(
            f"there is no account at {sender}",
            next_step="send factory and factoryData, or the delegation (eip7702Auth), with its first operation",
        )
    raise NotSponsored(
        f"{sender} is no AgentNexus account: it runs other code",
        next_step="act from an account of our factory, or a key that delegates to its implementation (EIP-7702)",
    )
