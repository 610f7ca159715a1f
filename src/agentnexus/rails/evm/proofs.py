"""What a transaction proves about two parties: how much one paid the other, when, and how much has come back since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import quantity, to_hex, word
from agentnexus.rails.evm.errors import ChainUnavailable
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.receipts import Log, find_receipt
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_int, call_object
from agentnexus.rails.evm.token import TRANSFER_TOPIC, transfers

# What public nodes allow in one question, and how long after a payment its return is looked for.
_SPAN_BLOCKS = 2_000
_RETURN_BLOCKS = 50_000


@dataclass(frozen=True, slots=True)
class ProvenPayment:
    """A payment on the chain. Amounts are atomic, the asset is the token's lower-case address.

    `returned` is all that the payee has sent the payer since, in the token and within some 50,000 blocks: on a chain
    a refund looks like any other payment.
    """

    asset: str
    amount: int
    returned: int
    at: datetime


async def find_payment(
    rpc: Rpc, network: Network, token: str, transaction: str, *, payer: str, payee: str
) -> ProvenPayment | None:
    """The largest transfer from payer to payee in a final transaction; None when there is none.

    Raises `Unavailable` while the chain does not answer. Addresses are lower-case.
    """
    receipt = await find_receipt(rpc, [transaction], confirmations=network.confirmations)
    if receipt is None or not receipt.succeeded:
        return None
    moved = transfers(receipt.logs, token)
    amount = max((each.value for each in moved if (each.payer, each.payee) == (payer, payee)), default=0)
    if amount == 0 or payer == payee:
        return None
    block, head = await rpc.batch(
        [Call("eth_getBlockByNumber", (hex(receipt.block_number), False)), Call("eth_blockNumber")]
    )
    found = call_object(block)
    if found is None:
        raise ChainUnavailable("the chain's node does not have the block of a transaction that it has")
    at = datetime.fromtimestamp(quantity(found["timestamp"], field="timestamp"), UTC)
    first = receipt.block_number
    later = range(first, min(call_int(head), first + _RETURN_BLOCKS) + 1)
    returned = await _sent(rpc, token, later, payer=payee, payee=payer)
    return ProvenPayment(token, amount, returned, at)


async def _sent(rpc: Rpc, token: str, blocks: range, *, payer: str, payee: str) -> int:
    """All that `payer` sent `payee` in these blocks."""
    topics: list[RpcValue] = [TRANSFER_TOPIC, to_hex(word(payer)), to_hex(word(payee))]
    total = 0
    for start in blocks[::_SPAN_BLOCKS]:
        question: dict[str, RpcValue] = {
            "address": token,
            "topics": topics,
            "fromBlock": hex(start),
            "toBlock": hex(min(start + _SPAN_BLOCKS, blocks.stop) - 1),
        }
        found = await rpc.call("eth_getLogs", question)
        if not isinstance(found, list):
            raise InvalidInput("eth_getLogs did not answer with a list", field="logs")
        total += sum(each.value for each in transfers([Log.from_json(log) for log in found], token))
    return total
