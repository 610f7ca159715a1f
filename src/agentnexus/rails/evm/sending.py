"""Sending a transaction without books: for tools that look at the chain before each step, so nothing is sent twice.

Services send through `TransactionSender`, which survives crashes and shares its key between processes.
"""

from __future__ import annotations

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import PaymentFailed
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.refusals import explained
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.fees import FeeLimits, FeeOracle
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.receipts import Receipt, wait_for_receipt
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.signer import EvmSigner, require_network
from agentnexus.rails.evm.transactions import GAS_MARGIN_DENOMINATOR, GAS_MARGIN_NUMERATOR, sign_transaction

_RECEIPT_SECONDS = 180.0


async def send_directly(
    rpc: Rpc, network: Network, signer: EvmSigner, call: Call, limits: FeeLimits | None = None
) -> Receipt:
    """Send and wait. The key must have no other sender meanwhile.

    Raises `Reverted` (`ContractRefused`) when it would fail or failed, `PaymentFailed` above the limits,
    `PaymentUnknown` when it was not mined in three minutes.
    """
    require_network(signer, network)
    allowed = limits or FeeLimits()
    request: dict[str, RpcValue] = {
        "from": signer.public_id,
        "to": call.target,
        "data": to_hex(call.data),
        "value": hex(call.value),
    }
    try:
        gas = await rpc.read_int("eth_estimateGas", request, network.trial_block)
    except Reverted as error:
        raise explained(error) from None
    gas = min(gas * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR, max(gas, allowed.maximum_gas))
    if gas > allowed.maximum_gas:
        raise PaymentFailed(
            f"the transaction needs {gas} gas, the limit is {allowed.maximum_gas}", next_step="raise the limit"
        )
    fees = await FeeOracle(rpc, network, SystemClock(), allowed).current()
    nonce = await rpc.read_int("eth_getTransactionCount", signer.public_id, "pending")
    raw, transaction = await sign_transaction(signer, network, nonce, call.intent(gas), fees)
    await rpc.call("eth_sendRawTransaction", to_hex(raw))
    receipt = await wait_for_receipt(rpc, network, [transaction], timeout_seconds=_RECEIPT_SECONDS)
    if not receipt.succeeded:
        raise PaymentFailed(
            f"transaction {transaction} failed on chain",
            next_step="look at the node's trace of it",
            transaction=transaction,
        )
    return receipt
