"""The Solana rail of a payer: payments are transfers of SOL or tokens, holds are signed x402 transactions.

A payment is confirmed when the cluster confirmed its transaction without error and the payee's account grew by exactly
the amount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from solders.pubkey import Pubkey

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import InvalidInput, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.rails.solana.authorize import Authorizations
from agentnexus.rails.solana.landed import Landed, read_landed
from agentnexus.rails.solana.priority import lamports
from agentnexus.rails.solana.programs import public_key
from agentnexus.rails.solana.sending import PRICE_VARIANTS, Outgoing, OutgoingState, TransactionSender, require_intent
from agentnexus.rails.solana.signer import SolanaSigner, require_network
from agentnexus.rails.solana.transfers import TransferPlanner

_USUAL_UNITS = 60_000
_LANDED_TRIES = 20


class SolanaRail:
    """Rail and Holding for one payer key on one cluster.

    Args:
        sender: the cluster.
        signer: the payer's key: owns what is paid.
        fee_payer: pays fees and rent; the payer itself when None.
        opens_accounts: whether it pays the rent of a payee's token account; who may choose when to be paid could close
            the account each time and keep that rent.
        send_wait_seconds: how long `send` waits for confirmation before it raises `PaymentUnknown`.
        lookup_wait_seconds: the same for `lookup`, which then answers `unknown`.
    """

    name = "solana"

    def __init__(
        self,
        sender: TransactionSender,
        signer: SolanaSigner,
        *,
        fee_payer: SolanaSigner | None = None,
        opens_accounts: bool = True,
        send_wait_seconds: float = 90.0,
        lookup_wait_seconds: float = 5.0,
    ) -> None:
        self.network = sender.network
        self.signer = signer
        payer = fee_payer or signer
        self._signers: Sequence[SolanaSigner] = [signer] if payer.public_id == signer.public_id else [payer, signer]
        for key in self._signers:
            require_network(key, self.network)
        self._sender = sender
        self._address = Pubkey.from_string(signer.public_id)
        self._planner = TransferPlanner(
            sender.rpc,
            self.network,
            self._address,
            Pubkey.from_string(payer.public_id),
            opens_accounts=opens_accounts,
        )
        self._holds = Authorizations(sender.database, sender.cluster, signer, self.network, sender.clock)
        self._send_wait = send_wait_seconds
        self._lookup_wait = lookup_wait_seconds

    @property
    def address(self) -> str:
        """The payer."""
        return self.signer.public_id

    async def balance(self, asset: Asset) -> Money:
        """What the payer has of SOL, or in its associated account of a token."""
        return await self._planner.balance(asset)

    async def fee(self, request: PaymentRequest) -> Money:
        """In SOL: signatures, priority and the rent of accounts that must be made; nothing for an authorisation."""
        if request.mode is PayMode.AUTHORIZE:
            return self.network.native.zero()
        plan = await self._planner.plan(request.payee, request.amount, need_funds=False)
        price = await self._sender.fees.price(plan.instructions) + PRICE_VARIANTS
        return Money(self.network.native, plan.rent_lamports + lamports(len(self._signers), _USUAL_UNITS, price))

    async def send(self, request: PaymentRequest, key: str) -> Payment:
        """Transfer; however often it is asked with one key, at most one transaction can move money.

        Evidence: ``transaction`` (the signature), ``slot``. Raises `InsufficientFunds`, `PaymentFailed` (for good: a
        new try needs a new key), `PaymentUnknown` (ask again with the same key), `Conflict`.
        """
        if request.mode is not PayMode.PAY:
            raise InvalidInput(f"the Solana rail sends payments, not {request.mode}", field="mode")
        if request.payee == self.address:
            raise InvalidInput("a wallet cannot pay itself", field="payee")
        intent = content_hash({"payee": request.payee, "amount": request.amount.to_json()})
        outgoing = await self._sender.find(_send_key(key))
        if outgoing is None:
            outgoing = await self._stage(request, key, intent)
        require_intent(outgoing, intent)
        ended = await self._sender.deliver(outgoing, timeout_seconds=self._send_wait)
        payment = Payment(id=key, request=request, state=PaymentState.SENT)
        if ended.state is not OutgoingState.SUCCEEDED:
            raise _failed(ended)
        return await self._confirmed(payment, ended)

    async def _stage(self, request: PaymentRequest, key: str, intent: str) -> Outgoing:
        """Planned and signed; a refusal is final for the key, also for calls that run beside this one."""
        try:
            plan = await self._planner.plan(request.payee, request.amount)
            return await self._sender.stage(_send_key(key), intent, plan.instructions, self._signers)
        except PaymentFailed as error:
            noted = await self._sender.refuse(_send_key(key), intent, self._signers[0].public_id, error.message)
            if noted.refused:
                raise
            return noted

    async def lookup(self, payment: Payment) -> Payment:
        """What the cluster says now: `confirmed`, `failed`, `unknown`; `held` and `refunded` for a hold."""
        if payment.request.mode is PayMode.AUTHORIZE:
            return await self._holds.lookup(payment)
        outgoing = await self._sender.find(_send_key(payment.id))
        if outgoing is None:
            return payment.model_copy(update={"state": PaymentState.FAILED})
        evidence: dict[str, object] = {**payment.evidence, "transaction": outgoing.signature}
        try:
            ended = await self._sender.deliver(outgoing, timeout_seconds=self._lookup_wait)
            if ended.state is OutgoingState.SUCCEEDED:
                return await self._confirmed(payment, ended)
        except (PaymentUnknown, PaymentFailed) as error:
            evidence["problem"] = error.message
            return payment.model_copy(update={"state": PaymentState.UNKNOWN, "evidence": evidence})
        evidence["chain_error"] = ended.error or ""
        return payment.model_copy(update={"state": PaymentState.FAILED, "evidence": evidence})

    async def sent_as(self, signature: str) -> str | None:
        """The key that `send` was given for this transaction; None when it was not sent by this node."""
        key = await self._sender.key_of(signature)
        return None if key is None else key.removeprefix(_send_key(""))

    async def recover(self) -> int:
        """Send again what was stored and nobody saw finished; call it when a process starts. How many stay open."""
        return len(await self._sender.recover(self._signers[0].public_id))

    async def open(self, request: PaymentRequest, key: str) -> Hold:
        """Sign an x402 `exact` transaction; see `Authorizations.open`."""
        return await self._holds.open(request, key)

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        return await self._holds.settle(hold, proof)

    async def cancel(self, hold: Hold) -> Payment:
        return await self._holds.cancel(hold)

    async def _confirmed(self, payment: Payment, ended: Outgoing) -> Payment:
        """Success is what arrived, not what a status says."""
        landed = await self._landed(ended)
        asset = payment.request.amount.asset
        mint = None if asset == self.network.native else public_key(asset.reference, field="asset")
        payee = public_key(payment.request.payee, field="payee")
        if landed.error is not None or landed.received(payee, mint) != payment.request.amount.atomic:
            raise PaymentFailed(
                "the transaction is on the chain and the payee did not get the amount",
                next_step="compare the transaction with the payment; the token may have rules of its own",
                transaction=ended.signature,
            )
        evidence = {**payment.evidence, "transaction": ended.signature, "slot": landed.slot}
        return payment.model_copy(update={"state": PaymentState.CONFIRMED, "evidence": evidence})

    async def _landed(self, ended: Outgoing) -> Landed:
        """A node may know the status some moments before it can show the transaction."""
        for _ in range(_LANDED_TRIES):
            landed = await read_landed(self._sender.rpc, ended.signature, self._sender.commitment)
            if landed is not None:
                return landed
            await asyncio.sleep(self.network.slot_seconds / 2)
        raise PaymentUnknown(
            "the transaction is confirmed and the node cannot show it yet",
            next_step="look the payment up again later; do not pay a second time before that",
            transaction=ended.signature,
        )


def _send_key(key: str) -> str:
    return f"send:{key}"


def _failed(ended: Outgoing) -> PaymentFailed:
    if ended.refused:
        return PaymentFailed(ended.error or "it was refused", next_step="nothing was sent: pay again with a new key")
    if ended.state is OutgoingState.EXPIRED:
        return PaymentFailed(
            "the network did not take the transaction in time, and never will",
            next_step="nothing moved: pay again with a new key",
            transaction=ended.signature,
        )
    return PaymentFailed(
        f"the transfer failed on the chain: {ended.error}",
        next_step="nothing moved but the fee: see the error, then pay again with a new key",
        transaction=ended.signature,
    )
