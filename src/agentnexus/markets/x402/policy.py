"""What a buyer checks before it signs: the host, the terms of the 402, the price cap. Everything here is pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from x402.schemas import PaymentRequirements
from x402.schemas.v1 import PaymentRequirementsV1

from agentnexus.core.errors import InvalidInput, NotAllowed, SellerFailed
from agentnexus.core.money import Asset, Money
from agentnexus.identity.origin import is_loopback
from agentnexus.markets.x402.kinds import address_problem, asset_id, canonical_address
from agentnexus.markets.x402.networks import SOLANA, family
from agentnexus.markets.x402.wire import AnyRequired, WireError, check_amount, from_v1


class TermsRefused(SellerFailed):
    """The seller's 402 asks for something this buyer does not sign; nothing was signed. Details: ``reasons``."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Terms:
    """The entry of a 402 that will be paid, in v2 form, and its price."""

    version: int
    requirement: PaymentRequirements
    price: Money


@dataclass(frozen=True, slots=True)
class PaymentPolicy:
    """Rules for every purchase.

    Args:
        assets: the only assets that are paid in, by CAIP-19 id.
        hosts_allowed: shell patterns (``*.example.com``); empty means every host.
        hosts_denied: win over allowed ones.
        longest_validity_seconds: how long a signature may stay good.
        allow_local_http: plain http to this machine only; everything else must be https.
        local_paths: what may be asked of this machine, by port, as the path's beginning; None: nothing. An offer must
            not lead the node to its own API, where a call from here counts as the local user's.
    """

    assets: Mapping[str, Asset]
    hosts_allowed: tuple[str, ...] = ()
    hosts_denied: tuple[str, ...] = ()
    schemes: Collection[str] = field(default=("exact",))
    longest_validity_seconds: int = 900
    allow_local_http: bool = True
    local_paths: Mapping[int, str | None] = field(default_factory=dict)

    def check_url(self, url: str) -> None:
        """Raises `NotAllowed` naming the rule that the address breaks."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError as error:
            raise InvalidInput(f"not an http(s) address: {url[:200]!r}", field="url") from error
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidInput(f"not an http(s) address: {url!r}", field="url")
        if parts.username or parts.password:
            raise NotAllowed("an address with a password in it is not bought from", host=host)
        if parts.scheme == "http" and not (self.allow_local_http and is_loopback(host)):
            raise NotAllowed(
                f"{host} is not asked over plain http: anyone on the way could change the price or take the payment",
                next_step="use its https address",
                host=host,
            )
        prefix = self.local_paths.get(port or (443 if parts.scheme == "https" else 80), "")
        if is_loopback(host) and (prefix is None or not parts.path.startswith(prefix)):
            raise NotAllowed("that address is a part of this node and not for sale", next_step="choose another seller")
        if any(fnmatchcase(host, pattern.lower()) for pattern in self.hosts_denied):
            raise NotAllowed(f"{host} is on the deny list", host=host, next_step="choose another seller")
        if self.hosts_allowed and not any(fnmatchcase(host, pattern.lower()) for pattern in self.hosts_allowed):
            raise NotAllowed(f"{host} is not on the allow list", host=host, next_step="add it to the allowed hosts")

    def choose(self, required: AnyRequired, maximum: Money, payees: Collection[str] = ()) -> Terms:
        """The cheapest entry of the 402 that all rules allow. Raises `TermsRefused` with the reason per entry.

        Args:
            maximum: the quoted price; only entries in its asset and not above it are paid.
            payees: canonical addresses that the offer named; empty: any.
        """
        reasons: list[str] = []
        fitting: list[Terms] = []
        for entry in required.accepts:
            try:
                requirement = from_v1(entry) if isinstance(entry, PaymentRequirementsV1) else entry
                fitting.append(self._terms(required.x402_version, requirement, maximum, payees))
            except (InvalidInput, WireError) as error:
                reasons.append(error.message)
        if not fitting:
            raise TermsRefused(
                f"the seller's terms are not acceptable: {'; '.join(reasons)[:500]}",
                next_step="choose another offer, or widen the budget or the known assets",
                reasons=reasons,
            )
        return min(fitting, key=lambda terms: terms.price.atomic)

    def _terms(self, version: int, requirement: PaymentRequirements, maximum: Money, payees: Collection[str]) -> Terms:
        if requirement.scheme not in self.schemes:
            raise InvalidInput(f"scheme {requirement.scheme!r} is not supported")
        flow = requirement.extra.get("paymentFlow", "authorization")
        if flow not in ("authorization", "upfront"):
            raise InvalidInput(f"payment flow {flow!r} is not known")
        usual = "default" if family(requirement.network) == SOLANA else "eip3009"
        if requirement.extra.get("assetTransferMethod", usual) != usual:
            raise InvalidInput(f"transfer method {requirement.extra['assetTransferMethod']!r} is not supported")
        asset = self.assets.get(asset_id(requirement.network, requirement.asset))
        if asset is None:
            raise InvalidInput(f"asset {requirement.asset} on {requirement.network} is not one we pay in")
        if problem := address_problem(requirement.network, requirement.pay_to):
            raise InvalidInput(f"payTo: {problem}")
        if payees and canonical_address(requirement.network, requirement.pay_to) not in payees:
            raise InvalidInput(f"payTo {requirement.pay_to} is not the address of the offer")
        if family(requirement.network) == SOLANA:
            fee_payer = str(requirement.extra.get("feePayer", ""))
            if problem := address_problem(requirement.network, fee_payer):
                raise InvalidInput(f"feePayer: {problem}")
        price = Money(asset, check_amount(requirement.amount))
        if asset.caip19 != maximum.asset.caip19 or price > maximum:
            raise InvalidInput(f"{price} is more than the {maximum} agreed on")
        if not 0 < requirement.max_timeout_seconds <= self.longest_validity_seconds:
            raise InvalidInput(
                f"a signature good for {requirement.max_timeout_seconds} s is outside the limit of "
                f"{self.longest_validity_seconds} s"
            )
        return Terms(version, requirement, price)
