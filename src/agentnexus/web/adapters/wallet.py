"""`WalletDoor` over the wallets room: one person's own account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from agentnexus.core.errors import InvalidInput, NexusError, NotFound, PaymentUnknown
from agentnexus.identity.passkeys import Passkey
from agentnexus.wallets.model import GasPayer, Operation, OperationState, PasskeyKey, Transfer, Wallet, WalletKind
from agentnexus.wallets.service import Wallets
from agentnexus.wallets.settings import DAY_SECONDS
from agentnexus.web.adapters.gas import gas_view
from agentnexus.web.adapters.signing import answer_of, signing_view
from agentnexus.web.adapters.wallet_views import movement, operation_view, own_wallet, recovery, tokens, total_usd
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.wallet import GasView, OperationView, PasskeyChoice, SendTyped, WalletPage

LINES: Final = 25
WAIT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.5
Passkeys = Callable[[str], Awaitable[Sequence[Passkey]]]


class HouseWallet:
    """Everybody's own wallet on the node's network.

    Args:
        passkeys: of a person.
        play_money: whether the chain is a development one, where money comes from a command.
    """

    def __init__(self, wallets: Wallets, passkeys: Passkeys, *, play_money: bool = False) -> None:
        self._play_money = play_money
        self._wallets = wallets
        self._passkeys = passkeys

    async def of(self, user_id: str) -> Wallet:
        """Raises `NotFound` before there is one."""
        return await self._wallets.of(user_id)

    async def gas(self, user_id: str) -> GasView:
        """Who pays, and what is left for this person."""
        coin = self._wallets.chain.network.native_symbol
        return gas_view(await self._wallets.gas_policy(user_id), coin)

    def faucet(self, wallet: Wallet, usdc: int = 5) -> str:
        """The command that makes so much play money for it, where there is such a thing."""
        return f"nexus wallet top-up {usdc} --to {wallet.address}" if self._play_money else ""

    async def page(self, user_id: str, before: str = "") -> WalletPage:
        """The newest lines of the history first, from the one before `before`."""
        gas = await self.gas(user_id)
        try:
            wallet = await self.of(user_id)
        except NotFound:
            own = [PasskeyChoice(each.id, each.name) for each in await self._passkeys(user_id)]
            return WalletPage(gas=gas, passkeys=own)
        page = WalletPage(wallet=own_wallet(wallet), gas=gas)
        try:
            balances = await self._wallets.balances(user_id)
            found = await self._wallets.history(user_id, before, LINES)
            state = await self._wallets.state(user_id)
        except InvalidInput:  # a place that no page gave
            return await self.page(user_id)
        except NexusError as error:
            return replace(page, money_problem=problem_of(error))
        network = wallet.network
        return replace(
            page, total=total_usd(balances), tokens=tokens(balances), recovery=recovery(state), older=found.before,
            history=[movement(each, network) for each in found.lines],
            faucet="" if balances.usdc else self.faucet(wallet),
        )  # fmt: skip

    async def create(self, user_id: str, kind: str, *, credential_id: str = "", address: str = "") -> None:
        if kind not in (WalletKind.SERVER, WalletKind.PASSKEY, WalletKind.KEY):
            raise InvalidInput(
                "that is no kind of wallet", field="kind", next_step="choose a passkey, this node or your own wallet"
            )
        passkey = await self._passkey(user_id, credential_id) if kind == WalletKind.PASSKEY else None
        owner = address if kind == WalletKind.KEY else None
        await self._wallets.create(user_id, WalletKind(kind), passkey=passkey, address=owner)

    async def _passkey(self, user_id: str, credential_id: str) -> PasskeyKey:
        for each in await self._passkeys(user_id):
            if each.id == credential_id:
                return PasskeyKey(each.id, each.public_key)
        raise NotFound(
            "this passkey is not yours here", next_step="create one at /connect, and make the wallet with it"
        )

    async def send(self, user_id: str, typed: SendTyped) -> str:
        item = Transfer(typed.to, typed.amount, typed.asset)
        return (await self._wallets.send(user_id, [item], key=f"page:{typed.key}", gas=_payer(typed.gas))).id

    async def signed_here(self, user_id: str) -> bool:
        try:
            return (await self.of(user_id)).kind is WalletKind.SERVER
        except NotFound:
            return False

    async def set_guardian(self, user_id: str, guardian: str, days: str, key: str) -> str:
        if not (days.isascii() and days.isdigit() and len(days) <= 3):
            raise InvalidInput("a delay is a number of days", field="days", next_step="give 1 to 60")
        seconds = int(days) * DAY_SECONDS
        return (await self._wallets.set_guardian(user_id, guardian, seconds, key=f"page:{key}")).id

    async def allow_gas(self, user_id: str, amount: str, key: str) -> str:
        return (await self._wallets.allow_gas(user_id, amount, key=f"page:{key}")).id

    async def cancel_recovery(self, user_id: str, key: str) -> str:
        return (await self._wallets.cancel_recovery(user_id, key=f"page:{key}")).id

    async def operation(self, user_id: str, operation_id: str) -> OperationView:
        return await self._view(user_id, await self._wallets.operation(operation_id, user_id))

    async def _view(self, user_id: str, operation: Operation) -> OperationView:
        wallet, coin = await self.of(user_id), self._wallets.chain.network.native
        shown = operation_view(operation, wallet.network, coin)
        if operation.state is not OperationState.UNSIGNED or wallet.kind is WalletKind.SERVER:
            return shown
        try:
            request = await self._wallets.signing_request(user_id, operation.id)
        except NexusError as error:  # what was to be signed had lapsed, and cannot be built anew
            return replace(shown, problem=problem_of(error))
        action = f"/wallet/operations/{operation.id}/signature"
        return replace(
            shown, sign=signing_view(request, wallet, action, f"nexus wallet sign {operation.id} --key-file FILE")
        )

    async def follow(self, user_id: str, operation_id: str) -> AsyncIterator[OperationView]:
        """The view now and after every change, until it is final."""
        known: Operation | None = None
        while True:
            operation = await self._wallets.operation(operation_id, user_id)
            if operation != known:
                yield await self._view(user_id, operation)
                known = operation
            if operation.state.final:
                return
            await self._moved(operation)

    async def _moved(self, operation: Operation) -> None:
        """Wait for the chain, or a little while for its owner."""
        if operation.state is OperationState.UNSIGNED:
            await asyncio.sleep(LOOK_SECONDS)
            return
        try:
            await self._wallets.settle(operation.id, timeout_seconds=WAIT_SECONDS)
        except PaymentUnknown:
            return

    async def sign(self, user_id: str, operation_id: str, signed: Signed) -> None:
        await self._wallets.sign(user_id, operation_id, answer_of(signed))

    async def discard(self, user_id: str, operation_id: str) -> None:
        await self._wallets.discard(user_id, operation_id)

    async def export(self, user_id: str) -> str:
        return await self._wallets.export(user_id)


def _payer(text: str) -> GasPayer:
    if text not in set(GasPayer):
        raise InvalidInput("that is nobody who pays for gas", field="gas", next_step="choose one of the list")
    return GasPayer(text)
