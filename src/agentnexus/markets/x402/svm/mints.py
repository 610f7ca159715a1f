"""Which tokens can be settled in: those whose transfer does exactly what its instruction says."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.svm.exact import SignedTransfer
from agentnexus.markets.x402.wire import WireError
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.tokens import Mint, read_mint

EXTENSIONS_AT = 166  # after a mint padded to 165 bytes and the byte that says what it is
TRANSFER_FEE = 1
NON_TRANSFERABLE = 9
TRANSFER_HOOK = 14
# With these the payee gets less than the amount, or a program of the issuer's runs at the fee payer's expense.
REFUSED = {
    TRANSFER_FEE: "keeps a fee of every transfer",
    NON_TRANSFERABLE: "cannot be transferred",
    TRANSFER_HOOK: "runs a program at every transfer",
}


@dataclass(frozen=True, slots=True)
class _Known:
    mint: Mint
    problem: str | None


class Mints:
    """The mints of one cluster, asked for once: an extension is part of a mint from its first day or never."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[Pubkey, _Known] = {}

    async def check(self, signed: SignedTransfer) -> None:
        """Raises `WireError` when the transfer names the wrong program or decimals, or the token does more."""
        known = self._known.get(signed.mint)
        if known is None:
            known = self._known[signed.mint] = await self._read(signed.mint)
        if known.problem:
            raise WireError(f"{signed.mint} {known.problem}", reason=Reason.SVM_TOKEN_EXTENSION, part="asset")
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
        kinds = extensions(account[1])
        return _Known(mint, next((text for kind, text in REFUSED.items() if kind in kinds), None))


def extensions(data: bytes) -> set[int]:
    """The kinds of the extensions of a Token-2022 mint; none for a plain one."""
    found: set[int] = set()
    at = EXTENSIONS_AT
    while at + 4 <= len(data):
        kind, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")
        if kind == 0:
            break
        found.add(kind)
        at += 4 + length
    return found
