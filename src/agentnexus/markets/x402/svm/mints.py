"""Which tokens can be settled in: those whose transfer does exactly what its instruction says."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from agentnexus.core.ports import Clock
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.svm.exact import SignedTransfer
from agentnexus.markets.x402.wire import WireError
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.token_fees import read_fee_schedule, unsafe_extension
from agentnexus.rails.solana.tokens import Mint, read_mint

# A new fee is announced in the mint days before it counts.
REMEMBERED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Known:
    mint: Mint
    problem: str | None
    until: float


class Mints:
    """The mints of one cluster, asked for once an hour."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[Pubkey, _Known] = {}

    async def check(self, signed: SignedTransfer) -> None:
        """Raises `WireError` when the transfer names the wrong program or decimals, or the token does more."""
        known = self._known.get(signed.mint)
        if known is None or known.until <= self._clock.monotonic():
            known = self._known[signed.mint] = await self._read(signed.mint)
        if known.problem:
            raise WireError(
                f"{signed.mint} is not settled in: {known.problem}", reason=Reason.SVM_TOKEN_EXTENSION, part="asset"
            )
        if (known.mint.program, known.mint.decimals) != (signed.token_program, signed.decimals):
            raise WireError(
                "the transfer names another token program or other decimals than the token has",
                reason=Reason.SVM_MINT_MISMATCH,
                part="payload.transaction",
            )

    async def _read(self, address: Pubkey) -> _Known:
        account = await self._cluster.account(address)
        mint = read_mint(*account) if account else None
        if account is None or mint is None:
            raise WireError(f"{address} is not a token", reason=Reason.INVALID_REQUIREMENTS, part="asset")
        return _Known(mint, _problem(account[1]), self._clock.monotonic() + REMEMBERED_SECONDS)


def _problem(mint_data: bytes) -> str | None:
    schedule = read_fee_schedule(mint_data)
    if schedule is not None and (schedule.older.basis_points or schedule.newer.basis_points):
        return "it keeps a fee of every transfer"  # the payee would get less than the price
    return unsafe_extension(mint_data)
