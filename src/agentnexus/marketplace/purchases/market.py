"""The contracts that purchases move: what they say of a deal, and what our operator tells them, never twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.marketplace.purchases.kinds import PERIOD_SECONDS, Kind
from agentnexus.marketplace.purchases.model import Purchase, Seen
from agentnexus.rails.evm.contracts import Call, ContractRefused, DealStatus, Entitlements, Escrow, Voucher
from agentnexus.rails.evm.contracts.abi import AbiValue, abi_of
from agentnexus.rails.evm.contracts.contract import as_int, as_tuple
from agentnexus.rails.evm.contracts.refusals import explained
from agentnexus.rails.evm.encoding import selector, word
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.receipts import Receipt
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import call_data, eth_call
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.token import Token
from agentnexus.rails.evm.transactions import Intent, OutgoingState, TransactionSender

CLASS_CAP = 1_000_000_000  # tokens of one agent at a time: a bound for mistakes, not for trade
SUBMIT_SECONDS, SUBMIT_BLOCKS = 10.0, 20  # long enough that what the chain lost is sent again
TRIES_MAX = 20
_APPROVE = selector("approve(address,uint256)")


@dataclass(frozen=True, slots=True)
class Market:
    """Escrow and entitlements on one chain, and the key that orchestrates there.

    Everything raises `Unavailable` while the node is away.
    """

    sender: TransactionSender
    escrow: Escrow
    tokens: Entitlements
    usdc: Token
    operator: EvmSigner

    async def fee_bps(self) -> int:
        return (await self.escrow.market()).fee_bps

    async def seen(self, purchases: Sequence[Purchase]) -> list[Seen]:
        """Their deals at one block, in one round trip."""
        deal = abi_of("Escrow")
        calls = [eth_call(self.escrow.address, deal.encode("deal", (each.deal_bytes,))) for each in purchases]
        block, *answers = await self.sender.rpc.batch([RpcCall("eth_getBlockByNumber", ("latest", False)), *calls])
        if isinstance(block, NodeError | Reverted):
            raise block
        if not isinstance(block, dict):
            raise Unavailable("the node has no newest block", next_step="check the node")
        now = datetime.fromtimestamp(int(str(block["timestamp"]), 16), UTC)
        return [_seen(deal.decode("deal", call_data(answer))[0], now) for answer in answers]

    async def balance(self, holder: str, token_id: int) -> int:
        """Runs that the chain says an address may make."""
        return await self.tokens.balance(holder, token_id)

    async def balances(self, held: Sequence[tuple[str, int]]) -> list[int]:
        """The same for several (address, token), in one round trip."""
        abi = abi_of("Entitlements")
        answers = await self.sender.rpc.batch(
            [eth_call(self.tokens.address, abi.encode("balanceOf", each)) for each in held]
        )
        return [as_int(abi.decode("balanceOf", call_data(answer))[0]) for answer in answers]

    async def money(self, holder: str) -> int:
        """Atomic USDC of an address."""
        return await self.usdc.balance(holder)

    async def prepare_class(self, purchase: Purchase) -> None:
        """Make an agent's class when it is the first time that this kind of it is sold."""
        number = purchase.agent_class
        try:
            await self.tokens.class_of(number)
        except ContractRefused as error:
            if error.error != "NoSuchClass":
                raise
            period = PERIOD_SECONDS if purchase.kind is Kind.PERIOD else 0
            makes = self.tokens.create_class(
                number, cap=CLASS_CAP, period_seconds=period, soulbound=not purchase.transferable
            )
            try:
                await self.send(f"class:{number:x}", makes)
            except ContractRefused as refused:
                if refused.error != "ClassExists":  # another process was faster
                    raise

    async def is_active(self, number: int) -> bool:
        try:
            return (await self.tokens.class_of(number)).active
        except ContractRefused:
            return False

    async def is_minted(self, purchase: Purchase) -> bool:
        """Whether its voucher was used: a buyer may have paid by themselves, without it."""
        return await self.tokens.nonce_used(purchase.wallet, purchase.voucher_nonce)

    async def calls(self, purchase: Purchase) -> list[Call]:
        """What buys: approve, deposit, mint; all or none. The same for the same purchase, however often it is asked."""
        amount = purchase.amount.atomic
        approve = Call(self.usdc.contract, _APPROVE + word(self.escrow.address) + word(amount))
        voucher = Voucher(
            to=purchase.wallet,
            token_id=purchase.token_id,
            nonce=purchase.voucher_nonce,
            valid_until=int(purchase.valid_until.timestamp()),
            deal=purchase.deal_bytes,
            amount=purchase.quantity,
            escrow=self.escrow.address,  # the buyer sees it before paying: alone it is worth nothing
        )
        signature = await self.operator.sign(voucher.digest(self.sender.network.chain_id, self.tokens.address))
        mint = self.tokens.mint_with_voucher(voucher, self.operator.public_id, signature)
        return [approve, self.escrow.deposit(purchase.terms), mint]

    def deal_id(self, purchase: Purchase) -> bytes:
        return purchase.terms.deal_id(self.sender.network.chain_id, self.escrow.address)

    async def refund(self, purchase: Purchase) -> str:
        return await self.send(f"{purchase.id}:refund", self.escrow.refund(purchase.terms))

    async def expire(self, purchase: Purchase) -> str:
        return await self.send(f"{purchase.id}:expire", self.escrow.expire(purchase.terms))

    async def release(self, purchase: Purchase, paid_by: str, amount: int) -> str:
        """Pay the seller, once for a run or a period: `paid_by` is the id of that; the transaction."""
        return await self.send(f"{paid_by}:release", self.escrow.release_part(purchase.terms, amount))

    async def revoke(self, purchase: Purchase, key: str, count: int, *, holder: str) -> str:
        """Take tokens of a purchase back."""
        return await self.send(key, self.tokens.revoke(holder, purchase.token_id, purchase.deal_bytes, count))

    async def was_sent(self, key: str) -> bool:
        """Whether a transaction of this key was signed: then it is on the chain, or may still come there."""
        return await self.sender.find(_keys(key)[0]) is not None

    async def send(self, key: str, call: Call) -> str:
        """The operator's transaction of a key, mined; its hash. Asked again, it is the same one.

        One that reverted (somebody else was faster) is followed by another only when that would not revert. Raises
        `ContractRefused` when the contract says no, `PaymentUnknown` while it waits.
        """
        patience = max(SUBMIT_SECONDS, SUBMIT_BLOCKS * self.sender.network.block_seconds)
        for each in _keys(key):
            outgoing = await self.sender.find(each)
            if outgoing is not None and outgoing.state is OutgoingState.REVERTED:
                continue
            intent = outgoing.intent if outgoing else await self._estimated(call)
            receipt = await self._submit(each, intent, patience)
            if receipt.succeeded:
                return receipt.transaction
        raise Unavailable(f"{key} reverts again and again", next_step="see the node's trace of it", key=key)

    async def _submit(self, key: str, intent: Intent, patience: float) -> Receipt:
        try:
            return await self.sender.submit(self.operator, key, intent, timeout_seconds=patience)
        except Conflict:  # another process was faster, with another estimate of its gas: then that one it is
            outgoing = await self.sender.find(key)
            if outgoing is None:
                raise
            return await self.sender.submit(self.operator, key, outgoing.intent, timeout_seconds=patience)

    async def _estimated(self, call: Call) -> Intent:
        try:
            return await self.sender.estimate(self.operator, call.intent(0))
        except Reverted as error:
            raise explained(error) from None


def _keys(key: str) -> list[str]:
    return [f"market:{key}", *(f"market:{key}:{again}" for again in range(2, TRIES_MAX + 1))]


def _seen(value: AbiValue, now: datetime) -> Seen:
    status, expires_at, remaining = as_tuple(value)
    ends = as_int(expires_at)
    return Seen(DealStatus(as_int(status)), as_int(remaining), datetime.fromtimestamp(ends, UTC) if ends else None, now)
