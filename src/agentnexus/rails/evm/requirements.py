"""Reading what a seller asks for: the `reference` of a payment request, as x402 v1 and v2 state it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput
from agentnexus.core.payments import PaymentRequest
from agentnexus.rails.evm.encoding import address
from agentnexus.rails.evm.errors import WrongNetwork
from agentnexus.rails.evm.networks import Network, network_by_name

_DEFAULT_VALID_SECONDS = 300
# Longer than any job waits for its answer; a seller asking for more would hold the payer's money hostage.
_MAXIMUM_VALID_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Terms:
    """One checked requirement.

    Args:
        token: lower-case contract address.
        payee: lower-case address.
        valid_seconds: how long the seller may take to collect.
        name, version: the token's signing domain as the seller claims it.
    """

    token: str
    payee: str
    value: int
    valid_seconds: int
    name: str | None
    version: str | None


def read_terms(request: PaymentRequest, network: Network) -> Terms:
    """Check a request against its own reference, so that we never sign what the reference says and the budget did not.

    Raises `WrongNetwork` or `InvalidInput` naming the field.
    """
    reference = request.reference
    asset = request.amount.asset
    if asset.network != network.caip2:
        raise WrongNetwork(
            f"{asset.caip19} is not on {network.caip2}",
            next_step=f"pay from a wallet on {asset.network}",
            network=network.caip2,
        )
    token = address(asset.reference, field="asset")
    payee = address(request.payee, field="payee")
    stated = {
        "network": ("network" not in reference) or network_by_name(reference["network"]) == network,
        "asset": _same_address(reference, "asset", token),
        "payTo": _same_address(reference, "payTo", payee),
        "scheme": reference.get("scheme", "exact") == "exact",
        "amount": _stated_amount(reference) in (None, str(request.amount.atomic)),
    }
    wrong = [name for name, right in stated.items() if not right]
    if wrong:
        raise InvalidInput(
            f"the seller's requirement does not match the payment in: {', '.join(wrong)}",
            field=f"reference.{wrong[0]}",
            next_step="ask the seller for a new quote",
        )
    extra = reference.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    if extra.get("assetTransferMethod", "eip3009") != "eip3009":
        raise InvalidInput("this rail signs eip3009 transfers only", field="reference.extra.assetTransferMethod")
    return Terms(
        token=token,
        payee=payee,
        value=request.amount.atomic,
        valid_seconds=_valid_seconds(reference.get("maxTimeoutSeconds", _DEFAULT_VALID_SECONDS)),
        name=_text(extra.get("name")),
        version=_text(extra.get("version")),
    )


def _stated_amount(reference: Mapping[str, object]) -> object:
    return reference.get("amount", reference.get("maxAmountRequired"))


def _same_address(reference: Mapping[str, object], field: str, expected: str) -> bool:
    return field not in reference or address(reference[field], field=f"reference.{field}") == expected


def _valid_seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise InvalidInput("maxTimeoutSeconds must be a positive integer", field="reference.maxTimeoutSeconds")
    return min(value, _MAXIMUM_VALID_SECONDS)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
