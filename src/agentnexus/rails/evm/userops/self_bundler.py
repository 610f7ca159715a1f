"""Our own bundler: every operation goes on chain in a transaction of our relayer, stored before it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Self

from agentnexus.core.errors import Conflict, InvalidInput, NotFound, PaymentFailed, RateLimited
from agentnexus.core.ports import Clock
from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts.entry_point import EntryPoint
from agentnexus.rails.evm.delegation import AUTHORIZATION_GAS, SET_CODE_TYPE, DelegationSignature, delegate_of
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.fees import FeeLimits, Fees
from agentnexus.rails.evm.receipts import Log, Receipt, find_receipt, unknown
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_data, call_int
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.transactions import Outgoing, TransactionSender
from agentnexus.rails.evm.userops.bundler import GasEstimate, UserOperationReceipt, operation_receipts
from agentnexus.rails.evm.userops.estimate import code_overrides, estimate_gas, pre_verification_gas
from agentnexus.rails.evm.userops.model import UserOperation

BUNDLE_GAS_MAX = 8_000_000
# EntryPoint keeps back a 64th at each of two calls, and does a little itself.
_LOOK_BACK_BLOCKS = 1_000
# A key can take its delegation back until the very block, and then we pay for a bundle that fails. So much of that is
# risked for all keys together, and with so much gas each.
LOST_DELEGATIONS_PER_HOUR, DELEGATING_GAS_MAX = 10, 2_000_000
_LOST = """
select count(*) from (
    select state, raw, updated_at from evm.outgoing
    where network = $1 and sender = $2 and state <> 'rejected' order by nonce desc limit 2000
) as newest where state = 'reverted' and get_byte(raw, 0) = $3 and updated_at > now() - interval '1 hour'
"""
_NEARLY = 10  # a tenth less than it costs is let through: prices move between building and sending
_RESERVE_NUMERATOR, _RESERVE_DENOMINATOR, _RESERVE_GAS = 66, 64, 60_000


class DelegationGone(Reverted):
    """The key has sent a transaction since it signed its delegation (EIP-7702), which no block takes any more."""

    def __init__(self, sender: str) -> None:
        super().__init__(f"the key of {sender} has sent a transaction since it signed its delegation")
        self.next_step = "build the operation again, and have the key sign a new delegation"


class SelfBundler:
    """A `Bundler` of one key of ours, which gets back what operations pay for gas. Made by `open`.

    Args:
        sender: sends on the network; its gas limit must be high enough for operations.
        relayer: the key that sends, and has coin.
    """

    def __init__(self, sender: TransactionSender, relayer: EvmSigner) -> None:
        self._sender = sender
        self._relayer = relayer
        self._entry_point = EntryPoint(sender.rpc)
        self._deliveries: dict[str, asyncio.Task[Receipt]] = {}

    @classmethod
    async def open(
        cls, database: Database, rpc: Rpc, chain_id: int, relayer: EvmSigner, *, clock: Clock | None = None
    ) -> Self:
        """A bundler on a chain we know; raises `WrongNetwork` or `Unavailable`."""
        limits = replace(FeeLimits(), maximum_gas=BUNDLE_GAS_MAX)
        return cls(await TransactionSender.open(database, rpc, chain_id, clock=clock, limits=limits), relayer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop waiting for receipts; what was sent stays sent, and is found again by its hash."""
        waiting = list(self._deliveries.values())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    @property
    def chain_id(self) -> int:
        return self._sender.network.chain_id

    async def gas_price(self) -> Fees:
        return await self._sender.fees()

    async def estimate(self, operation: UserOperation) -> GasEstimate:
        return await estimate_gas(self._sender.rpc, operation, self.chain_id, block=self._sender.network.trial_block)

    async def send(self, operation: UserOperation) -> str:
        """Try it, store it, and hand it to the node.

        Raises `ContractRefused` when EntryPoint would refuse it, `PaymentFailed` when it pays less than it costs us,
        `DelegationGone`, and `RateLimited` while too many keys have taken their delegations back.
        """
        operation_hash = to_hex(operation.hash(self.chain_id))
        outgoing = await self._sender.find(_key(operation_hash))
        if outgoing is None:
            outgoing = await self._stage(operation, operation_hash)
        self._deliver(operation_hash, outgoing)
        return operation_hash

    async def _require_paid(self, operation: UserOperation) -> None:
        """Whoever signs an operation names its price: what we send must bring back what it costs, or nearly."""
        fees = await self._sender.fees()
        price = (fees.maximum + fees.priority) // 2  # base fee and tip: see `FeeOracle`
        offered = min(operation.max_fee_per_gas, price - fees.priority + operation.max_priority_fee_per_gas)
        needed = pre_verification_gas(operation)
        if offered * _NEARLY < price * (_NEARLY - 1) or operation.pre_verification_gas * _NEARLY < needed * (
            _NEARLY - 1
        ):
            raise PaymentFailed(
                f"the operation offers {offered} wei a unit of gas and {operation.pre_verification_gas} units for its"
                f" bundle; that takes {price} and {needed}",
                next_step="build it again: gas has become dearer, or its limits were made by hand",
            )

    async def _stage(self, operation: UserOperation, operation_hash: str) -> Outgoing:
        await self._require_paid(operation)
        delegations = await self._delegations(operation)
        call = self._entry_point.handle([operation.pack()], self._relayer.public_id)
        await self._entry_point.try_call(
            call,
            self._relayer.public_id,
            block=self._sender.network.trial_block,
            overrides=code_overrides(operation),
        )
        await self._sender.prepare(self._relayer)
        gas = operation.gas_limit * _RESERVE_NUMERATOR // _RESERVE_DENOMINATOR + _RESERVE_GAS
        intent = replace(call.intent(gas + AUTHORIZATION_GAS * len(delegations)), delegations=delegations)
        try:
            async with self._sender.database.transaction() as connection:
                return await self._sender.stage(connection, self._relayer, _key(operation_hash), intent)
        except Conflict:
            known = await self._sender.find(_key(operation_hash))  # somebody asked for the same at the same time
            if known is None:
                raise
            return known

    async def _delegations(self, operation: UserOperation) -> tuple[DelegationSignature, ...]:
        """What the bundle has to set before: nothing where another operation has set the same."""
        asked = operation.delegation
        if asked is None:
            return ()
        block = self._sender.network.trial_block
        code, number = await self._sender.rpc.batch(
            [
                Call("eth_getCode", (operation.sender, block)),
                Call("eth_getTransactionCount", (operation.sender, "pending")),
            ]
        )
        if delegate_of(call_data(code)) == asked.delegate:
            return ()
        if call_int(number) != asked.nonce:
            raise DelegationGone(operation.sender)
        if operation.gas_limit > DELEGATING_GAS_MAX:
            raise InvalidInput(
                f"an operation that delegates has at most {DELEGATING_GAS_MAX} gas",
                field="callGasLimit",
                next_step="delegate with a small operation first",
            )
        async with self._sender.database.connection() as connection:
            scope = (self._sender.network.caip2, self._relayer.public_id)
            lost = await connection.fetchval(_LOST, *scope, SET_CODE_TYPE)
        if lost >= LOST_DELEGATIONS_PER_HOUR:
            raise RateLimited(
                "too many keys have taken back delegations that were on their way",
                next_step="try again in an hour, or make a wallet of the kind key",
                retry_after_seconds=3_600,
            )
        return (asked,)

    def _deliver(self, operation_hash: str, outgoing: Outgoing) -> None:
        if operation_hash in self._deliveries:
            return
        work = self._sender.deliver(self._relayer, outgoing, timeout_seconds=600.0, noted=False)
        task = asyncio.create_task(work, name=f"bundle-{operation_hash[:10]}")
        self._deliveries[operation_hash] = task
        task.add_done_callback(lambda done: self._delivered(operation_hash, done))

    def _delivered(self, operation_hash: str, task: asyncio.Task[Receipt]) -> None:
        """Forget it; whoever asks later reads the books. A failure is told to those who wait now."""
        self._deliveries.pop(operation_hash, None)
        if not task.cancelled():
            task.exception()

    async def receipt(self, operation_hash: str, *, timeout_seconds: float = 30.0) -> UserOperationReceipt:
        """Raises `PaymentUnknown` when time is up, `NotFound` for an operation that never came here, `PaymentFailed`
        when the bundle reverted without the operation being mined by anybody else.
        """
        receipt = await self._bundle(operation_hash, timeout_seconds)
        for each in operation_receipts(receipt):
            if each.hash == operation_hash:
                return each
        found = await self._mined_elsewhere(operation_hash, receipt)
        if found is None:
            raise PaymentFailed(
                "the bundle reverted: the operation did not happen",
                next_step="build the operation again, with a fresh nonce and sponsorship",
                transaction=receipt.transaction,
            )
        return found

    async def _bundle(self, operation_hash: str, timeout_seconds: float) -> Receipt:
        task = self._deliveries.get(operation_hash)
        if task is None:
            outgoing = await self._sender.find(_key(operation_hash))
            if outgoing is None:
                raise NotFound(f"no operation {operation_hash} was sent here", next_step="send it first")
            self._deliver(operation_hash, outgoing)
            task = self._deliveries[operation_hash]
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(task)
        except TimeoutError:
            raise unknown(operation_hash, timeout_seconds) from None

    async def _mined_elsewhere(self, operation_hash: str, receipt: Receipt) -> UserOperationReceipt | None:
        """Bundles are public while they wait: somebody else may have taken the operation out and been faster."""
        query: dict[str, RpcValue] = {
            "address": self._entry_point.address,
            "topics": [self._entry_point.abi.topic("UserOperationEvent"), operation_hash],
            "fromBlock": hex(max(receipt.block_number - _LOOK_BACK_BLOCKS, 0)),
            "toBlock": "latest",
        }
        logs = await self._sender.rpc.call("eth_getLogs", query)
        if not isinstance(logs, list) or not logs:
            return None
        other = await find_receipt(self._sender.rpc, [Log.from_json(logs[-1]).transaction])
        mined = operation_receipts(other) if other else []
        return next((each for each in mined if each.hash == operation_hash), None)


def _key(operation_hash: str) -> str:
    """The operation's name in the books of what we sent."""
    return f"userop:{operation_hash}"
