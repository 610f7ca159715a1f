"""Who used up an authorisation's nonce: looked up on the chain when it was not our settlement."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.outcome import OutcomeKind, OutcomeReader
from agentnexus.rails.evm.receipts import find_receipt
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.token import paid

# Authorisations live for minutes; this reaches back hours on every listed network.
SPAN_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class NonceUse:
    """What the chain says. `paid`: the payee got exactly this. `decided`: it never will by this authorisation."""

    paid: bool
    decided: bool
    message: str
    transaction: str = ""


class History:
    """The past of one network."""

    def __init__(self, rpc: Rpc, network: Network) -> None:
        self.network = network
        self._rpc = rpc
        self._outcomes = OutcomeReader(rpc, network)

    async def find(self, signed: SignedAuthorization, token: str) -> NonceUse:
        """How the nonce of `signed` was used. Raises `Unavailable` without a chain."""
        authorization = signed.authorization
        head = await self._rpc.read_int("eth_blockNumber")
        outcome = await self._outcomes.read(
            token,
            authorization.payer,
            authorization.nonce,
            valid_before=authorization.valid_before,
            from_block=max(0, head - SPAN_BLOCKS),
        )
        if outcome.kind is OutcomeKind.CANCELLED:
            return NonceUse(False, True, "the payer cancelled the authorisation", outcome.transaction or "")
        receipt = await find_receipt(self._rpc, [outcome.transaction]) if outcome.transaction else None
        if outcome.kind is not OutcomeKind.USED or receipt is None:
            return NonceUse(False, False, "the nonce is used and the chain does not show yet by what")
        matches = paid(
            receipt.logs,
            token,
            payer=authorization.payer,
            payee=authorization.payee,
            value=authorization.value,
            nonce=authorization.nonce,
        )
        if not matches:
            return NonceUse(False, True, "the payer used the nonce for another payment", receipt.transaction)
        return NonceUse(True, True, "already settled", receipt.transaction)
