"""What a Solana cluster says about the payments of a receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from solders.pubkey import Pubkey
from solders.signature import Signature

from agentnexus.core.errors import InvalidInput
from agentnexus.core.payments import PaymentRecord
from agentnexus.hiring.receipts import Lookup, TransactionFact
from agentnexus.rails.solana.cluster import Cluster, Commitment, Outcome
from agentnexus.rails.solana.errors import NodeError
from agentnexus.rails.solana.networks import network_by_name
from agentnexus.rails.solana.programs import TOKEN_PROGRAMS, associated_address, public_key
from agentnexus.rails.solana.rpc import SolanaRpc


@asynccontextmanager
async def solana_lookup(rpc_url: str) -> AsyncIterator[Lookup]:
    """Reads what a payment's transaction moved between its two parties, when it is final."""
    async with SolanaRpc(rpc_url) as rpc:
        cluster = Cluster(rpc)

        async def lookup(payment: PaymentRecord) -> TransactionFact | None:
            try:
                network = network_by_name(payment.network)
                signature = str(Signature.from_string(payment.transaction))
                if await rpc.call("getGenesisHash") != network.genesis_hash:
                    return None
                outcome = await cluster.outcome(signature, Commitment.FINALIZED)
                return None if outcome is None else _fact(outcome, payment)
            except (InvalidInput, ValueError, NodeError):  # nothing that this node could know
                return None

        yield lookup


def _fact(outcome: Outcome, payment: PaymentRecord) -> TransactionFact:
    mint = public_key(payment.asset.rpartition(":")[2], field="asset")

    def change(owner: str) -> int:
        return sum(outcome.changes.get(account, 0) for account in _accounts(public_key(owner), mint))

    # What the one lost and the other got: anything else in the transaction is not this payment.
    amount = max(0, min(change(payment.payee), -change(payment.payer)))
    signed = payment.authorization in map(str, outcome.transaction.signatures)
    return TransactionFact(
        outcome.error is None, payment.payer, payment.payee, amount, signed or not payment.authorization
    )


def _accounts(owner: Pubkey, mint: Pubkey) -> list[Pubkey]:
    return [associated_address(owner, mint, program) for program in TOKEN_PROGRAMS]
