"""Receipts of transactions: reading them, and waiting for them until a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agentnexus.core.errors import InvalidInput, PaymentUnknown
from agentnexus.rails.evm.encoding import from_hex, quantity
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_int, call_object


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a contract: lower-case address, topics as hex, data as bytes."""

    contract: str
    topics: tuple[str, ...]
    data: bytes
    transaction: str
    block_number: int
    block_hash: str
    index: int

    @classmethod
    def from_json(cls, value: RpcValue) -> Self:
        if not isinstance(value, dict):
            raise InvalidInput("a log must be an object", field="logs")
        topics = value.get("topics")
        return cls(
            contract=str(value.get("address")).lower(),
            topics=tuple(str(each).lower() for each in topics) if isinstance(topics, list) else (),
            data=from_hex(value.get("data"), field="data"),
            transaction=str(value.get("transactionHash")).lower(),
            block_number=quantity(value.get("blockNumber"), field="blockNumber"),
            block_hash=str(value.get("blockHash")).lower(),
            index=quantity(value.get("logIndex"), field="logIndex"),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction. `succeeded` False means that it took gas and changed nothing else."""

    transaction: str
    succeeded: bool
    block_number: int
    block_hash: str
    gas_used: int
    gas_price_wei: int
    sender: str
    contract: str | None
    logs: tuple[Log, ...]

    @classmethod
    def from_json(cls, value: dict[str, RpcValue]) -> Self:
        logs, contract = value.get("logs"), value.get("contractAddress")
        return cls(
            transaction=str(value.get("transactionHash")).lower(),
            succeeded=quantity(value.get("status"), field="status") == 1,
            block_number=quantity(value.get("blockNumber"), field="blockNumber"),
            block_hash=str(value.get("blockHash")).lower(),
            gas_used=quantity(value.get("gasUsed"), field="gasUsed"),
            gas_price_wei=quantity(value.get("effectiveGasPrice", "0x0"), field="effectiveGasPrice"),
            sender=str(value.get("from")).lower(),
            contract=contract.lower() if isinstance(contract, str) else None,
            logs=tuple(Log.from_json(each) for each in logs) if isinstance(logs, list) else (),
        )


async def find_receipt(rpc: Rpc, transactions: Sequence[str], *, confirmations: int = 1) -> Receipt | None:
    """The receipt of whichever of these transactions was mined, once `confirmations` blocks have it."""
    calls = [Call("eth_getTransactionReceipt", (each,)) for each in transactions]
    if confirmations > 1:
        calls.append(Call("eth_blockNumber"))
    answers = await rpc.batch(calls)
    for answer in answers[: len(transactions)]:
        found = call_object(answer)
        if found and found.get("blockNumber"):
            receipt = Receipt.from_json(found)
            head = call_int(answers[-1]) if confirmations > 1 else receipt.block_number
            return receipt if head - receipt.block_number + 1 >= confirmations else None
    return None


async def wait_for_receipt(
    rpc: Rpc, network: Network, transactions: Sequence[str], *, timeout_seconds: float, confirmations: int | None = None
) -> Receipt:
    """Poll until mined and confirmed. Raises `PaymentUnknown` (with the transaction) when time is up."""
    needed = network.confirmations if confirmations is None else confirmations
    pause = poll_seconds(network)
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                receipt = await find_receipt(rpc, transactions, confirmations=needed)
                if receipt:
                    return receipt
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, max(network.block_seconds / 2, 0.05))
    except TimeoutError:
        raise unknown(transactions[-1], timeout_seconds) from None


def poll_seconds(network: Network) -> float:
    """First pause between two looks: short on local chains, where a block is there within milliseconds."""
    return min(max(network.block_seconds / 8, 0.002), 0.5)


def unknown(transaction: str, waited_seconds: float) -> PaymentUnknown:
    """The error for a transaction that was handed over and not seen again yet."""
    return PaymentUnknown(
        f"transaction {transaction} was not mined within {waited_seconds:.0f} s",
        next_step="look it up again later; do not pay a second time before that",
        transaction=transaction,
    )
