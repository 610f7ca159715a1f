"""The `exact` scheme on EVM: an EIP-3009 authorisation, read strictly and compared with what is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from x402.schemas import PaymentRequirements

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.wire import Presented, WireError
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.encoding import to_hex

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
SETTLE_MARGIN_SECONDS = 6  # a transaction needs this long to be mined before the authorisation ends


def read_authorization(presented: Presented) -> SignedAuthorization:
    """The signed authorisation in an exact/EVM payload; raises `WireError` for anything but EIP-3009's shape."""
    try:
        return SignedAuthorization.from_json(presented.scheme_payload)
    except InvalidInput as error:
        field = str(error.details.get("field", "payload"))
        reason = Reason.INVALID_SIGNATURE if field == "signature" else Reason.INVALID_PAYLOAD
        raise WireError(error.message, reason=reason, part=f"payload.{field}") from error


def payment_id(signed: SignedAuthorization, requirement: PaymentRequirements) -> str:
    """What can be spent only once: network, asset, payer and nonce (the asset's contract keeps the nonce)."""
    authorization = signed.authorization
    return f"{requirement.network}:{requirement.asset.lower()}:{authorization.payer}:{to_hex(authorization.nonce)}"


def requirement_for(presented: Presented, candidates: Sequence[PaymentRequirements]) -> PaymentRequirements | None:
    """The seller's own requirement that the payment claims to meet; `candidates` are of its scheme and network."""
    accepted = presented.accepted
    if accepted is None:
        # v1 does not say which entry was chosen: the signed payee and value tell.
        paid = read_authorization(presented).authorization
        meant = [a for a in candidates if (a.pay_to.lower(), a.amount) == (paid.payee, str(paid.value))]
        return next(iter(meant or candidates), None)
    terms = (accepted.asset.lower(), accepted.amount, accepted.pay_to.lower())
    return next((a for a in candidates if (a.asset.lower(), a.amount, a.pay_to.lower()) == terms), None)


def check_terms(
    presented: Presented, signed: SignedAuthorization, requirement: PaymentRequirements, now: float
) -> Reason | None:
    """The first reason why the authorisation does not meet the requirement at `now` (unix seconds); no I/O."""
    authorization = signed.authorization
    extra = requirement.extra or {}
    checks = (
        (presented.scheme != "exact" or requirement.scheme != "exact", Reason.UNSUPPORTED_SCHEME),
        (presented.network != requirement.network, Reason.NETWORK_MISMATCH),
        (not ADDRESS.fullmatch(requirement.asset), Reason.INVALID_REQUIREMENTS),
        (extra.get("assetTransferMethod", "eip3009") != "eip3009", Reason.UNSUPPORTED_SCHEME),
        (not isinstance(extra.get("name"), str) or not isinstance(extra.get("version"), str), Reason.MISSING_DOMAIN),
        (authorization.payee != requirement.pay_to.lower(), Reason.RECIPIENT_MISMATCH),
        (authorization.value != int(requirement.amount), Reason.AUTHORIZATION_VALUE),
        (authorization.valid_before < now + SETTLE_MARGIN_SECONDS, Reason.AUTHORIZATION_EXPIRED),
        (authorization.valid_after > now, Reason.AUTHORIZATION_NOT_YET_VALID),
    )
    return next((reason for failed, reason in checks if failed), None)
