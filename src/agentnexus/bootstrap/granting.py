"""Session approvals of this node: what wallets sign names the node by the key that it signs receipts with."""

from __future__ import annotations

from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.ledger.approvers import Approvers
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.wallet_signatures import WalletSignatures


def open_grants(ground: Ground, chain: Chain, buying: Buying) -> Grants:
    """The same in the API process and in the workers."""
    signatures = WalletSignatures(chain.usdc.network)
    approvers = Approvers(ground.database, ground.clock, signatures, buying.signer.public_id)
    return Grants(buying.books, ground.clock, chain.usdc, approvers)
