"""Signing for a wallet with a key of one's own: what a node asks to sign is read and checked, and only then signed.

The node builds operations; the key never leaves this program. So nothing is believed: the hash is computed anew from
the typed data, and the calls inside must be the ones that were asked for, or be agreed to by the person.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self, TypeAlias, cast

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.money import EXACT
from agentnexus.rails.evm.contracts.abi import AbiValue, abi_of, decode_values
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT, PackedOperation
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, address, from_hex, selector, to_hex, word
from agentnexus.rails.evm.networks import NetworkKind, network_by_id
from agentnexus.rails.evm.signer import EvmSigner

_BATCH_MODE = b"\x01" + bytes(31)
_BATCH = "(address,uint256,bytes)[]"
COIN_DECIMALS, USDC_DECIMALS = 18, 6
_DO_NOT_TRUST = "do not trust this node"
TRANSFER, APPROVE = selector("transfer(address,uint256)"), selector("approve(address,uint256)")
_MINT = abi_of("Entitlements").function("mintWithVoucher")
_DEPOSIT = abi_of("Escrow").function("deposit")
_PASS = abi_of("Entitlements").function("safeTransferFrom")
Tokens: TypeAlias = "Mapping[str, tuple[str, int]]"
"""Symbol and decimals by address."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a node asks to sign, as this program read it: who sends what, by `digest`, on which chain.

    Args:
        gas_wei: the most of the chain's coin that the account itself may lose to whoever brings it on chain.
    """

    digest: bytes
    chain_id: int
    sender: str
    calls: Sequence[Call]
    delegation: DelegationSignature | None  # as yet without its signature
    gas_wei: int = 0

    @classmethod
    def read(cls, body: Mapping[str, object]) -> Self:
        """From the ``sign`` of an answer. Raises `NotAllowed` when it is no operation, or not the one it says."""
        typed = body.get("typed_data")
        if not isinstance(typed, dict):
            raise NotAllowed("this wallet is not signed for by a key", next_step="sign where its passkey is: /wallet")
        try:
            packed, chain_id = _operation(typed)
            digest = packed.hash(chain_id)
            delegation = _delegation(body.get("delegation"), packed, chain_id)
            calls = calls_of(packed.call_data)
        except (InvalidInput, ValueError, TypeError, LookupError, AttributeError) as error:
            raise NotAllowed("the node asks to sign something unreadable", next_step=_DO_NOT_TRUST) from error
        if body.get("hash") != to_hex(digest):
            raise NotAllowed("the node asks to sign another hash than its operation has", next_step=_DO_NOT_TRUST)
        return cls(digest, chain_id, packed.sender, calls, delegation, _own_gas(packed))

    def require_calls(self, wanted: Sequence[Call]) -> None:
        """Raises `NotAllowed` unless these and no others are made."""
        if list(self.calls) != list(wanted):
            raise NotAllowed("the node built something else than you asked for", next_step=_DO_NOT_TRUST)

    def require_gas(self, most: str) -> None:
        """Raises `NotAllowed` for an operation that may take more than `most` (decimal text) of the account's coin.

        Gas goes to whoever brings the operation on chain, so with limits of its choice a node could take all there is.
        """
        if self.gas_wei > atomic(most, COIN_DECIMALS):
            cost = Decimal(self.gas_wei).scaleb(-COIN_DECIMALS, EXACT).normalize()
            raise NotAllowed(
                f"the account may pay {cost:f} of its coin for gas, and at most {most} is allowed",
                next_step="give a larger --max-gas if that is right on this chain; else do not trust this node",
            )

    @property
    def obeys_ours(self) -> bool:
        """Whether what the key delegates to, if it does, is our account's code: its address says so on every chain."""
        from agentnexus.rails.evm.deployment import expected_address
        from agentnexus.rails.evm.paymaster.senders import implementation_of

        told = self.delegation
        return told is None or told.delegate == implementation_of(expected_address("AccountFactory"))

    async def sign(self, signer: EvmSigner) -> dict[str, str]:
        """The body that answers it. Raises `NotAllowed` for a delegation that is not of this very key."""
        answer = {"signature": to_hex(await signer.sign(self.digest))}
        if self.delegation is not None:
            if self.sender != signer.public_id:
                raise NotAllowed(
                    f"{self.sender} is to delegate, and this is the key of {signer.public_id}",
                    next_step="give the wallet's own key",
                )
            answer["delegation"] = to_hex(await signer.sign(self.delegation.digest))
        return answer


def calls_of(call_data: bytes) -> list[Call]:
    """The calls inside an operation of our accounts. Raises `InvalidInput`."""
    execute = abi_of("Account").function("execute")
    mode, batch = decode_values(execute.inputs, call_data[4:])
    if call_data[:4] != execute.selector or mode != _BATCH_MODE or not isinstance(batch, bytes):
        raise InvalidInput("no batch of calls", field="callData")
    (calls,) = decode_values([_BATCH], batch)
    return [
        Call(target.lower(), data, value)
        for target, value, data in cast("Sequence[tuple[str, int, bytes]]", calls)
    ]  # fmt: skip


def transfer(token: str, to: str, amount_atomic: int) -> Call:
    """A plain transfer of an ERC-20."""
    return Call(token, TRANSFER + word(to) + word(amount_atomic))


def approval(token: str, spender: str, amount_atomic: int) -> Call:
    """Leave to take that much of an ERC-20."""
    return Call(token, APPROVE + word(spender) + word(amount_atomic))


def trusted(told: Tokens, chain_id: int) -> Tokens:
    """Of the tokens that a node names those that may be believed: where money is real, USDC is its issuer's alone."""
    network = network_by_id(chain_id)
    if network.kind is not NetworkKind.MAINNET:
        return told
    return {network.usdc: ("USDC", USDC_DECIMALS)} if network.usdc else {}


def asset_of(name: str, tokens: Tokens, chain_id: int) -> tuple[str, int]:
    """Token and decimals of an asset as it is typed: an address, a symbol among `tokens`, or the coin's (address zero).

    Raises `NotAllowed` for what is not known here: then the amount cannot be checked.
    """
    for token, (symbol, decimals) in trusted(tokens, chain_id).items():
        if name.lower() in (token, symbol.lower()):
            return token, decimals
    network = network_by_id(chain_id)
    if name.lower() == network.native_symbol.lower():
        return ZERO_ADDRESS, COIN_DECIMALS
    raise NotAllowed(
        f"how many decimals {name} has on {network.name} is not known here, so the amount cannot be checked",
        next_step="ask without --key-file, then look at it and sign: nexus wallet sign",
    )


def require_transfer(asked: Asked, to: str, amount: str, asset: str, tokens: Tokens) -> None:
    """Raises `NotAllowed` unless this much of that asset goes to that address, and nothing else happens."""
    token, decimals = asset_of(asset, tokens, asked.chain_id)
    units = atomic(amount, decimals)
    wanted = Call(to.lower(), b"", units) if token == ZERO_ADDRESS else transfer(token, to.lower(), units)
    asked.require_calls([wanted])


def atomic(amount: str, decimals: int) -> int:
    """From decimal text."""
    return int(Decimal(amount).scaleb(decimals, EXACT))


def require_purchase(asked: Asked, *, token: str, amount_atomic: int, rights: tuple[Collection[int], int]) -> None:
    """Raises `NotAllowed` unless all that leaves the wallet is one deposit of this much, for rights of the wallet's.

    `token` is what the node calls USDC; `rights` the tokens that may be meant, and how many of one there are to be.
    """
    calls = asked.calls
    if token not in trusted({token: ("USDC", USDC_DECIMALS)}, asked.chain_id):
        raise NotAllowed(f"{token} is not the USDC of this chain", next_step=_DO_NOT_TRUST)
    try:
        good = [each.data[:4] for each in calls] == [APPROVE, _DEPOSIT.selector, _MINT.selector] and _buys(
            asked.sender, calls, token, amount_atomic, rights
        )
    except InvalidInput:
        good = False
    if not good:
        raise NotAllowed("the node built something else than this purchase", next_step=_DO_NOT_TRUST)


def _buys(own: str, calls: Sequence[Call], token: str, amount_atomic: int, rights: tuple[Collection[int], int]) -> bool:
    approve, deposit, mint = calls
    terms = cast("Sequence[AbiValue]", decode_values(_DEPOSIT.inputs, deposit.data[4:])[0])
    voucher = cast("Sequence[AbiValue]", decode_values(_MINT.inputs, mint.data[4:])[0])
    allowed = Call(token, APPROVE + word(deposit.target) + word(amount_atomic))
    buyer, amount, holder, gained = terms[0], terms[2], voucher[0], voucher[1]
    ids, count = rights
    return (
        approve == allowed
        and (buyer, amount, holder, voucher[2]) == (own, amount_atomic, own, count)
        and gained in ids
        and not deposit.value | mint.value
    )


def require_passing(asked: Asked, to: str, count: int, ids: Collection[int]) -> None:
    """Raises `NotAllowed` unless all that happens is that so many of one of these tokens go to that address.

    Tokens have hashes of their agents' names for numbers: no other contract's tokens are called so.
    """
    try:
        given = [decode_values(_PASS.inputs, each.data[4:]) for each in asked.calls if each.data[:4] == _PASS.selector]
    except InvalidInput:
        given = []
    good = len(asked.calls) == len(given) == 1 and not asked.calls[0].value
    if not good or given[0][2] not in ids or (*given[0][:2], *given[0][3:]) != (asked.sender, to, count, b""):
        raise NotAllowed("the node built something else than passing that on", next_step=_DO_NOT_TRUST)


def in_words(call: Call, own: str, tokens: Tokens) -> str:
    """One call for a person."""
    from agentnexus.cli.view import money

    def paid(units: int) -> str:
        symbol, decimals = tokens.get(call.target, (f"atomic units of {call.target}", 0))
        return money({"atomic": str(units), "decimals": decimals, "symbol": symbol})

    head, rest = call.data[:4], call.data[4:]
    said = f"call 0x{head.hex()} of {call.target}" if call.data else f"send to {call.target}"
    if head in (TRANSFER, APPROVE) and len(rest) == 64:
        verb = "send {} to {}" if head == TRANSFER else "let {} be taken by {}"
        said = verb.format(paid(int.from_bytes(rest[32:], "big")), to_hex(rest[12:32]))
    elif head == _PASS.selector and len(rest) >= 160:
        said = f"pass {int.from_bytes(rest[96:128], 'big')} of the tokens of {call.target} on to {to_hex(rest[44:64])}"
    else:
        known = [f for name in ("Escrow", "Entitlements", "Account") for f in abi_of(name).functions.values()]
        names = [each.name for each in known if each.selector == head]
        if names:
            whose = "this wallet" if call.target == own else call.target
            said = f"{names[0]} of {whose}"
    coin = money({"atomic": str(call.value), "decimals": COIN_DECIMALS, "symbol": "of the chain's coin"})
    return f"{said}, with {coin}" if call.value else said


def _operation(typed: Mapping[str, object]) -> tuple[PackedOperation, int]:
    domain, message = (cast("Mapping[str, object]", typed[name]) for name in ("domain", "message"))
    if (domain.get("name"), domain.get("version"), typed.get("primaryType")) != ("ERC4337", "1", "PackedUserOperation"):
        raise InvalidInput("no user operation", field="typed_data")
    if address(domain.get("verifyingContract")) != ENTRY_POINT:
        raise InvalidInput("another entry point", field="typed_data")

    def data(name: str, size: int | None = None) -> bytes:
        return from_hex(message.get(name), size=size, field=name)

    packed = PackedOperation(
        sender=address(message.get("sender")),
        nonce=int(str(message.get("nonce"))),
        init_code=data("initCode"),
        call_data=data("callData"),
        account_gas_limits=data("accountGasLimits", 32),
        pre_verification_gas=int(str(message.get("preVerificationGas"))),
        gas_fees=data("gasFees", 32),
        paymaster_and_data=data("paymasterAndData"),
        signature=b"",
    )
    return packed, int(str(domain.get("chainId")))


def _own_gas(packed: PackedOperation) -> int:
    """What the account may pay for gas; nothing where a paymaster does."""
    if packed.paymaster_and_data:
        return 0
    verification, calls = (int.from_bytes(packed.account_gas_limits[at : at + 16], "big") for at in (0, 16))
    price = int.from_bytes(packed.gas_fees[16:], "big")
    return (verification + calls + packed.pre_verification_gas) * price


def _delegation(told: object, packed: PackedOperation, chain_id: int) -> DelegationSignature | None:
    """What the key is to delegate to: on this chain only, and to the code that the operation itself names."""
    if told is None:
        return None
    body = cast("Mapping[str, object]", told)
    delegate, nonce = address(body["address"]), int(str(body["nonce"]))
    if body["chainId"] != chain_id or packed.init_code[:20] != bytes.fromhex(delegate[2:]):
        raise InvalidInput("a delegation of something else", field="delegation")
    return DelegationSignature(chain_id, delegate, nonce, 0, 0, 0)
