"""What a transaction took out of a wallet of ours, read from balances, as deposits are."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.rails.solana.deposits import DepositVerifier, mint_of
from agentnexus.rails.solana.programs import public_key


@dataclass(frozen=True, slots=True)
class Departure:
    """Money that left for good. `receiver` is whose it is now, "" when it went to several."""

    signature: str
    receiver: str
    amount: Money


async def find_departure(verifier: DepositVerifier, signature: str) -> Departure:
    """What left the verifier's wallet, of the one asset that did.

    Raises `DepositRefused` or `DepositUnconfirmed` for a transaction that is none, failed or is not final, and
    `InvalidInput` for one that took nothing, or more than one asset, out of the wallet.
    """
    landed = await verifier.final(signature)
    wallet = public_key(verifier.recipient, field="recipient")
    left = {
        asset: -change
        for asset in verifier.assets
        if (change := landed.received(wallet, mint_of(asset, verifier.network))) < 0
    }
    if len(left) != 1:
        what = "more than one asset" if left else "nothing that is counted here"
        raise InvalidInput(
            f"the transaction took {what} out of {verifier.recipient}",
            next_step="give the signature of the transfer that took the money out, one asset a transaction",
            field="signature",
        )
    ((asset, atomic),) = left.items()
    receivers = landed.receivers(mint_of(asset, verifier.network))
    receiver = str(next(iter(receivers))) if len(receivers) == 1 else ""
    return Departure(landed.signature, receiver, Money(asset, atomic))
