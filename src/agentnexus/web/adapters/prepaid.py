"""`PrepaidDoor` over the escrow room; `NoPrepaid` where this node keeps no treasury."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from agentnexus.api.wallet_forms import signature_text, wallet_id
from agentnexus.core.errors import InvalidInput, NexusError, Unavailable
from agentnexus.core.money import Asset, spelled
from agentnexus.escrow.model import Account, Entry, EntryKind, ownership_message
from agentnexus.escrow.service import Escrow
from agentnexus.rails.solana.base58 import encode
from agentnexus.web.qr import qr_svg
from agentnexus.web.views.money import ToSign
from agentnexus.web.views.prepaid import REFUSALS, AccountView, EntryView, HeldView, PrepaidPage, TopUpView
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.runs import Problem

LINES: Final = 50
LABELS: Final = {
    EntryKind.DEPOSIT: "Topped up",
    EntryKind.WITHDRAWAL: "Withdrawn",
    EntryKind.RESERVED: "Set aside for a task",
    EntryKind.CHARGED: "Paid for a task",
    EntryKind.RELEASED: "Given back by a task",
}
NETWORKS: Final = {
    "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp": "Solana",
    "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": "Solana devnet",
    "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z": "Solana testnet",
}
MISSING: Final = (
    ("NEXUS_SOLANA_RPC_URL", "address of a Solana node"),
    ("NEXUS_SOLANA_NETWORK", "solana, solana-devnet or solana-testnet"),
    ("NEXUS_TREASURY_KEYPAIR", "keypair file (0600) of the wallet that holds the prepaid money"),
)


class NoPrepaid:
    """Says what to set."""

    async def page(self, user_id: str, before: int | None = None) -> PrepaidPage:
        return PrepaidPage(None, missing=MISSING)

    async def message(self, user_id: str, wallet: str) -> ToSign:
        raise _not_kept()

    async def open(self, user_id: str, wallet: str, signature: str) -> None:
        raise _not_kept()

    async def claim(self, user_id: str, signature: str) -> str:
        raise _not_kept()

    async def withdraw(self, user_id: str, amount: str, symbol: str, key: str) -> str:
        raise _not_kept()


class HousePrepaid:
    """One person's account at a time: the user's id is the visitor's own."""

    def __init__(self, escrow: Escrow) -> None:
        self._escrow = escrow
        treasury = escrow.treasury
        main = treasury.assets[0]
        # Solana Pay's transfer request: the wallet asks for the amount itself.
        link = f"solana:{treasury.address}?{urlencode({'spl-token': main.reference, 'label': 'AgentNexus'})}"
        symbols = [asset.symbol for asset in treasury.assets]
        self._top_up = TopUpView(
            treasury.address,
            NETWORKS.get(treasury.network, treasury.network),
            symbols,
            link,
            qr_svg(link),
            treasury.claim_within.days,
        )

    async def page(self, user_id: str, before: int | None = None) -> PrepaidPage:
        """Everything of the page, the newest lines of the history first, from the one before a position."""
        proves = self._escrow.require_proof
        if not await self._escrow.has_account(user_id):
            return PrepaidPage(self._top_up, proves=proves)
        account = await self._escrow.account(user_id)
        entries, count = await self._escrow.history(user_id, LINES, before)
        held = [await self._held(account, asset) for asset in self._escrow.treasury.assets]
        older = entries[-1].position if len(entries) == LINES else None
        lines = [_line(entry) for entry in entries]
        shown = AccountView(account.wallet, account.created_at, held, lines, count, older)
        return PrepaidPage(self._top_up, shown, proves=proves)

    async def message(self, user_id: str, wallet: str) -> ToSign:
        """What the wallet signs. Raises `InvalidInput` for what is no wallet's address."""
        if not self._escrow.treasury.is_wallet(wallet):
            raise InvalidInput(
                "this is no address of a Solana wallet", field="wallet", next_step="copy it from your wallet"
            )
        return ToSign("prepaid", wallet, "ed25519", ownership_message(user_id, wallet), wallet)

    async def open(self, user_id: str, wallet: str, signature: str) -> None:
        await self._escrow.create(user_id, wallet, _base58(wallet, signature) if signature else "")

    async def claim(self, user_id: str, signature: str) -> str:
        """What was credited, as text."""
        amount = (await self._escrow.deposit(user_id, signature)).amount
        return str(amount)

    async def withdraw(self, user_id: str, amount: str, symbol: str, key: str) -> str:
        """The transaction's signature. `amount` is decimal text; the same `key` sends once."""
        known = {asset.symbol: asset for asset in self._escrow.treasury.assets}
        if symbol not in known:
            raise InvalidInput(f"{symbol!r} is not held here", field="asset", next_step=f"use {' or '.join(known)}")
        return await self._escrow.withdraw(user_id, known[symbol].parse(amount), f"page:{key}")

    async def _held(self, account: Account, asset: Asset) -> HeldView:
        balance = await self._escrow.balance(account.user_id, asset)
        spent = await self._escrow.spent(account.user_id, asset)
        amounts = (spelled(each.decimal, asset.decimals) for each in (balance.available, balance.reserved, spent))
        return HeldView(asset.symbol, *amounts)


def refusal(error: NexusError | None) -> Problem | None:
    """Each refusal of a claim in its own words, with what the chain said after it."""
    shown = problem_of(error)
    title = REFUSALS.get(str(error.details.get("reason", ""))) if error is not None else None
    if shown is None or title is None:
        return shown
    return Problem(f"{title}.", shown.next_step, shown.code)


def _line(entry: Entry) -> EntryView:
    amount = entry.amount
    sign = "+" if amount.atomic > 0 else "-"
    shown = f"{sign}{amount if amount.atomic > 0 else -amount}"
    run_id = entry.reference if entry.reference.startswith("wf_") else ""
    return EntryView(LABELS[entry.kind], shown, amount.atomic > 0, entry.signature, run_id, entry.at)


def _base58(wallet: str, signature: str) -> str:
    """Wallets and tools write signatures as base58, base64 or hex; the room checks base58."""
    kept = signature_text(wallet_id(wallet), signature)
    try:
        return encode(b64decode(kept, validate=True))
    except ValueError:
        return kept


def _not_kept() -> Unavailable:
    names: Sequence[str] = [name for name, _ in MISSING]
    return Unavailable("this node keeps no prepaid accounts", next_step=f"its operator sets {', '.join(names)}")
