"""What can go wrong between us and a chain, as members of the core error families."""

from __future__ import annotations

from enum import StrEnum

from agentnexus.core.errors import ErrorCode, InvalidInput, NotAllowed, PaymentFailed, Unavailable


class ChainUnavailable(Unavailable):
    """The node did not answer. `maybe_sent` tells whether it may have taken the request all the same."""

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        super().__init__(message, next_step="check that the chain's node runs and that NEXUS_EVM_RPC_URL points at it")
        self.maybe_sent = maybe_sent


class NodeError(Unavailable):
    """The node answered with a JSON-RPC error that is not about a contract's own refusal."""

    def __init__(self, method: str, rpc_code: int, rpc_message: str) -> None:
        super().__init__(
            f"{method}: {rpc_message}",
            next_step="read the node's message; limits and outages pass, a missing method needs another node",
            method=method,
            rpc_code=rpc_code,
        )
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message


class Reverted(PaymentFailed):
    """A contract refused a call; `data` is what it gave as the reason (selector and arguments)."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message, next_step="the contract's own reason is in details.reason", reason="0x" + data.hex())
        self.data = data


class WrongNetwork(NotAllowed):
    """A key, an asset or a node belongs to another network than the one in use."""


class Refusal(StrEnum):
    """Why an authorisation cannot be settled; the x402 room translates these into its wire codes."""

    WRONG_NETWORK = "wrong_network"
    WRONG_ASSET = "wrong_asset"
    WRONG_RECIPIENT = "wrong_recipient"
    WRONG_VALUE = "wrong_value"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    UNDEPLOYED_WALLET = "undeployed_wallet"
    NONCE_USED = "nonce_used"
    CLAIMED = "claimed"  # settled for somebody else, who has it
    INSUFFICIENT_BALANCE = "insufficient_balance"
    NO_SUCH_TOKEN = "no_such_token"  # noqa: S105 - a reason, not a secret
    WOULD_REVERT = "would_revert"
    REVERTED = "reverted"
    TRANSFER_MISMATCH = "transfer_mismatch"


_NEXT_STEPS = {
    Refusal.EXPIRED: "sign a new authorisation with a later validBefore",
    Refusal.NOT_YET_VALID: "wait until validAfter has passed",
    Refusal.NONCE_USED: "this authorisation was used or cancelled; look up what became of it before paying again",
    Refusal.CLAIMED: "the one whom it was settled for has the answer; ask there again with the same payment",
    Refusal.INSUFFICIENT_BALANCE: "the payer must hold the whole value when the payment is settled",
    Refusal.BAD_SIGNATURE: "sign with the payer's key over the token's own EIP-712 domain",
}


class SettlementRefused(PaymentFailed):
    """An authorisation that cannot be settled; nothing moved. Details carry `refusal`, its machine-readable reason."""

    code = ErrorCode.PAYMENT_FAILED

    def __init__(self, refusal: Refusal, message: str, *, transaction: str | None = None) -> None:
        super().__init__(
            message,
            next_step=_NEXT_STEPS.get(refusal, "compare the authorisation with what the seller asked for"),
            refusal=str(refusal),
            transaction=transaction,
        )
        self.refusal = refusal
        self.transaction = transaction


def missing(what: str, field: str) -> InvalidInput:
    """An `InvalidInput` for something that has to be there."""
    return InvalidInput(f"{what} is missing", field=field, next_step=f"give {field}")
