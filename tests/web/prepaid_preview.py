"""The prepaid page over sample data: with an account, before one, and where the node keeps none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.web.adapters.prepaid import MISSING
from agentnexus.web.qr import qr_svg
from agentnexus.web.views.money import ToSign
from agentnexus.web.views.prepaid import AccountView, EntryView, HeldView, PrepaidPage, TopUpView

NOW = datetime(2026, 11, 21, 9, 41, tzinfo=UTC)
WALLET = "8sKxNfT4wV5zQm2rJpYcHbGdLeA7uR3tXkWnZ1oPvUy9"
TREASURY = "4yZ1hEwVQd6KqjR8tNsXfBcGmP2uLa9oT5rDk3JvWnCe"
NETWORK = "Solana devnet"
LINK = f"solana:{TREASURY}?spl-token=4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU&label=AgentNexus"
SIGNATURE = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"
HOSTILE = '<script>alert("wallet")</script>'
TOP_UP = TopUpView(TREASURY, NETWORK, ["USDC", "SOL"], LINK, qr_svg(LINK), 7)


def entries() -> list[EntryView]:
    def line(number: int, label: str, amount: str, signature: str = "", run_id: str = "") -> EntryView:
        return EntryView(label, amount, amount.startswith("+"), signature, run_id, NOW - timedelta(hours=number))

    return [
        line(1, "Withdrawn", "-0.25 SOL", SIGNATURE),
        line(2, "Given back by a task", "+0.17 USDC", run_id="wf_completed"),
        line(3, "Paid for a task", "-0.03 USDC", "0x" + "9b" * 32, run_id="wf_completed"),
        line(4, "Set aside for a task", "-0.2 USDC", run_id="wf_completed"),
        line(30, "Topped up", "+25.0 USDC", SIGNATURE[::-1]),
    ]


ACCOUNT = AccountView(
    WALLET,
    NOW - timedelta(days=3),
    [HeldView("USDC", "24.97", "0.0", "0.03"), HeldView("SOL", "0.75", "0.0", "0.0")],
    entries(),
    5,
)


@dataclass
class PreviewPrepaid:
    """Keeps what was asked of it. `refuse` is raised by everything that changes something."""

    shown: PrepaidPage = field(default_factory=lambda: PrepaidPage(TOP_UP, ACCOUNT))
    opened: list[tuple[str, str]] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    refuse: Exception | None = None
    asked_before: int | None = None

    def before_opening(self, *, proves: bool = True) -> None:
        self.shown = PrepaidPage(TOP_UP, proves=proves)

    def not_kept(self) -> None:
        self.shown = PrepaidPage(None, missing=MISSING)

    def with_history(self, *lines: EntryView, entries: int = 5, older: int | None = None) -> None:
        self.shown = PrepaidPage(TOP_UP, replace(ACCOUNT, history=lines, entries=entries, older=older))

    async def page(self, user_id: str, before: int | None = None) -> PrepaidPage:
        self.asked_before = before
        return self.shown

    async def message(self, user_id: str, wallet: str) -> ToSign:
        if self.shown.top_up is None:
            raise NotFound("this node keeps no prepaid accounts")
        if not wallet.isalnum():
            raise InvalidInput("this is no address of a Solana wallet", field="wallet", next_step="copy it")
        return ToSign("prepaid", wallet, "ed25519", f"AgentNexus prepaid account\nuser: local\nwallet: {wallet}", "")

    async def open(self, user_id: str, wallet: str, signature: str) -> None:
        self._may()
        self.opened.append((wallet, signature))
        self.shown = PrepaidPage(TOP_UP, replace(ACCOUNT, wallet=wallet, history=(), entries=0))

    async def claim(self, user_id: str, signature: str) -> str:
        self._may()
        self.claimed.append(signature)
        return "25 USDC"

    async def withdraw(self, user_id: str, amount: str, symbol: str, key: str) -> str:
        self._may()
        self.sent.append((amount, symbol, key))
        return SIGNATURE

    def _may(self) -> None:
        if self.refuse:
            raise self.refuse
