"""What became of an operation, as the chain says: mined in whichever form, not yet, or too late ever to be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import Unavailable
from agentnexus.core.ports import Clock
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.delegation import delegate_of
from agentnexus.rails.evm.encoding import quantity, to_hex, uint, word
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.receipts import Log, find_receipt
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_int, call_object, eth_call
from agentnexus.rails.evm.rpc import call_data as data_of
from agentnexus.rails.evm.userops.bundler import UserOperationReceipt, operation_receipts
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.wallets.building import lane_of, nonce_for

RANGE_BLOCKS = 2_000
REORGANISED_BLOCKS = 64
# Blocks whose producer's clock is behind ours still count as later after this.
GRACE = timedelta(seconds=60)


class Outcomes:
    """Reads the chain about operations, by account and nonce: all forms of an operation share these."""

    def __init__(self, rpc: Rpc, network: Network, clock: Clock, *, confirmations: int | None = None) -> None:
        self._rpc = rpc
        self._network = network
        self._clock = clock
        self._confirmations = network.confirmations if confirmations is None else confirmations

    async def head(self) -> int:
        return await self._rpc.read_int("eth_blockNumber")

    async def first_block(self) -> int:
        """Nothing that is built from now on is in a block before this one, even after a reorganisation."""
        return max(await self.head() - REORGANISED_BLOCKS, 0)

    async def is_deep(self, block_number: int) -> bool:
        """Whether a block has the confirmations that the network wants."""
        return await self.head() - block_number + 1 >= self._confirmations

    async def mined(self, operation_id: str, account: str, from_block: int) -> UserOperationReceipt | None:
        """The operation as it was mined after `from_block`, by whomever; None when its nonce is unused.

        Raises `Unavailable` when the nonce is used and the node does not show by what.
        """
        question = abi_of("EntryPoint").encode("getNonce", (account, lane_of(operation_id)))
        nonce = nonce_for(operation_id)
        number, head = await self._rpc.batch([eth_call(ENTRY_POINT, question), Call("eth_blockNumber")])
        if uint(data_of(number)) == nonce:
            return None
        last = call_int(head)
        for first in range(from_block, last + 1, RANGE_BLOCKS):
            found = await self._in_range(account, nonce, first, min(first + RANGE_BLOCKS - 1, last))
            if found is not None:
                return found
        raise Unavailable(
            f"the nonce of operation {operation_id} is used, and the node does not show by what",
            next_step="look again in a moment",
        )

    async def _in_range(self, account: str, nonce: int, first: int, last: int) -> UserOperationReceipt | None:
        query: dict[str, RpcValue] = {
            "address": ENTRY_POINT,
            "topics": [abi_of("EntryPoint").topic("UserOperationEvent"), None, to_hex(word(account))],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        logs = await self._rpc.call("eth_getLogs", query)
        for each in logs if isinstance(logs, list) else []:
            log = Log.from_json(each)
            if uint(log.data) != nonce:
                continue
            receipt = await find_receipt(self._rpc, [log.transaction])
            for operation in operation_receipts(receipt) if receipt else []:
                if (operation.sender, operation.nonce) == (account, nonce):
                    return operation
        return None

    async def outdated(self, body: UserOperation | None) -> bool:
        """Whether no block can take this form: its account was made by another, or its key's delegation is used up."""
        if body is None or (body.factory is None and body.delegation is None):
            return False
        asked = [Call("eth_getCode", (body.sender, "latest")), Call("eth_getTransactionCount", (body.sender, "latest"))]
        code, number = await self._rpc.batch(asked)
        if body.delegation is None:
            return bool(data_of(code))
        return delegate_of(data_of(code)) != body.delegation.delegate and call_int(number) != body.delegation.nonce

    async def lapsed(self, valid_until: datetime) -> bool:
        """Whether no block can take it any more. Ask this before `mined`: what is not mined then never will be."""
        if self._clock.now() > valid_until + GRACE:
            return True
        (answer,) = await self._rpc.batch([Call("eth_getBlockByNumber", ("latest", False))])
        block = call_object(answer) or {}
        latest = datetime.fromtimestamp(quantity(block.get("timestamp"), field="timestamp"), UTC)
        return latest > valid_until + timedelta(seconds=self._network.block_seconds * self._confirmations)
