"""From a payment to instructions: which accounts it needs, which of them must be made, what arrives after fees."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from agentnexus.core.errors import InsufficientFunds, InvalidInput, PaymentFailed
from agentnexus.core.money import Asset, Money
from agentnexus.rails.solana.cluster import Commitment, Node, RpcValue
from agentnexus.rails.solana.errors import ClusterUnavailable, WrongNetwork
from agentnexus.rails.solana.networks import Network
from agentnexus.rails.solana.programs import (
    TOKEN_PROGRAMS,
    U64_MAX,
    Token,
    associated_address,
    create_associated_account,
    public_key,
    transfer_sol,
    transfer_tokens,
)
from agentnexus.rails.solana.rpc import mapping, whole
from agentnexus.rails.solana.token_fees import TransferFee, read_fee_schedule, unsafe_extension
from agentnexus.rails.solana.tokens import read_mint, read_token_account

_TRANSFER_WITH_FEE = bytes([26, 1])
_ACCOUNT_BYTES = 165
_EXTENSIONS_BYTES = 17  # kind byte, immutable owner, withheld fee: at most, for the mints we pay with


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is now."""

    owner: Pubkey
    lamports: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a payment does on the chain.

    Args:
        instructions: in order, without compute budget.
        destination: the account whose balance grows by exactly the payment.
        mint: None for SOL.
        rent_lamports: what the fee payer pays to make accounts.
    """

    instructions: tuple[Instruction, ...]
    destination: Pubkey
    mint: Pubkey | None
    rent_lamports: int


class TransferPlanner:
    """Plans transfers from one owner; `fee_payer` pays for accounts that must be made, if `opens_accounts`."""

    def __init__(
        self, node: Node, network: Network, owner: Pubkey, fee_payer: Pubkey, *, opens_accounts: bool = True
    ) -> None:
        self._opens_accounts = opens_accounts
        self._node = node
        self._network = network
        self._owner = owner
        self._fee_payer = fee_payer
        self._programs: dict[Pubkey, Pubkey] = {}
        self._rents: dict[int, int] = {}

    async def balance(self, asset: Asset) -> Money:
        """What the owner has of SOL, or in its associated account of a token."""
        self.require_here(asset)
        if asset == self._network.native:
            (account,) = await self.accounts([self._owner])
            return Money(asset, account.lamports if account else 0)
        mint = public_key(asset.reference, field="asset")
        home = associated_address(self._owner, mint, await self._program(asset))
        shown, account = await self.accounts([mint, home])
        self._token(asset, shown)
        return Money(asset, _tokens(account))

    async def plan(self, payee: str, amount: Money, *, need_funds: bool = True) -> Plan:
        """What to send; nothing is sent.

        Raises `InvalidInput`, `WrongNetwork`, `PaymentFailed` for a payee without an account where none is opened and,
        unless told otherwise, `InsufficientFunds`.
        """
        self.require_here(amount.asset)
        if not 0 < amount.atomic <= U64_MAX:
            raise InvalidInput(f"not an amount that can be sent: {amount}", field="amount")
        destination = public_key(payee, field="payee")
        if amount.asset == self._network.native:
            return await self._plan_sol(destination, amount, need_funds)
        return await self._plan_tokens(destination, amount, need_funds)

    def require_here(self, asset: Asset) -> None:
        if asset.network != self._network.caip2:
            raise WrongNetwork(
                f"{asset.caip19} is not on {self._network.caip2}",
                next_step=f"pay from a wallet on {asset.network}",
                network=self._network.caip2,
            )

    async def _program(self, asset: Asset) -> Pubkey:
        """Which program runs a token; that never changes."""
        mint = public_key(asset.reference, field="asset")
        if mint not in self._programs:
            (account,) = await self.accounts([mint])
            if account is None or account.owner not in TOKEN_PROGRAMS:
                raise InvalidInput(f"{mint} is not a token on {self._network.caip2}", field="asset")
            self._programs[mint] = account.owner
        return self._programs[mint]

    def _token(self, asset: Asset, account: Account | None) -> Token:
        """The token of a mint as it is now. Raises `InvalidInput` for one that we do not pay with."""
        found = read_mint(account.owner, account.data) if account else None
        if account is None or found is None:
            raise InvalidInput(f"{asset.reference} is not a token on {self._network.caip2}", field="asset")
        if found.decimals != asset.decimals:
            raise InvalidInput(f"{asset.reference} has {found.decimals} decimals, not {asset.decimals}", field="asset")
        if unfit := unsafe_extension(account.data):
            raise InvalidInput(f"{asset.reference} is no token to pay with: {unfit}", field="asset")
        return Token(public_key(asset.reference), found.decimals, found.program)

    async def accounts(self, addresses: Sequence[Pubkey]) -> list[Account | None]:
        """Several accounts in one round trip."""
        options: RpcValue = {"encoding": "base64", "commitment": Commitment.CONFIRMED}
        answer = await self._node.call("getMultipleAccounts", [str(each) for each in addresses], options)
        found = mapping(answer, "getMultipleAccounts").get("value")
        if not isinstance(found, list) or len(found) != len(addresses):
            raise ClusterUnavailable("the Solana node answered getMultipleAccounts with something unexpected")
        return [_account(each) for each in found]

    async def _plan_sol(self, destination: Pubkey, amount: Money, need_funds: bool) -> Plan:
        source, target = await self.accounts([self._owner, destination])
        if need_funds and (source is None or source.lamports < amount.atomic):
            raise self._too_little(amount)
        _require_wallet(destination, target)
        least = await self._rent(0)
        if target is None and amount.atomic < least:
            raise InvalidInput(
                f"{destination} is a new wallet: the network takes at least {Money(amount.asset, least)} for one",
                field="amount",
            )
        instruction = transfer_sol(self._owner, destination, amount.atomic)
        return Plan((instruction,), destination, None, 0)

    async def _plan_tokens(self, payee: Pubkey, amount: Money, need_funds: bool) -> Plan:
        mint = public_key(amount.asset.reference, field="asset")
        program = await self._program(amount.asset)
        home, destination = (associated_address(wallet, mint, program) for wallet in (self._owner, payee))
        shown, source, target, wallet = await self.accounts([mint, home, destination, payee])
        token = self._token(amount.asset, shown)
        fee = await self._fee(shown)
        gross = fee.gross_for(amount.atomic)
        if gross > U64_MAX:
            raise InvalidInput(f"not an amount that can be sent: {amount}", field="amount")
        if need_funds and _tokens(source) < gross:
            raise self._too_little(amount)
        _require_wallet(payee, wallet)
        instructions = []
        rent = 0
        if target is None:
            if not self._opens_accounts:
                raise PaymentFailed(
                    f"{payee} has no account for {amount.asset.symbol}",
                    next_step=f"open one: send any {amount.asset.symbol} to that wallet",
                    payee=str(payee),
                )
            instructions.append(create_associated_account(self._fee_payer, payee, token.mint, token.program))
            size = _ACCOUNT_BYTES + (_EXTENSIONS_BYTES if token.program != TOKEN_PROGRAMS[0] else 0)
            rent = await self._rent(size)
        elif (held := read_token_account(target.owner, target.data)) is None or held.owner != payee:
            raise InvalidInput(f"the token account of {payee} belongs to somebody else", field="payee")
        if fee.basis_points:
            instructions.append(_with_fee(self._owner, destination, gross, fee.of(gross), token))
        else:
            instructions.append(transfer_tokens(self._owner, destination, gross, token))
        return Plan(tuple(instructions), destination, token.mint, rent)

    async def _fee(self, mint: Account | None) -> TransferFee:
        schedule = read_fee_schedule(mint.data) if mint else None
        if schedule is None:
            return TransferFee()
        if schedule.older == schedule.newer:
            return schedule.newer
        epoch = mapping(await self._node.call("getEpochInfo"), "getEpochInfo").get("epoch")
        return schedule.at(whole(epoch, "getEpochInfo"))

    async def _rent(self, data_bytes: int) -> int:
        if data_bytes not in self._rents:
            answer = await self._node.call("getMinimumBalanceForRentExemption", data_bytes)
            self._rents[data_bytes] = whole(answer, "getMinimumBalanceForRentExemption")
        return self._rents[data_bytes]

    def _too_little(self, amount: Money) -> InsufficientFunds:
        return InsufficientFunds(
            f"the wallet {self._owner} has less than {amount}",
            next_step=f"send {amount.asset.symbol} to it on {self._network.caip2}",
            address=str(self._owner),
        )


def _with_fee(owner: Pubkey, destination: Pubkey, gross: int, fee: int, token: Token) -> Instruction:
    """TransferCheckedWithFee: fails when the mint keeps another fee than we counted on."""
    accounts = [
        AccountMeta(token.account_of(owner), False, True),
        AccountMeta(token.mint, False, False),
        AccountMeta(destination, False, True),
        AccountMeta(owner, True, False),
    ]
    return Instruction(token.program, _TRANSFER_WITH_FEE + struct.pack("<QBQ", gross, token.decimals, fee), accounts)


def _require_wallet(payee: Pubkey, account: Account | None) -> None:
    """Money sent to a mint or to the wallet "of" a token account is lost."""
    if account is not None and account.owner in TOKEN_PROGRAMS:
        raise InvalidInput(
            f"{payee} is a token account or a mint, not a wallet",
            field="payee",
            next_step="give the address of the wallet that owns it",
        )


def _tokens(account: Account | None) -> int:
    held = read_token_account(account.owner, account.data) if account else None
    return held.amount if held else 0


def _account(value: RpcValue) -> Account | None:
    if value is None:
        return None
    shown = mapping(value, "an account")
    data = shown.get("data")
    try:
        raw = base64.b64decode(str(data[0])) if isinstance(data, list) and data else b""
        owner = Pubkey.from_string(str(shown.get("owner")))
    except ValueError as error:
        raise ClusterUnavailable("the Solana node answered with an account that cannot be read") from error
    return Account(owner, whole(shown.get("lamports"), "an account"), raw)
