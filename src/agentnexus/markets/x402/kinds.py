"""The families of networks that `exact` payments come on: which of our terms one is for, who pays, what it spends.

What differs between families is asked here; the seller and the policy know no addresses. Solana's parts are loaded when
a payment there is met, so that nobody else needs its libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from x402.schemas import PaymentRequirements

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402 import exact as evm
from agentnexus.markets.x402.networks import SOLANA, family
from agentnexus.markets.x402.wire import Presented

TOKEN_NAMESPACES = {"eip155": "erc20", SOLANA: "token"}
RAILS = {"eip155": "evm", SOLANA: "solana"}


@dataclass(frozen=True, slots=True)
class Spent:
    """Who pays, and the name of what can be spent only once."""

    payer: str
    payment_id: str


def spent_by(presented: Presented, requirement: PaymentRequirements) -> Spent:
    """What a payment for this requirement spends; raises `WireError` for a payload that is not the scheme's."""
    if family(requirement.network) == SOLANA:
        from agentnexus.markets.x402.svm import exact as svm

        transfer = svm.read_transfer(presented)
        return Spent(str(transfer.payer), svm.payment_id(transfer, requirement.network))
    signed = evm.read_authorization(presented)
    return Spent(signed.authorization.payer, evm.payment_id(signed, requirement))


def requirement_for(presented: Presented, accepts: Sequence[PaymentRequirements]) -> PaymentRequirements | None:
    """The seller's own requirement that the payment claims to meet; what the client echoes is never trusted."""
    candidates = [asked for asked in accepts if (asked.scheme, asked.network) == (presented.scheme, presented.network)]
    if not candidates:
        return None
    if family(presented.network) == SOLANA:
        from agentnexus.markets.x402.svm import exact as svm

        return svm.requirement_for(presented, candidates)
    return evm.requirement_for(presented, candidates)


def canonical_address(network: str, address: str) -> str:
    """The form in which two spellings of one address are equal: hex has two cases, base58 has one."""
    return address.lower() if family(network) == "eip155" else address


def asset_id(network: str, address: str) -> str:
    """CAIP-19 of a token; raises `InvalidInput` on a network without known tokens."""
    namespace = TOKEN_NAMESPACES.get(family(network))
    if namespace is None:
        raise InvalidInput(f"no tokens are known on {network}", field="network")
    return f"{network}/{namespace}:{canonical_address(network, address)}"


def rail_of(network: str) -> str:
    """The rail that pays on a network; raises `InvalidInput` when there is none."""
    rail = RAILS.get(family(network))
    if rail is None:
        raise InvalidInput(f"no rail pays on {network}", field="network")
    return rail


def address_problem(network: str, address: str) -> str | None:
    """Why this is not an address of the network, or None."""
    if family(network) == SOLANA:
        from agentnexus.rails.solana.programs import public_key

        try:
            public_key(address, field="payTo")
        except InvalidInput as error:
            return error.message
        return None
    return None if evm.ADDRESS.fullmatch(address) else f"{address!r} is not an address"
