"""Deposits by signature: what a claimed transaction brought to our address, and whose money it was.

Read from balances before and after, not from instructions: a program may move tokens in any way, and an instruction
that looks like a transfer may have been undone in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from solders.pubkey import Pubkey
from solders.signature import Signature

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.rails.solana.cluster import Cluster, Commitment, Node
from agentnexus.rails.solana.errors import DepositFault, DepositRefused, DepositUnconfirmed
from agentnexus.rails.solana.landed import Landed, read_landed
from agentnexus.rails.solana.networks import Network
from agentnexus.rails.solana.programs import public_key


@dataclass(frozen=True, slots=True)
class Deposit:
    """Money that arrived for good. `sender` is the wallet whose money it was, "" when several paid together."""

    signature: str
    sender: str
    recipient: str
    amount: Money
    slot: int
    sent_at: datetime


class DepositVerifier:
    """Verifies claims on one cluster for one recipient.

    Args:
        recipient: our wallet. Tokens count in its associated accounts only: any other account that carries our name
            may still be in somebody else's hands.
        assets: what is taken.
        commitment: how final a deposit must be.
    """

    def __init__(
        self,
        node: Node,
        network: Network,
        recipient: str,
        assets: Sequence[Asset],
        *,
        commitment: Commitment = Commitment.FINALIZED,
    ) -> None:
        self.network = network
        self.recipient = recipient
        self.assets = tuple(assets)
        self._wallet = public_key(recipient, field="recipient")
        self._mints = {mint_of(asset, network): asset for asset in assets}
        self._node = node
        self._cluster = Cluster(node)
        self._commitment = commitment

    async def verify_deposit(
        self,
        signature: str,
        *,
        sender: str | None = None,
        amount: Money | None = None,
        not_before: datetime | None = None,
    ) -> Deposit:
        """The deposit behind a signature.

        Args:
            sender: whose money it must be; anybody's when None.
            amount: what it must be exactly; whatever arrived when None.
            not_before: older transactions are refused.

        Raises `DepositRefused` or `DepositUnconfirmed`, with ``details.reason`` one of `DepositFault`;
        `InvalidInput` for a sender that is no address; `ClusterUnavailable` and `NodeError` when the cluster does not
        say.
        """
        if sender is not None:
            public_key(sender, field="sender")  # "" is what a deposit of several wallets has
        landed = await self.final(signature)
        deposit = self._read(landed)
        if sender is not None and deposit.sender != sender:
            raise DepositRefused(
                DepositFault.FOREIGN, f"the money is not {sender}'s, or not only", signature=landed.signature
            )
        if amount is not None and deposit.amount != amount:
            raise DepositRefused(
                DepositFault.WRONG_AMOUNT, f"the transaction brought {deposit.amount}", signature=landed.signature
            )
        if not_before is not None and deposit.sent_at < not_before:
            raise DepositRefused(
                DepositFault.TOO_OLD,
                f"the deposit is of {deposit.sent_at:%Y-%m-%d %H:%M} UTC",
                signature=landed.signature,
            )
        return deposit

    async def final(self, signature: str) -> Landed:
        """A final transaction that did what it says; raises `DepositRefused` or `DepositUnconfirmed` otherwise."""
        landed = await self._final(_checked(signature))
        if landed.error is not None:
            raise DepositRefused(
                DepositFault.FAILED, f"the transaction failed on the chain: {landed.error}", signature=landed.signature
            )
        return landed

    async def _final(self, signature: str) -> Landed:
        status = await self._cluster.status(signature, search=True)
        if status is not None and not status.reached(self._commitment):
            raise DepositUnconfirmed("the transaction is not final yet", signature=signature)
        landed = await read_landed(self._node, signature, self._commitment)
        if landed is not None:
            return landed
        if status is not None:
            raise DepositUnconfirmed("the node cannot show the transaction yet", signature=signature)
        raise DepositRefused(
            DepositFault.UNKNOWN, f"{self.network.caip2} does not know this transaction", signature=signature
        )

    def _read(self, landed: Landed) -> Deposit:
        received = landed.mints_received(self._wallet)
        if not received:
            raise DepositRefused(
                DepositFault.WRONG_RECIPIENT, f"nothing of it came to {self.recipient}", signature=landed.signature
            )
        taken = [self._mints[mint] for mint in received if mint in self._mints]
        if len(taken) != 1:
            what = "nothing that is taken here" if not taken else "more than one asset"
            raise DepositRefused(DepositFault.WRONG_ASSET, f"{self.recipient} got {what}", signature=landed.signature)
        deposit = read_deposit(landed, self._wallet, taken[0], self.network)
        if deposit is None:
            raise DepositUnconfirmed("the node cannot date the transaction yet", signature=landed.signature)
        return deposit


def read_deposit(landed: Landed, wallet: Pubkey, asset: Asset, network: Network) -> Deposit | None:
    """What a final transaction brought to a wallet in one asset; None when nothing, or without a time."""
    mint = mint_of(asset, network)
    atomic = landed.received(wallet, mint)
    if landed.error is not None or atomic <= 0 or landed.sent_at is None:
        return None
    payers = landed.payers(mint)
    sender = str(next(iter(payers))) if len(payers) == 1 else ""
    return Deposit(landed.signature, sender, str(wallet), Money(asset, atomic), landed.slot, landed.sent_at)


def mint_of(asset: Asset, network: Network) -> Pubkey | None:
    """None for SOL. Raises `InvalidInput` for an asset of another network."""
    if asset.network != network.caip2:
        raise InvalidInput(f"{asset.caip19} is not on {network.caip2}", field="asset")
    return None if asset == network.native else public_key(asset.reference, field="asset")


def _checked(signature: str) -> str:
    try:
        return str(Signature.from_string(signature))
    except ValueError:
        shown = signature[:100]
        raise DepositRefused(DepositFault.MALFORMED, f"not a signature: {shown!r}", signature=shown) from None
