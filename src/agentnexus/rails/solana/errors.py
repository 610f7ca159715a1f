"""What can go wrong between us and a cluster, as members of the core error families."""

from __future__ import annotations

from enum import StrEnum

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, Unavailable


class ClusterUnavailable(Unavailable):
    """The node did not answer. `maybe_sent` tells whether it may have taken the request all the same."""

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        super().__init__(message, next_step="check that the Solana node runs and that its RPC address is right")
        self.maybe_sent = maybe_sent


class NodeError(Unavailable):
    """The node answered with a JSON-RPC error. `data` is what it added, e.g. a simulation's logs."""

    def __init__(self, method: str, rpc_code: int, rpc_message: str, data: object = None) -> None:
        super().__init__(
            f"{method}: {rpc_message}",
            next_step="read the node's message; limits and outages pass, a missing method needs another node",
            method=method,
            rpc_code=rpc_code,
        )
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message
        self.data = data


class WrongNetwork(NotAllowed):
    """A key, an asset or a node belongs to another network than the one in use."""


class DepositFault(StrEnum):
    """Why a signature is not the deposit it is claimed to be. Each is its own refusal."""

    MALFORMED = "malformed"  # not a signature at all
    UNKNOWN = "unknown"  # the cluster does not know it
    UNCONFIRMED = "unconfirmed"  # known, not final yet: ask again
    FAILED = "failed"  # on the chain, and it moved nothing
    WRONG_RECIPIENT = "wrong_recipient"  # final, and our address got nothing
    WRONG_ASSET = "wrong_asset"  # our address got something else than we take
    WRONG_AMOUNT = "wrong_amount"  # not what was claimed
    FOREIGN = "foreign"  # not, or not only, the claimant's money
    TOO_OLD = "too_old"  # from before the time from which deposits count


_NEXT_STEPS = {
    DepositFault.MALFORMED: "give the transaction's signature in base58, as the wallet shows it",
    DepositFault.UNKNOWN: "check the signature and the network; a transaction just sent may need some seconds",
    DepositFault.UNCONFIRMED: "wait until the transaction is final and claim it again",
    DepositFault.FAILED: "nothing was moved: see the transaction's logs, and send the deposit again",
    DepositFault.WRONG_RECIPIENT: "send the deposit to the address shown with the top-up instructions",
    DepositFault.WRONG_ASSET: "send one of the assets shown with the top-up instructions, one per transaction",
    DepositFault.WRONG_AMOUNT: "claim the amount that the transaction really moved",
    DepositFault.FOREIGN: "deposit from the account's own wallet, alone in a transaction",
    DepositFault.TOO_OLD: "claim deposits within the time shown with the top-up instructions",
}


class DepositRefused(InvalidInput):
    """A claimed deposit that is none, for good unless `fault` is `UNKNOWN`. Details carry `reason`."""

    def __init__(self, fault: DepositFault, message: str, *, signature: str) -> None:
        super().__init__(
            message, next_step=_NEXT_STEPS[fault], field="signature", reason=str(fault), signature=signature
        )
        self.fault = fault


class DepositUnconfirmed(Conflict):
    """A deposit that is not final yet: the same claim can be right in some seconds. Details carry `reason`."""

    fault = DepositFault.UNCONFIRMED

    def __init__(self, message: str, *, signature: str) -> None:
        super().__init__(message, next_step=_NEXT_STEPS[self.fault], reason=str(self.fault), signature=signature)
