"""The EVM rail of a payer: holds are signed ERC-3009 authorisations, payments are token transfers.

A hold costs nothing to open. It ends when the payee collects it on chain, when we cancel it on chain, or when its time
is over; which of these happened is always read from the chain, by the authorisation's nonce.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

from agentnexus.core.errors import InsufficientFunds, InvalidInput, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, cancellation_digest, nonce_for
from agentnexus.rails.evm.encoding import address, to_hex, uint
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.outcome import AuthorizationOutcome, OutcomeKind, OutcomeReader
from agentnexus.rails.evm.receipts import Receipt, poll_seconds, wait_for_receipt
from agentnexus.rails.evm.requirements import Terms, read_terms
from agentnexus.rails.evm.rpc import Call, RpcValue, call_data, call_int, eth_call
from agentnexus.rails.evm.signer import EvmSigner, require_network
from agentnexus.rails.evm.token import Token, balance_call, cancel_authorization_call, paid, transfer_call
from agentnexus.rails.evm.transactions import Intent, Outgoing, TransactionSender

_TRANSACTION = re.compile(r"^0x[0-9a-fA-F]{64}$")
_USUAL_TRANSFER_GAS = 65_000
_NATIVE_TRANSFER_GAS = 21_000


class EvmRail:
    """Rail and Holding for one payer key on one network.

    Args:
        sender: the network.
        signer: the payer's key: signs holds and sends payments.
        relayer: pays the gas of cancellations; the payer itself when None.
        settle_wait_seconds: how long `settle` waits for a transaction that the payee claims to have sent.
        send_wait_seconds: how long `send` and `cancel` wait to be mined before they raise `PaymentUnknown`.
    """

    name = "evm"

    def __init__(
        self,
        sender: TransactionSender,
        signer: EvmSigner,
        *,
        relayer: EvmSigner | None = None,
        settle_wait_seconds: float = 5.0,
        send_wait_seconds: float = 60.0,
    ) -> None:
        self.network = sender.network
        self.signer = signer
        self._relayer = relayer or signer
        for key in (signer, self._relayer):
            require_network(key, self.network)
        self._sender = sender
        self._rpc = sender.rpc
        self._clock = sender.clock
        self._outcomes = OutcomeReader(sender.rpc, sender.network)
        self._settle_wait = settle_wait_seconds
        self._send_wait = send_wait_seconds
        self._tokens: dict[str, Token] = {}

    @property
    def address(self) -> str:
        """The payer, lower case."""
        return self.signer.public_id

    async def balance(self, asset: Asset) -> Money:
        """What the payer has of a token or of the network's own coin."""
        if asset == self.network.native:
            return Money(asset, await self._rpc.read_int("eth_getBalance", self.address, "latest"))
        return Money(asset, await self._token(address(asset.reference, field="asset")).balance(self.address))

    async def fee(self, request: PaymentRequest) -> Money:
        """Gas at today's price for what we send; nothing for an authorisation, whose collector pays."""
        if request.mode is PayMode.AUTHORIZE:
            return request.amount.asset.zero()
        native = request.amount.asset == self.network.native
        fees = await self._sender.fees()
        return Money(self.network.native, fees.maximum * (_NATIVE_TRANSFER_GAS if native else _USUAL_TRANSFER_GAS))

    async def open(self, request: PaymentRequest, key: str) -> Hold:
        """Sign an authorisation; nothing leaves and nothing moves yet.

        The nonce comes from `key`, so however often this is asked at most one of the answers can be collected. With
        `request.expires_at` set the answer is the same to the byte. Evidence: ``payload`` (what goes to the seller),
        ``nonce``, ``payer``, ``valid_before`` (Unix seconds), ``from_block``.
        """
        if request.mode is not PayMode.AUTHORIZE:
            raise InvalidInput(f"an EVM hold is an authorisation, not {request.mode}", field="mode")
        terms = read_terms(request, self.network)
        token = self._token(terms.token)
        domain = await token.domain(terms.name, terms.version)
        from_block = await self._require_balance(terms, request)
        authorization = Authorization(
            payer=self.address,
            payee=terms.payee,
            value=terms.value,
            valid_after=0,
            valid_before=self._valid_before(request, terms),
            nonce=nonce_for(key),
        )
        signature = await self.signer.sign(authorization.digest(domain))
        evidence: dict[str, object] = {
            "payload": SignedAuthorization(authorization, signature).to_json(),
            "nonce": to_hex(authorization.nonce),
            "payer": self.address,
            "valid_before": authorization.valid_before,
            "from_block": from_block,
        }
        payment = Payment(id=key, request=request, state=PaymentState.HELD, evidence=evidence)
        return Hold(payment=payment, deadline=datetime.fromtimestamp(authorization.valid_before, UTC))

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """Confirm that the payee got exactly this, by the transaction it names or else by the nonce.

        Returns `confirmed`, `refunded` when it can never be collected any more, or `unknown`: look again later.
        """
        claimed = proof.get("transaction")
        if isinstance(claimed, str) and _TRANSACTION.match(claimed):
            receipt = await self._await_claimed(claimed)
            if receipt and receipt.succeeded and self._pays(receipt, hold.payment):
                return _confirmed(hold.payment, receipt.transaction, receipt.block_number)
        now = await self.lookup(hold.payment)
        return now.model_copy(update={"state": PaymentState.UNKNOWN}) if now.state is PaymentState.HELD else now

    async def cancel(self, hold: Hold) -> Payment:
        """Use up the nonce on chain so that the payee can never collect; the relayer pays the gas.

        Returns `refunded` (with ``cancel_transaction``, or ``expired`` when time did it), or `confirmed` when the payee
        was faster. Raises `PaymentUnknown` when the cancellation is sent and not mined yet: call again.
        """
        now = await self.lookup(hold.payment)
        if now.state is not PaymentState.HELD:
            return now
        terms = read_terms(hold.payment.request, self.network)
        domain = await self._token(terms.token).domain(terms.name, terms.version)
        nonce = _authorization(hold.payment).nonce
        signature = await self.signer.sign(cancellation_digest(domain, self.address, nonce))
        data = cancel_authorization_call(self.address, nonce, signature)
        key = f"cancel:{terms.token}:{self.address}:{to_hex(nonce)}"
        try:
            receipt = await self._send_once(self._relayer, key, terms.token, data)
        except Reverted:
            return await self._settled_meanwhile(hold.payment)
        if not receipt.succeeded:
            return await self._settled_meanwhile(hold.payment)
        return _refunded(hold.payment, cancel_transaction=receipt.transaction, block=receipt.block_number)

    async def send(self, request: PaymentRequest, key: str) -> Payment:
        """Transfer now, once per key.

        Raises `InsufficientFunds`, `PaymentFailed`, or `PaymentUnknown` when it is sent and not mined yet.
        """
        if request.mode is not PayMode.PAY:
            raise InvalidInput(f"send pays; for {request.mode} open a hold", field="mode")
        payee = address(request.payee, field="payee")
        native = request.amount.asset == self.network.native
        value = request.amount.atomic
        if native:
            target, data = payee, b""
        else:
            terms = read_terms(request, self.network)
            target, data = terms.token, transfer_call(payee, value)
        if (
            await self._sender.find(_send_key(key)) is None
            and (await self.balance(request.amount.asset)).atomic < value
        ):
            raise self._too_little(request)
        receipt = await self._send_once(self.signer, _send_key(key), target, data, value if native else 0)
        payment = Payment(id=key, request=request, state=PaymentState.SENT)
        if not receipt.succeeded or not (native or self._transferred(receipt, request)):
            raise PaymentFailed(
                "the transfer was mined and moved nothing",
                next_step="see the transaction for the token's reason; nothing was paid but gas",
                transaction=receipt.transaction,
            )
        return _confirmed(payment, receipt.transaction, receipt.block_number)

    async def lookup(self, payment: Payment) -> Payment:
        """What the chain says now. A hold is `held` while it can still be collected."""
        if payment.request.mode is PayMode.AUTHORIZE:
            return await self._lookup_hold(payment)
        outgoing = await self._sender.find(_send_key(payment.id))
        if outgoing is None:
            return payment.model_copy(update={"state": PaymentState.FAILED})
        return await self._lookup_sent(payment, outgoing)

    async def recover(self) -> int:
        """Send again what was stored and nobody saw mined; call it when a process starts. How many stay open."""
        keys = {key.public_id: key for key in (self.signer, self._relayer)}
        return sum([len(await self._sender.recover(key)) for key in keys.values()])

    async def _lookup_hold(self, payment: Payment) -> Payment:
        authorization = _authorization(payment)
        outcome = await self._outcomes.read(
            address(payment.request.amount.asset.reference, field="asset"),
            authorization.payer,
            authorization.nonce,
            valid_before=authorization.valid_before,
            from_block=_from_block(payment),
        )
        return _after(payment, outcome)

    async def _lookup_sent(self, payment: Payment, outgoing: Outgoing) -> Payment:
        try:
            receipt = await self._sender.deliver(self.signer, outgoing, timeout_seconds=self._settle_wait)
        except PaymentUnknown:
            evidence = {**payment.evidence, "transaction": outgoing.transaction}
            return payment.model_copy(update={"state": PaymentState.UNKNOWN, "evidence": evidence})
        if receipt.succeeded:
            return _confirmed(payment, receipt.transaction, receipt.block_number)
        evidence = {**payment.evidence, "transaction": receipt.transaction}
        return payment.model_copy(update={"state": PaymentState.FAILED, "evidence": evidence})

    async def _settled_meanwhile(self, payment: Payment) -> Payment:
        """The token would not cancel: something has used up the nonce, perhaps in a block that is only being made."""
        undecided = (PaymentState.HELD, PaymentState.UNKNOWN)
        try:
            async with asyncio.timeout(self._send_wait):
                while True:
                    now = await self.lookup(payment)
                    if now.state not in undecided:
                        return now
                    await asyncio.sleep(poll_seconds(self.network))
        except TimeoutError:
            raise PaymentUnknown(
                "the authorisation can no longer be cancelled, and no block says yet what used it",
                next_step="look the payment up again later; do not pay a second time before that",
            ) from None

    async def _send_once(self, signer: EvmSigner, key: str, target: str, data: bytes, value: int = 0) -> Receipt:
        """One transaction per key, tried on the node before it costs gas. Raises `Reverted` when it would fail."""
        known = await self._sender.find(key)
        if known is not None:
            return await self._sender.deliver(signer, known, timeout_seconds=self._send_wait)
        intent = await self._sender.estimate(signer, Intent(target, data, 0, value))
        return await self._sender.submit(signer, key, intent, timeout_seconds=self._send_wait)

    async def _await_claimed(self, transaction: str) -> Receipt | None:
        try:
            return await wait_for_receipt(
                self._rpc, self.network, [transaction.lower()], timeout_seconds=self._settle_wait
            )
        except PaymentUnknown:
            return None

    def _pays(self, receipt: Receipt, payment: Payment) -> bool:
        authorization = _authorization(payment)
        return paid(
            receipt.logs,
            address(payment.request.amount.asset.reference, field="asset"),
            payer=authorization.payer,
            payee=authorization.payee,
            value=authorization.value,
            nonce=authorization.nonce,
        )

    def _transferred(self, receipt: Receipt, request: PaymentRequest) -> bool:
        return paid(
            receipt.logs,
            address(request.amount.asset.reference, field="asset"),
            payer=self.address,
            payee=address(request.payee, field="payee"),
            value=request.amount.atomic,
        )

    async def _require_balance(self, terms: Terms, request: PaymentRequest) -> int:
        """The current block, after checking that the payer has the money: a bad cheque helps nobody."""
        balance, block = await self._rpc.batch(
            [eth_call(terms.token, balance_call(self.address)), Call("eth_blockNumber")]
        )
        if uint(call_data(balance)) < terms.value:
            raise self._too_little(request)
        return call_int(block)

    def _too_little(self, request: PaymentRequest) -> InsufficientFunds:
        return InsufficientFunds(
            f"the wallet {self.address} has less than {request.amount}",
            next_step=f"send {request.amount.asset.symbol} to it on {self.network.caip2}",
            address=self.address,
        )

    def _valid_before(self, request: PaymentRequest, terms: Terms) -> int:
        now = int(self._clock.now().timestamp())
        latest = now + terms.valid_seconds
        if request.expires_at is None:
            return latest
        stated = int(request.expires_at.timestamp())
        if stated <= now:
            raise InvalidInput("the payment request has expired", field="expires_at", next_step="ask for a new one")
        return stated

    def _token(self, contract: str) -> Token:
        return self._tokens.setdefault(contract, Token(self._rpc, contract, self.network.chain_id))


def _send_key(key: str) -> str:
    return f"send:{key}"


def _authorization(payment: Payment) -> Authorization:
    return SignedAuthorization.from_json(payment.evidence.get("payload")).authorization


def _from_block(payment: Payment) -> int:
    block = payment.evidence.get("from_block")
    return block if isinstance(block, int) else 0


def _after(payment: Payment, outcome: AuthorizationOutcome) -> Payment:
    if outcome.kind is OutcomeKind.USED:
        return _confirmed(payment, outcome.transaction, outcome.block_number)
    if outcome.kind is OutcomeKind.CANCELLED:
        return _refunded(payment, cancel_transaction=outcome.transaction, block=outcome.block_number)
    if outcome.kind is OutcomeKind.EXPIRED:
        return _refunded(payment, expired=True)
    state = PaymentState.HELD if outcome.kind is OutcomeKind.OPEN else PaymentState.UNKNOWN
    return payment.model_copy(update={"state": state})


def _confirmed(payment: Payment, transaction: str | None, block: int | None) -> Payment:
    evidence = {**payment.evidence, "transaction": transaction, "block": block}
    return payment.model_copy(update={"state": PaymentState.CONFIRMED, "evidence": evidence})


def _refunded(payment: Payment, **facts: RpcValue) -> Payment:
    evidence = {**payment.evidence, **facts}
    return payment.model_copy(update={"state": PaymentState.REFUNDED, "evidence": evidence})
