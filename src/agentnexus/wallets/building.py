"""From calls to a user operation that waits for a signature: its account, who pays its gas, until when it is good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import InsufficientFunds, Unavailable
from agentnexus.core.money import Asset
from agentnexus.core.ports import Clock
from agentnexus.rails.evm.contracts.account import AccountPlan
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.encoding import keccak, to_hex, uint
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.paymaster.policy import TokenPrice, account_calls, choose
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.senders import implementation_of
from agentnexus.rails.evm.paymaster.service import Giving, PaymasterService, UserSponsor
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.userops.build import Sender, build
from agentnexus.rails.evm.userops.bundler import Bundler
from agentnexus.rails.evm.userops.model import UserOperation, nonce_of
from agentnexus.rails.evm.userops.passkeys import has_precompile
from agentnexus.wallets.model import GasPayer, Wallet, WalletKind
from agentnexus.wallets.signing import Undelegated, unsigned

# An operation that pays its own gas has no end on the chain; its price is out of date by then.
OWN_GAS_LIFETIME = timedelta(minutes=10)
# A passkey signs a hash, which shows nobody the sponsor's signature; other wallets show all that they sign.
_GIVING = {WalletKind.SERVER: Giving.NOW, WalletKind.PASSKEY: Giving.LATER}
_LANE_BYTES = 24
_UNTIL_AT = slice(7, 13)  # in the paymaster's data: after mode and the time it begins


@dataclass(frozen=True, slots=True)
class WalletChain:
    """Where accounts are; `factory` makes them. `escrow` gives back what was paid ahead: "" where there is none."""

    rpc: Rpc
    network: Network
    usdc: Asset
    factory: str
    escrow: str = ""

    @property
    def implementation(self) -> str:
        return implementation_of(self.factory)

    def sender(self, wallet: Wallet) -> Sender:
        """The wallet's account; one that got new owners by recovery exists, whatever its address was made of."""
        if wallet.kind is WalletKind.DELEGATED:
            key = Undelegated(wallet.address, self.network.kind)
            return Sender(wallet.address, key=key, delegate=self.implementation)
        planned = Sender.planned(AccountPlan(wallet.owner), self.factory, self.implementation)
        return planned if planned.address == wallet.address else Sender(wallet.address)


def lane_of(operation_id: str) -> int:
    """A lane of nonces for each operation: none waits for another's signature, and all its forms have one nonce."""
    return int.from_bytes(keccak(operation_id.encode())[:_LANE_BYTES], "big")


def nonce_for(operation_id: str) -> int:
    """The one nonce of an operation."""
    return nonce_of(lane_of(operation_id), 0)


@dataclass(frozen=True, slots=True)
class Form:
    """An operation as it was built once: `hash` is what its owner signs, and it can be used until `valid_until`.

    Args:
        price: what its gas costs in a token, where it is paid for in one.
    """

    body: UserOperation
    hash: str
    valid_until: datetime
    price: TokenPrice | None = None


@dataclass(frozen=True, slots=True)
class UserGas:
    """Picks a policy of the paymaster that pays as it was asked to: gas that is free, or gas that is sold for USDC."""

    service: PaymasterService
    user_id: str
    payer: GasPayer
    giving: Giving = Giving.OPEN

    async def stub(self, operation: UserOperation) -> UserOperation:
        return await self._chosen(operation).stub(operation)

    async def final(self, operation: UserOperation) -> UserOperation:
        with _ours_told():
            return await self._chosen(operation).final(operation)

    def _chosen(self, operation: UserOperation) -> UserSponsor:
        sold = self.payer is GasPayer.USDC
        policies = [each for each in self.service.policies if (each.paid_in is not None) is sold]
        if not policies:
            raise NotSponsored(
                "no gas is sold for USDC here" if sold else "nobody's gas is paid here",
                next_step="let the account pay its gas: gas = account",
            )
        policy = choose(policies, self.user_id, operation, account_calls(operation))
        return UserSponsor(self.service, self.user_id, policy.id, self.giving)


def _price_of(paymaster_data: bytes) -> TokenPrice | None:
    """Of gas that is paid for in a token: mode 1, then two times of six bytes, the token and its price."""
    if paymaster_data[:1] != b"\x01":
        return None
    return TokenPrice(token=to_hex(paymaster_data[13:33]), per_native=uint(paymaster_data[33:65]))


@contextmanager
def _ours_told() -> Iterator[None]:
    """An empty deposit of ours is not told as the user's lack of money, which is asked after elsewhere."""
    try:
        yield
    except InsufficientFunds as error:
        raise Unavailable(
            "what this node pays gas from is used up, or not counted yet",
            next_step="try again later, or let the account pay its gas: gas = account",
        ) from error


class Builder:
    """Builds operations of wallets on one chain."""

    def __init__(self, chain: WalletChain, bundler: Bundler, paymaster: PaymasterService | None, clock: Clock) -> None:
        self._chain = chain
        self._bundler = bundler
        self._paymaster = paymaster
        self._clock = clock
        self._precompiled: bool | None = None

    async def build(self, wallet: Wallet, operation_id: str, calls: Sequence[Call], gas: GasPayer) -> Form:
        """The operation without its owner's signature.

        Raises `ContractRefused` when it would fail, what the paymaster says when it refuses, `Unavailable`.
        """
        signer = unsigned(wallet.kind, precompiled=await self._has_precompile(wallet))
        built = await build(
            self._chain.rpc,
            self._bundler,
            self._chain.sender(wallet),
            calls,
            signer=signer,
            sponsor=self._sponsor(wallet, gas),
            lane=lane_of(operation_id),
        )
        return Form(
            built, to_hex(built.hash(self._bundler.chain_id)), self._valid_until(built), _price_of(built.paymaster_data)
        )

    async def promise(self, wallet: Wallet, form_hash: str, gas: GasPayer) -> None:
        """The owner has signed this form: from now on somebody pays for it. Raises what the paymaster says."""
        if gas is not GasPayer.ACCOUNT and self._paymaster is not None:
            with _ours_told():
                await self._paymaster.confirm(wallet.user_id, form_hash)

    async def give_back(self, form_hash: str, gas: GasPayer) -> None:
        """Nobody will sign this form."""
        if form_hash and gas is not GasPayer.ACCOUNT and self._paymaster is not None:
            await self._paymaster.drop(form_hash)

    def _sponsor(self, wallet: Wallet, gas: GasPayer) -> UserGas | None:
        if gas is GasPayer.ACCOUNT:
            return None
        if self._paymaster is None:
            raise Unavailable("this node pays nobody's gas", next_step="let the account pay its gas: gas = account")
        giving = _GIVING.get(wallet.kind, Giving.OPEN)
        return UserGas(self._paymaster, wallet.user_id, gas, giving)

    def _valid_until(self, operation: UserOperation) -> datetime:
        if operation.paymaster is None:
            return self._clock.now() + OWN_GAS_LIFETIME
        return datetime.fromtimestamp(int.from_bytes(operation.paymaster_data[_UNTIL_AT], "big"), UTC)

    async def _has_precompile(self, wallet: Wallet) -> bool:
        if wallet.kind is not WalletKind.PASSKEY:
            return True
        if self._precompiled is None:
            self._precompiled = await has_precompile(self._chain.rpc)
        return self._precompiled
