"""ERC-20 tokens with ERC-3009: call data, reads, events, and the meaning of their refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.encoding import (
    dynamic_bytes,
    from_hex,
    selector,
    string,
    to_hex,
    topic,
    uint,
    word,
    word_address,
)
from agentnexus.rails.evm.errors import Refusal, Reverted
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Rpc, call_data, eth_call
from agentnexus.rails.evm.typed_data import Domain

TRANSFER_TOPIC = topic("Transfer(address,address,uint256)")
USED_TOPIC = topic("AuthorizationUsed(address,bytes32)")
CANCELED_TOPIC = topic("AuthorizationCanceled(address,bytes32)")

_BALANCE_OF = selector("balanceOf(address)")
_AUTHORIZATION_STATE = selector("authorizationState(address,bytes32)")
_TRANSFER = selector("transfer(address,uint256)")
_SIX = "address,address,uint256,uint256,uint256,bytes32"
_TRANSFER_BY_PARTS = selector(f"transferWithAuthorization({_SIX},uint8,bytes32,bytes32)")
_TRANSFER_BY_BYTES = selector(f"transferWithAuthorization({_SIX},bytes)")
_CANCEL_BY_PARTS = selector("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")
_ERROR_STRING = selector("Error(string)")

# OpenZeppelin's errors by selector, then Circle's and older tokens' by words of their messages.
_REFUSAL_BY_SELECTOR = {
    selector("ERC3009UsedAuthorization(address,bytes32)"): Refusal.NONCE_USED,
    selector("ERC3009InvalidSignature()"): Refusal.BAD_SIGNATURE,
    selector("ERC3009InvalidAuthorizationTime(uint256,uint256)"): Refusal.EXPIRED,
    selector("ERC20InsufficientBalance(address,uint256,uint256)"): Refusal.INSUFFICIENT_BALANCE,
}
_REFUSAL_BY_WORDS = (
    ("used or canceled", Refusal.NONCE_USED),
    ("not yet valid", Refusal.NOT_YET_VALID),
    ("expired", Refusal.EXPIRED),
    ("exceeds balance", Refusal.INSUFFICIENT_BALANCE),
    ("invalid signature", Refusal.BAD_SIGNATURE),
)


def balance_call(owner: str) -> bytes:
    return _BALANCE_OF + word(owner)


def authorization_state_call(payer: str, nonce: bytes) -> bytes:
    return _AUTHORIZATION_STATE + word(payer) + word(nonce)


def transfer_call(payee: str, value: int) -> bytes:
    return _TRANSFER + word(payee) + word(value)


def transfer_with_authorization_call(signed: SignedAuthorization, *, contract_wallet: bool) -> bytes:
    """The call that moves the money.

    `(v, r, s)` is the form every ERC-3009 token has; a contract wallet's signature only fits the ``bytes`` form.
    """
    arguments = signed.authorization.arguments()
    if contract_wallet:
        return _TRANSFER_BY_BYTES + arguments + word(7 * 32) + dynamic_bytes(signed.signature)
    return _TRANSFER_BY_PARTS + arguments + _parts(signed.signature)


def cancel_authorization_call(payer: str, nonce: bytes, signature: bytes) -> bytes:
    return _CANCEL_BY_PARTS + word(payer) + word(nonce) + _parts(signature)


def refusal_of(error: Reverted) -> Refusal:
    """What a token meant by refusing; `WOULD_REVERT` when it does not say in a way we know."""
    known = _REFUSAL_BY_SELECTOR.get(error.data[:4])
    if known:
        return known
    text = error.message
    if error.data[:4] == _ERROR_STRING:
        text += string(error.data[4:])
    lower = text.lower()
    return next((refusal for words, refusal in _REFUSAL_BY_WORDS if words in lower), Refusal.WOULD_REVERT)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One ERC-20 transfer as an event states it."""

    payer: str
    payee: str
    value: int
    log: Log


def transfers(logs: Sequence[Log], token: str) -> list[Transfer]:
    """All transfers of `token` among these logs; malformed ones are left out."""
    return [
        Transfer(word_address(log.topics[1]), word_address(log.topics[2]), uint(log.data), log)
        for log in logs
        if log.contract == token and len(log.topics) == 3 and log.topics[0] == TRANSFER_TOPIC and len(log.data) == 32
    ]


def used_authorizations(logs: Sequence[Log], token: str) -> set[tuple[str, str]]:
    """Authorisations for `token` that were collected, among these logs: payer and nonce (hex)."""
    return _ended(logs, token, USED_TOPIC)


def cancelled_authorizations(logs: Sequence[Log], token: str) -> set[tuple[str, str]]:
    """Those that their payers took back."""
    return _ended(logs, token, CANCELED_TOPIC)


def _ended(logs: Sequence[Log], token: str, topic: str) -> set[tuple[str, str]]:
    return {
        (word_address(log.topics[1]), log.topics[2])
        for log in logs
        if log.contract == token and len(log.topics) == 3 and log.topics[0] == topic
    }


def paid(logs: Sequence[Log], token: str, *, payer: str, payee: str, value: int, nonce: bytes | None = None) -> bool:
    """Do these logs say that exactly this payment happened (by exactly this authorisation, when a nonce is given)?"""
    if nonce is not None:
        mark = (USED_TOPIC, to_hex(word(payer)), to_hex(nonce))
        if not any(log.contract == token and log.topics == mark for log in logs):
            return False
    wanted = (payer, payee, value)
    return any((each.payer, each.payee, each.value) == wanted for each in transfers(logs, token))


class Token:
    """One token contract on one node."""

    def __init__(self, rpc: Rpc, contract: str, chain_id: int) -> None:
        self.contract = contract
        self._rpc = rpc
        self._chain_id = chain_id
        self._domain: Domain | None = None

    async def balance(self, owner: str) -> int:
        return uint(await self._rpc.read_contract(self.contract, balance_call(owner)))

    async def domain(self, name: str | None = None, version: str | None = None) -> Domain:
        """The domain its signatures are bound to, checked against the contract once.

        `name` and `version` are what somebody claims (x402 sends them along); a wrong claim raises `InvalidInput`.
        """
        if self._domain is None:
            self._domain = await self._read_domain(name, version)
        if (name or self._domain.name, version or self._domain.version) != (self._domain.name, self._domain.version):
            raise InvalidInput(
                f"the token signs as {self._domain.name!r} version {self._domain.version!r},"
                f" not {name!r} version {version!r}",
                field="extra",
            )
        return self._domain

    async def _read_domain(self, name: str | None, version: str | None) -> Domain:
        calls = [eth_call(self.contract, selector(f"{each}()")) for each in ("DOMAIN_SEPARATOR", "name", "version")]
        separator, stated_name, stated_version = await self._rpc.batch(calls)
        if isinstance(separator, Exception):
            raise InvalidInput(
                f"{self.contract} is not a token with signed transfers",
                field="asset",
                next_step="use a token with ERC-3009, such as USDC",
            )
        candidates = [(name, version)]
        if not isinstance(stated_name, Exception) and not isinstance(stated_version, Exception):
            candidates.insert(0, (string(call_data(stated_name)), string(call_data(stated_version))))
        for each_name, each_version in candidates:
            domain = Domain(each_name or "", each_version or "", self._chain_id, self.contract)
            if domain.separator == from_hex(separator, field="DOMAIN_SEPARATOR"):
                return domain
        raise InvalidInput(
            f"the signing domain of {self.contract} is not {name!r} version {version!r}",
            field="extra",
            next_step="ask the seller for the token's EIP-712 name and version",
        )


def _parts(signature: bytes) -> bytes:
    """A 65-byte signature as the words v, r, s."""
    v = signature[64] + 27 if signature[64] < 27 else signature[64]
    return word(v) + signature[:64]
