"""Check receipts for the command line: offline, and against the chain when an address of a node is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypedDict

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.payments import PaymentRecord
from agentnexus.hiring.receipts import Cancelled, Lookup, TransactionFact, verify_receipt, verify_transactions
from agentnexus.rails.evm.networks import network_by_name
from agentnexus.rails.evm.receipts import Receipt, find_receipt
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.token import cancelled_authorizations, transfers, used_authorizations


class Report(TypedDict):
    """Outcome for one receipt; `problems` are sentences. `signer` is whose key signed it: it says who is speaking."""

    id: str
    signer: str
    valid: bool
    problems: list[str]


async def verify_with_chain(entry: object, rpc_url: str | None, signers: Collection[str] | None = None) -> Report:
    """Check one receipt; raises `Unavailable` when the chain does not answer.

    Args:
        signers: whose receipts are accepted; None: anybody's, so that "valid" means unchanged and no more.
    """
    if not isinstance(entry, Mapping):
        return {"id": "?", "signer": "?", "valid": False, "problems": ["not a receipt: it is no JSON object"]}
    report = verify_receipt(dict(entry), signers=signers)
    if rpc_url is not None:
        async with _lookups(rpc_url) as (lookup, cancelled):
            try:
                report = await verify_transactions(report, lookup, cancelled)
            except Unavailable as error:
                raise Unavailable(error.message, next_step="check --rpc, or leave it out to verify offline") from error
    problems = [f"{check.name}: {check.detail}" for check in report.failures]
    identifier, signer = (str(entry.get(name, "?")) for name in ("id", "signer"))
    return {"id": identifier, "signer": signer, "valid": report.valid, "problems": problems}


@asynccontextmanager
async def _lookups(rpc_url: str) -> AsyncIterator[tuple[Lookup, Cancelled]]:
    """Of an EVM node or a Solana node: the payment says which it should be."""
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(rpc_url))
        on_evm, on_solana = chain_lookup(rpc), None
        with suppress(ImportError):  # without the Solana parts payments there are not found
            from agentnexus.bootstrap.verify_solana import solana_lookup

            on_solana = await stack.enter_async_context(solana_lookup(rpc_url))

        async def lookup(payment: PaymentRecord) -> TransactionFact | None:
            if not payment.network.startswith("solana:"):
                return await on_evm(payment)
            return None if on_solana is None else await on_solana(payment)

        yield lookup, chain_cancellations(rpc)


def chain_lookup(rpc: Rpc) -> Lookup:
    """Reads what an EVM chain says about a payment: the token transfer between its two parties."""

    async def lookup(payment: PaymentRecord) -> TransactionFact | None:
        receipt = await _mined(rpc, payment, payment.transaction)
        if receipt is None:
            return None
        moved = [
            transfer
            for transfer in transfers(receipt.logs, _token(payment))
            if (transfer.payer, transfer.payee) == (payment.payer.lower(), payment.payee.lower())
        ]
        amount = sum(transfer.value for transfer in moved)
        authorized = _named(payment, used_authorizations(receipt.logs, _token(payment)))
        return TransactionFact(
            receipt.succeeded, payment.payer, payment.payee, amount, authorized or not payment.authorization
        )

    return lookup


def chain_cancellations(rpc: Rpc) -> Cancelled:
    """Reads whether an EVM chain shows that the payer took the payment's authorisation back."""

    async def cancelled(payment: PaymentRecord) -> bool | None:
        receipt = await _mined(rpc, payment, payment.refund_transaction)
        if receipt is None:
            return None
        return receipt.succeeded and _named(payment, cancelled_authorizations(receipt.logs, _token(payment)))

    return cancelled


def _named(payment: PaymentRecord, ended: Collection[tuple[str, str]]) -> bool:
    """Whether the payment's authorisation is among these; any of its payer's, where an old receipt names none."""
    if not payment.authorization:
        return payment.payer.lower() in {payer for payer, _ in ended}
    return (payment.payer.lower(), payment.authorization.lower()) in ended


async def _mined(rpc: Rpc, payment: PaymentRecord, transaction: str) -> Receipt | None:
    """A transaction on the payment's network, deep enough; None when this chain does not know it."""
    try:
        network = network_by_name(payment.network)
    except InvalidInput:
        return None
    if network.chain_id != await rpc.chain_id():
        return None
    return await find_receipt(rpc, [transaction], confirmations=network.confirmations)


def _token(payment: PaymentRecord) -> str:
    return payment.asset.rpartition(":")[2].lower()
