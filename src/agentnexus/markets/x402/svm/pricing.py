"""Asking for money on Solana: the requirement, its fee payer, and the hint that saves the buyer a round trip."""

from __future__ import annotations

from typing import Protocol

from x402.schemas import PaymentRequirements, SupportedResponse

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock
from agentnexus.markets.x402.networks import caip2
from agentnexus.markets.x402.pricing import Accepts, PricedRequest
from agentnexus.rails.solana.exact import MAX_MEMO_BYTES
from agentnexus.rails.solana.programs import public_key

HINT_SECONDS = 5.0  # a blockhash lives for about a minute: a buyer should get nearly all of it


def exact_on_solana(
    price: Money, pay_to: str, *, fee_payer: str, memo: str | None = None, timeout_seconds: int = 60
) -> PaymentRequirements:
    """An `exact` requirement in an SPL token. `fee_payer` is the facilitator's, see `fee_payer_of`.

    `pay_to` is the owner; its associated account must exist: no payment makes one.
    """
    if price.atomic <= 0:
        raise InvalidInput(f"a price must be more than nothing, not {price}", field="price")
    extra: dict[str, object] = {"feePayer": str(public_key(fee_payer, field="fee_payer"))}
    if memo is not None:
        if not 0 < len(memo.encode()) <= MAX_MEMO_BYTES:
            raise InvalidInput(f"a memo has 1 to {MAX_MEMO_BYTES} bytes", field="memo")
        extra["memo"] = memo
    return PaymentRequirements(
        scheme="exact",
        network=price.asset.network,
        asset=str(public_key(price.asset.reference, field="asset")),
        amount=str(price.atomic),
        pay_to=str(public_key(pay_to, field="pay_to")),
        max_timeout_seconds=timeout_seconds,
        extra=extra,
    )


def fee_payer_of(supported: SupportedResponse, network: str) -> str:
    """The fee payer a facilitator offers on a network; raises `Unavailable` when it has none there."""
    for kind in supported.kinds:
        named = (kind.extra or {}).get("feePayer")
        if kind.scheme == "exact" and caip2(kind.network) == network and isinstance(named, str):
            return named
    raise Unavailable(
        f"the facilitator sponsors no payments on {network}", next_step="choose a facilitator that lists it"
    )


class LatestBlockhash(Protocol):
    """Where the newest blockhash comes from."""

    async def __call__(self) -> tuple[str, int]:
        """The blockhash and the last block height it is good for."""


class WithBlockhash:
    """A dynamic price: static requirements, those on Solana with a recent blockhash, asked for at most every 5 s.

    Without a node's answer the requirements go out unadorned: the hint is a courtesy.
    """

    def __init__(self, accepts: Accepts, latest: LatestBlockhash, clock: Clock) -> None:
        self._accepts = tuple(accepts)
        self._latest = latest
        self._clock = clock
        self._hinted: Accepts = self._accepts
        self._until = float("-inf")

    async def __call__(self, _request: PricedRequest) -> Accepts:
        if self._clock.monotonic() >= self._until:
            self._until = self._clock.monotonic() + HINT_SECONDS
            try:
                self._hinted = self._hint(*await self._latest())
            except Unavailable:
                self._hinted = self._accepts
        return self._hinted

    def _hint(self, blockhash: str, last_valid_block_height: int) -> Accepts:
        hint = {"recentBlockhash": blockhash, "lastValidBlockHeight": str(last_valid_block_height)}
        return tuple(
            asked.model_copy(update={"extra": {**(asked.extra or {}), **hint}})
            if asked.network.startswith("solana:")
            else asked
            for asked in self._accepts
        )
