"""Users' smart accounts: made once, asked to do something once per key, signed for by whoever owns them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InvalidInput,
    NexusError,
    NotAllowed,
    NotFound,
    PaymentFailed,
    Unavailable,
)
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock, Ids
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.sessions import Grant
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, from_hex
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.service import PaymasterService
from agentnexus.rails.evm.userops.bundler import Bundler
from agentnexus.rails.evm.userops.signers import ECDSA_KIND
from agentnexus.wallets.accounts import Accounts
from agentnexus.wallets.amounts import Transfers
from agentnexus.wallets.balances import read_balances
from agentnexus.wallets.building import Builder, Form, WalletChain, nonce_for
from agentnexus.wallets.funds import gas_in_usdc_refused, require_funds, require_gas, require_gas_in_usdc
from agentnexus.wallets.history import History
from agentnexus.wallets.keys import SealedKeys
from agentnexus.wallets.metrics import count
from agentnexus.wallets.model import (
    DISCARDED,
    Answer,
    Balances,
    GasPayer,
    HistoryPage,
    Operation,
    OperationState,
    PasskeyKey,
    SigningRequest,
    Transfer,
    Wallet,
    WalletKind,
)
from agentnexus.wallets.outcome import GRACE, Outcomes
from agentnexus.wallets.sending import Sending
from agentnexus.wallets.settings import (
    AccountState,
    account_state,
    cancel_recovery_call,
    gas_allowance_call,
    grant_call,
    guardian_call,
    revoke_call,
)
from agentnexus.wallets.signing import request_for, signed
from agentnexus.wallets.store import Stored, WalletStore

KEY_CHARACTERS_MAX = 200
TITLE_CHARACTERS_MAX = 200
CALLS_MAX = 32
# Who is asked to sign has so long at least; what is signed later than `LAST_MOMENT` would not be mined in time.
MARGIN, LAST_MOMENT = timedelta(seconds=45), timedelta(seconds=5)
_POLL_SECONDS = 0.05
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Wallets:
    """Wallets of one network. Any number of processes may run one on the same database.

    Args:
        paymaster: who pays gas; None where accounts pay it themselves.
        confirmations: of blocks, until an outcome can no longer change; the network's own by default.
        coin_usd: what a whole coin is worth, where somebody says so.
    """

    def __init__(
        self,
        database: Database,
        chain: WalletChain,
        bundler: Bundler,
        keys: SealedKeys,
        paymaster: PaymasterService | None,
        *,
        clock: Clock,
        ids: Ids,
        confirmations: int | None = None,
        coin_usd: Decimal | None = None,
    ) -> None:
        self.chain = chain
        self.paymaster = paymaster
        self.store = WalletStore(database, chain.network.caip2)
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._coin_usd = coin_usd
        self._transfers = Transfers(chain)
        self._history = History(self.store, chain, paymaster.chain.paymaster if paymaster else "")
        self._accounts = Accounts(self.store, chain, keys, clock, ids)
        self._builder = Builder(chain, bundler, paymaster, clock)
        self._outcomes = Outcomes(chain.rpc, chain.network, clock, confirmations=confirmations)
        self._sending = Sending(self.store, bundler, self._outcomes, self._replaced, clock)

    # -- accounts ----------------------------------------------------------------------------------------------------

    async def create(
        self, user_id: str, kind: WalletKind, *, passkey: PasskeyKey | None = None, address: str | None = None
    ) -> Wallet:
        """The user's wallet. Asking again with the same gives the same.

        A wallet whose account got other owners on the chain takes these, and keeps its address.

        Raises `InvalidInput` without the passkey or address that the kind needs, `Conflict` for another kind or owner
        than the wallet has, or an address that another user has shown to be theirs.
        """
        return await self._accounts.create(user_id, kind, passkey=passkey, address=address)

    async def of(self, user_id: str) -> Wallet:
        """Raises `NotFound` before there is one."""
        return await self._accounts.of(user_id)

    # -- operations --------------------------------------------------------------------------------------------------

    async def begin(
        self,
        user_id: str,
        calls: Sequence[Call],
        *,
        key: str,
        purpose: str,
        title: str,
        gas: GasPayer = GasPayer.SPONSOR,
    ) -> Operation:
        """Have the user's account make these calls, all or none, once per key.

        Those of `WalletKind.SERVER` are signed, kept and handed over when this returns; others wait for `sign`. When it
        raises, nothing was begun and the key is free, but for one that was begun before.

        Raises `Conflict` for other calls under the key, `InsufficientFunds`, `ContractRefused` (they would fail),
        `NotSponsored` and `BudgetExceeded` (nobody pays the gas), `NotAllowed`, `InvalidInput`, `Unavailable`.
        """
        wallet = await self.of(user_id)
        _check(wallet, calls, key, purpose)
        now = self._clock.now()
        wanted = Operation(
            id=self._ids.new("op"),
            user_id=wallet.user_id,
            wallet_id=wallet.id,
            key=key,
            purpose=purpose,
            title=title[:TITLE_CHARACTERS_MAX],
            gas=gas,
            state=OperationState.UNSIGNED,
            created_at=now,
            updated_at=now,
        )
        stored = await self._begun(wallet, wanted, calls)
        if wallet.kind is WalletKind.SERVER and stored.operation.state is OperationState.UNSIGNED:
            stored = await self._sign_here(wallet, stored)
        return stored.operation

    async def asked(self, user_id: str, key: str) -> tuple[Operation, Sequence[Call]] | None:
        """What a user has begun under a key, and its calls."""
        stored = await self.store.of_key(user_id, key)
        return None if stored is None else (stored.operation, stored.calls)

    async def signing_request(self, user_id: str, operation_id: str) -> SigningRequest:
        """What the owner is to sign; built anew when the last one is too old.

        Raises `Conflict` when it waits for no signature, and what `begin` raises.
        """
        wallet, stored = await self._own(user_id, operation_id)
        if wallet.kind is WalletKind.SERVER or stored.operation.state is not OperationState.UNSIGNED:
            raise Conflict(
                f"the operation is {stored.operation.state} and waits for no signature of yours",
                next_step="look at what became of it",
            )
        stored = await self._built(wallet, stored)
        if stored.body is None or stored.operation.state is not OperationState.UNSIGNED:
            raise Conflict("the operation was signed or discarded meanwhile", next_step="look at what became of it")
        return request_for(wallet, stored.operation, stored.body, self.chain.network.chain_id)

    async def sign(self, user_id: str, operation_id: str, answer: Answer) -> Operation:
        """Take the owner's signature, keep it, and send the operation. What is signed already is answered as it is.

        Raises `NotAllowed` for a wrong signature, `Conflict` for one that comes too late; neither loses anything.
        """
        wallet, stored = await self._own(user_id, operation_id)
        operation, body = stored.operation, stored.body
        if operation.state is OperationState.REJECTED:
            raise Conflict("the operation is over: nobody sends it any more", next_step="begin it again with a new key")
        if operation.state is not OperationState.UNSIGNED:
            return operation
        if wallet.kind is WalletKind.SERVER:
            raise Conflict("this node signs for this wallet", next_step="begin the operation again with its key")
        if body is None or operation.valid_until is None or operation.valid_until < self._clock.now() + LAST_MOMENT:
            raise Conflict(
                "what was to be signed is too old", next_step="ask for what is to be signed again, and sign that"
            )
        whole = signed(wallet, body, answer, self.chain.network.chain_id)
        if await self._outdated(stored):
            raise Conflict(
                "another operation has made your account meanwhile, or its key has sent a transaction",
                next_step="ask for what is to be signed again, and sign that",
            )
        await self._builder.promise(wallet, operation.hash, operation.gas)
        if not await self.store.signed(operation_id, whole, operation.hash, self._clock.now()):
            return await self.sign(user_id, operation_id, answer)  # signed or built anew by somebody meanwhile
        if not wallet.proven:
            await self.store.prove(wallet, self._clock.now())
        kept = await self._stored(operation_id)
        count(wallet, kept.operation)
        return (await self._sending.send(wallet, kept)).operation

    async def discard(self, user_id: str, operation_id: str) -> Operation:
        """Forget what waits for a signature: none is taken for it afterwards. A second time changes nothing.

        Gas that was only offered for it is offered no more. Wallets that show what they sign may have signed it by
        themselves: what was promised to these holds until `valid_until`, and what they bring to the chain is noted.

        Raises `Conflict` for what was signed.
        """
        wallet, stored = await self._own(user_id, operation_id)
        operation = stored.operation
        if operation.state is OperationState.REJECTED:
            return operation
        if operation.state is not OperationState.UNSIGNED:
            raise Conflict(
                f"the operation is {operation.state}: it is too late to discard it",
                next_step="look at what became of it",
            )
        until = operation.valid_until
        shown = until is not None and wallet.kind is not WalletKind.PASSKEY
        look_at = until + GRACE if until is not None and shown else None
        why = _discarded(operation if shown else None).to_json()
        done = await self.store.rejected(operation, why, self._clock.now(), look_at)
        if done is None:
            return await self.discard(user_id, operation_id)  # built anew or signed by somebody meanwhile
        await self._builder.give_back(operation.hash, operation.gas)
        count(wallet, done.operation)
        log.info("wallets.discarded", operation=operation_id)
        return done.operation

    async def operation(self, operation_id: str, user_id: str | None = None) -> Operation:
        """Raises `NotFound`, also for somebody else's."""
        stored = await self._stored(operation_id)
        if user_id is not None and stored.operation.user_id != user_id:
            raise _no_operation(operation_id)
        return stored.operation

    async def settle(self, operation_id: str, *, timeout_seconds: float = 30.0) -> Operation:
        """Wait until the chain has it, and note what became of it. One that waits for a signature is answered as it is.

        Raises `PaymentUnknown` when time is up.
        """
        stored = await self._stored(operation_id)
        if stored.closed or stored.operation.state is OperationState.UNSIGNED:
            return stored.operation
        wallet = await self._wallet(stored)
        return (await self._sending.settle(wallet, stored, timeout_seconds)).operation

    async def keep(self) -> None:
        """For ever: send again what is signed and not mined, note outcomes, reject what is too late."""
        await self._sending.keep(self._wallet)

    async def keep_once(self) -> int:
        """One round of `keep`; how many operations were looked at."""
        return await self._sending.keep_once(self._wallet)

    # -- what people ask for -----------------------------------------------------------------------------------------

    async def send(
        self, user_id: str, items: Sequence[Transfer | Call], *, key: str, gas: GasPayer = GasPayer.SPONSOR
    ) -> Operation:
        """Transfers of the coin, USDC and other tokens, or calls as they are; see `begin`."""
        calls, title = await self._transfers.calls(items)
        return await self.begin(user_id, calls, key=key, purpose="send", title=title, gas=gas)

    async def money(self, amount: str, asset: str) -> Money:
        """An amount as people type it: of USDC, the coin, or a token by its address. Raises `InvalidInput`."""
        return await self._transfers.money(amount, asset)

    async def balances(self, user_id: str) -> Balances:
        """What the account holds now. Raises `Unavailable` while the chain does not answer."""
        return await read_balances(self.chain, await self.of(user_id), self._coin_usd)

    async def history(self, user_id: str, before: str = "", limit: int = 50) -> HistoryPage:
        """Transfers of USDC, whoever made them, and own operations; `before` is what the last page answered."""
        return await self._history.page(await self.of(user_id), before, limit)

    async def state(self, user_id: str) -> AccountState:
        """Whether the account exists yet, its guardian, and the recovery that waits."""
        return await account_state(self.chain.rpc, await self.of(user_id))

    async def export(self, user_id: str) -> str:
        """The key of a wallet that this node signs for, as hex text; that it was handed over is noted.

        Raises `Conflict` for a wallet whose key this node does not have.
        """
        wallet = await self.of(user_id)
        sealed = await self.store.sealed_key(wallet.id)
        if sealed is None:
            raise Conflict("this node has no key of your wallet", next_step="you have it: keep it safe")
        key = self._keys.reveal(wallet.id, sealed)
        await self.store.exported(wallet.id, self._clock.now())
        log.info("wallets.exported", wallet=wallet.id, user=user_id)
        return key

    async def gas_policy(self, user_id: str) -> dict[str, object]:
        """Who pays for gas, by which rules, and what is left of it for this user."""
        if self.paymaster is None:
            return {"sponsor": None, "network": self.chain.network.caip2, "policies": []}
        return await self.paymaster.describe(user_id)

    async def set_guardian(
        self, user_id: str, guardian: str, delay_seconds: int, *, key: str, gas: GasPayer = GasPayer.SPONSOR
    ) -> Operation:
        """Who may propose a new owner, and how long the present one can refuse; the zero address is nobody."""
        call = guardian_call(self.chain.rpc, await self.of(user_id), guardian, delay_seconds)
        return await self._setting(user_id, call, key, gas)

    async def cancel_recovery(self, user_id: str, *, key: str, gas: GasPayer = GasPayer.SPONSOR) -> Operation:
        """Refuse new owners that were proposed."""
        return await self._setting(user_id, cancel_recovery_call(self.chain.rpc, await self.of(user_id)), key, gas)

    async def grant_session(
        self, user_id: str, grant: Grant, *, key: str, gas: GasPayer = GasPayer.SPONSOR
    ) -> Operation:
        """Let a key act for the account within limits that the account keeps."""
        call = grant_call(self.chain.rpc, await self.of(user_id), grant, self._clock.now())
        return await self._setting(user_id, call, key, gas)

    async def revoke_session(
        self, user_id: str, session_key: str, *, key: str, gas: GasPayer = GasPayer.SPONSOR
    ) -> Operation:
        """End what a key may do."""
        call = revoke_call(self.chain.rpc, await self.of(user_id), session_key)
        return await self._setting(user_id, call, key, gas)

    async def allow_gas(self, user_id: str, amount: str, *, key: str) -> Operation:
        """Let the paymaster take up to so much USDC for gas that it sells: what `GasPayer.USDC` needs before."""
        if self.paymaster is None:
            raise Unavailable("this node sells no gas", next_step="let the account pay its gas: gas = account")
        usdc = self.chain.usdc
        money = await self._transfers.money(amount, usdc.symbol)
        call = gas_allowance_call(usdc.reference, self.paymaster.chain.paymaster, money.atomic)
        return await self._setting(user_id, (call, f"Let the paymaster take {money} for gas"), key, GasPayer.SPONSOR)

    async def _setting(self, user_id: str, call: tuple[Call, str], key: str, gas: GasPayer) -> Operation:
        what, title = call
        return await self.begin(user_id, [what], key=key, purpose="setting", title=title, gas=gas)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _begun(self, wallet: Wallet, wanted: Operation, calls: Sequence[Call]) -> Stored:
        """The built operation of this key, whoever made it."""
        while True:
            stored = await self.store.begin(wanted, calls)
            known = stored.operation
            if stored.calls != tuple(calls) or (known.gas, known.purpose) != (wanted.gas, wanted.purpose):
                raise Conflict(
                    "this key was used for something else",
                    next_step="take a new Idempotency-Key for a new operation",
                    operation=stored.operation.id,
                )
            try:
                built = await self._built(wallet, stored)
            except _TakenBack:
                wanted = replace(wanted, id=self._ids.new("op"))
            else:
                if known.id == wanted.id:
                    count(wallet, known)
                return built

    async def _built(self, wallet: Wallet, stored: Stored) -> Stored:
        """The operation with a form that can be signed now, or what it has become. One process builds it at a time."""
        operation_id = stored.operation.id
        while True:
            found = await self.store.find(operation_id)
            if found is None:
                raise _TakenBack(f"operation {operation_id} was not begun", next_step="begin it again")
            until, soon = found.operation.valid_until, self._clock.now() + MARGIN
            if found.operation.state is not OperationState.UNSIGNED:
                return found
            if until is not None and until >= soon and not await self._outdated(found):
                return found
            if await self.store.take_building(operation_id, soon):
                await self._build(wallet, found)
            else:
                await asyncio.sleep(_POLL_SECONDS)

    async def _outdated(self, stored: Stored) -> bool:
        """Whether what is built makes an account that exists by now; it is dropped then."""
        if not await self._outcomes.outdated(stored.body):
            return False
        await self.store.unsigned(stored.operation.id, stored.operation.hash, self._clock.now())
        return True

    async def _build(self, wallet: Wallet, stored: Stored) -> None:
        operation = stored.operation
        kept = False
        try:
            from_block = stored.from_block or await self._outcomes.first_block()
            await require_funds(self.chain, wallet, stored.calls)
            form = await self._form(wallet, operation, stored.calls, operation.gas)
            if form.body.nonce != nonce_for(operation.id):
                # Somebody signed an older form, and brought it to the chain by another way.
                await self._sending.resolve(wallet, stored)
                return
            await self.store.built(operation.id, form, from_block, self._clock.now())
            kept = True
        finally:
            if not kept:
                await self.store.give_up_building(operation.id)

    async def _sign_here(self, wallet: Wallet, stored: Stored) -> Stored:
        """Sign for a wallet whose key we have: kept before it leaves, and by one process only."""
        assert stored.body is not None
        whole = stored.body.signed(await self._signature(wallet, from_hex(stored.operation.hash)))
        kept = await self.store.signed(stored.operation.id, whole, stored.operation.hash, self._clock.now())
        found = await self._stored(stored.operation.id)
        if not kept:
            return found
        count(wallet, found.operation)
        return await self._sending.send(wallet, found)

    async def _signature(self, wallet: Wallet, digest: bytes) -> bytes:
        sealed = await self.store.sealed_key(wallet.id)
        if sealed is None:
            raise NotAllowed("this node has no key of this wallet", next_step="have its owner sign")
        return ECDSA_KIND + await self._keys.signer(wallet.id, sealed).sign(digest)

    async def _replaced(self, wallet: Wallet, stored: Stored, ending: bool) -> Stored | None:
        """Another form under the same nonce of what this node signed and the chain did not take.

        `ending`: one that does nothing, and whoever can pays its gas. None when it cannot be built; what is kept when
        another process is at it.
        """
        operation = stored.operation
        if not await self.store.take_building(operation.id, self._clock.now()):
            return await self._stored(operation.id)
        kept = False
        try:
            form = await (
                self._empty_form(wallet, operation)
                if ending
                else self._form(wallet, operation, stored.calls, operation.gas)
            )
            if form.body.nonce == nonce_for(operation.id):
                whole = form.body.signed(await self._signature(wallet, from_hex(form.hash)))
                kept = await self.store.renewed(
                    operation.id, operation.hash, replace(form, body=whole), self._clock.now(), ending=ending
                )
        except NexusError as error:
            log.info("wallets.not_replaced", operation=operation.id, ending=ending, reason=error.message)
        finally:
            if not kept:
                await self.store.give_up_building(operation.id)
        return await self._stored(operation.id) if kept else None

    async def _empty_form(self, wallet: Wallet, operation: Operation) -> Form:
        nothing = [Call(wallet.address, b"")]
        try:
            return await self._form(wallet, operation, nothing, GasPayer.SPONSOR)
        except (NotAllowed, BudgetExceeded, Unavailable):
            return await self._form(wallet, operation, nothing, GasPayer.ACCOUNT)

    async def _form(self, wallet: Wallet, operation: Operation, calls: Sequence[Call], gas: GasPayer) -> Form:
        try:
            form = await self._builder.build(wallet, operation.id, calls, gas)
        except NotSponsored as error:
            if gas is not GasPayer.USDC or self.paymaster is None:
                raise
            refused = await gas_in_usdc_refused(self.chain, wallet, error, self.paymaster.chain.paymaster)
            raise refused from error
        if gas is GasPayer.ACCOUNT:
            await require_gas(self.chain, wallet, form.body, calls)
        if form.price is not None:
            await require_gas_in_usdc(self.chain, wallet, form.price, form.body, calls)
        return form

    async def _own(self, user_id: str, operation_id: str) -> tuple[Wallet, Stored]:
        stored = await self._stored(operation_id)
        if stored.operation.user_id != user_id:
            raise _no_operation(operation_id)
        return await self._wallet(stored), stored

    async def _stored(self, operation_id: str) -> Stored:
        stored = await self.store.find(operation_id) if _ID.fullmatch(operation_id) else None
        if stored is None:
            raise _no_operation(operation_id)
        return stored

    async def _wallet(self, stored: Stored) -> Wallet:
        wallet = await self.store.wallet(stored.operation.wallet_id)
        if wallet is None:
            raise _no_operation(stored.operation.id)
        return wallet


class _TakenBack(NotFound):
    """Whoever built the operation was refused, and nothing of it is left."""


def _check(wallet: Wallet, calls: Sequence[Call], key: str, purpose: str) -> None:
    """Raises for calls that no wallet makes, or not in this way."""
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidInput(f"a key has 1 to {KEY_CHARACTERS_MAX} characters", field="Idempotency-Key")
    if not 0 < len(calls) <= CALLS_MAX:
        raise InvalidInput(f"an operation has 1 to {CALLS_MAX} calls", field="calls")
    for each in calls:
        if each.target == ZERO_ADDRESS:
            raise InvalidInput(
                "nothing is sent to the zero address: it would be lost",
                field="to",
                next_step="check the address of who is to have it",
            )
        if each.target == wallet.address and each.data and purpose != "setting":
            raise NotAllowed(
                "a wallet's own settings are not changed by plain calls",
                next_step="use the routes for guardian and sessions",
            )


def _discarded(shown: Operation | None) -> NexusError:
    """`shown`: its owner has seen all of it, and may have signed it elsewhere."""
    if shown is None or shown.valid_until is None:
        return PaymentFailed(DISCARDED, next_step="nothing happened: begin it again with a new key if you like")
    until = shown.valid_until.isoformat(timespec="seconds")
    return PaymentFailed(
        DISCARDED,
        next_step="nothing happened: begin it again with a new key if you like"
        if shown.gas is not GasPayer.ACCOUNT
        else "do not sign it elsewhere: as it pays its own gas it has no end on the chain",
        usable_until=until if shown.gas is not GasPayer.ACCOUNT else None,
    )


def _no_operation(operation_id: str) -> NexusError:
    return NotFound(f"there is no operation {operation_id}", next_step="check the id and whose token you use")
