"""Check the books for `nexus ledger check`: with themselves, and wallet by wallet with the chain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentnexus.bootstrap.buying import on_solana
from agentnexus.bootstrap.ground import Chain, Ground, open_chain, open_ground
from agentnexus.bootstrap.prepaid import compare_treasury, open_escrow
from agentnexus.bootstrap.upkeep import account_of, book_deposits, own_addresses
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Money
from agentnexus.escrow.model import Payout
from agentnexus.escrow.service import Escrow
from agentnexus.ledger.books import Books
from agentnexus.ledger.reconcile import Reconciler
from agentnexus.ledger.statements import to_csv, to_json
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.token import Token


@dataclass(slots=True)
class BooksReport:
    """Counts of what was checked, a line per wallet, and what is wrong."""

    counts: dict[str, int] = field(default_factory=dict)
    wallets: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, object]:
        return {"good": self.good, "counts": self.counts, "wallets": self.wallets, "problems": self.problems}


def running_settings() -> Settings:
    """Settings of the environment, completed from the economy that runs here, if any."""
    settings = Settings()
    description = settings.home / "devnet.json"
    if settings.database_url is not None or not description.exists():
        return settings
    facts = json.loads(Path(description).read_text(encoding="utf-8"))
    accounts = facts["accounts"]
    sellers = ",".join(accounts[name]["private_key"] for name in facts["sellers"])
    return Settings.model_validate(
        settings.model_dump()
        | {
            "database_url": facts["database_url"],
            "evm_rpc_url": facts["evm"]["rpc_url"],
            "evm_chain_id": facts["evm"]["chain_id"],
            "usdc_address": facts["evm"]["usdc"],
            "buyer_key": accounts["buyer"]["private_key"],
            "relayer_key": accounts["relayer"]["private_key"],
            "seller_keys": sellers,
            **_treasury_settings(facts, settings.home),
        }
    )


def _treasury_settings(facts: Mapping[str, Mapping[str, object]], home: Path) -> dict[str, object]:
    """Empty for an economy whose description is from before it had a second chain."""
    if "solana" not in facts:
        return {}
    return {
        "solana_rpc_url": facts["solana"]["rpc_url"],
        "solana_buyer_keypair": _if_there(home / "solana-buyer.json"),
        "treasury_keypair": home / "solana-treasury.json",
        "treasury_fee_keypair": home / "solana-relayer.json",
    }


def _if_there(path: Path) -> Path | None:
    """None for an economy from before it had that key."""
    return path if path.exists() else None


async def check_books() -> BooksReport:
    """Every wallet of ours against the chain; then double entry, balances, holds and budgets."""
    report = BooksReport()
    async with open_ground(running_settings()) as ground, Books(ground.database, ground.clock, ground.ids) as books:
        try:
            async with open_chain(ground) as chain:
                await _compare_wallets(ground, chain, books, report)
        except Unavailable as error:
            report.problems.append(f"the wallets are not compared with the chain: {error.message}")
        try:
            async with on_solana(ground) as solana:
                if solana is not None:
                    await solana.book_deposits(books)
                    await _compare(ground, books, await solana.observed(), report)
        except Unavailable as error:
            report.problems.append(f"the wallet on Solana is not compared with the chain: {error.message}")
        try:
            async with open_escrow(ground, books) as escrow:
                if escrow is not None:
                    await _compare_treasury(ground, escrow, books, report)
        except Unavailable as error:
            report.problems.append(f"the treasury is not compared with the chain: {error.message}")
        checked = await books.check()
    report.counts = {
        "accounts": checked.accounts,
        "transfers": checked.transfers,
        "reservations": checked.reservations,
        "budgets": checked.budgets,
    }
    report.problems += [f"{f.rule}: {f.subject}: {f.found}, expected {f.expected}" for f in checked.findings]
    return report


async def _compare_wallets(ground: Ground, chain: Chain, books: Books, report: BooksReport) -> None:
    await book_deposits(ground, chain, books)
    token = Token(chain.sender.rpc, chain.usdc.reference, chain.sender.network.chain_id)
    observed = {
        account_of(chain, address): Money(chain.usdc, await token.balance(address))
        for address in own_addresses(ground, chain)
    }
    await _compare(ground, books, observed, report)


async def _compare(ground: Ground, books: Books, observed: Mapping[str, Money], report: BooksReport) -> None:
    comparison = await Reconciler(books, ground.clock, ground.ids).compare(observed)
    for account, money in observed.items():
        word = "agrees" if account in comparison.agreeing else "payments on their way"
        if account in comparison.agreeing or account in comparison.in_flight:
            report.wallets.append(f"{account}  {money}  {word}")
    report.problems += [
        f"{case.subject}: the books say {case.expected}, the chain says {case.observed}" for case in comparison.cases
    ]


async def _compare_treasury(ground: Ground, escrow: Escrow, books: Books, report: BooksReport) -> None:
    """What was sent to it and not claimed is listed; it is nobody's yet, and nothing is done about it."""
    comparison = await compare_treasury(ground, escrow, Reconciler(books, ground.clock, ground.ids), twice=False)
    for subject in comparison.agreeing:
        report.wallets.append(f"{subject}  agrees")
    for subject in comparison.in_flight:
        report.wallets.append(f"{subject}  withdrawals on their way")
    for asset in escrow.treasury.assets:
        for seen in await escrow.unclaimed(asset):
            sender = seen.sender or "several senders"
            report.wallets.append(f"unclaimed: {seen.amount} from {sender}, {seen.sent_at:%Y-%m-%d}, {seen.signature}")
    report.problems += [
        f"{case.subject}: the books say {case.expected}, the chain says {case.observed}" for case in comparison.cases
    ]


async def book_payout(signature: str) -> Payout:
    """Book income that the operator took out of the treasury, by the transaction that did it.

    Raises `Unavailable` without a treasury, and what `Escrow.book_payout` raises.
    """
    async with (
        open_ground(running_settings()) as ground,
        Books(ground.database, ground.clock, ground.ids) as books,
        open_escrow(ground, books) as escrow,
    ):
        if escrow is None:
            raise Unavailable(
                "no treasury is configured", next_step="set NEXUS_SOLANA_RPC_URL and NEXUS_TREASURY_KEYPAIR"
            )
        return await escrow.book_payout(signature)


async def statement_of(account: str, form: str) -> str:
    """Every entry of an account, as CSV or JSON text."""
    async with open_ground(running_settings()) as ground, Books(ground.database, ground.clock, ground.ids) as books:
        asset = (await books.balance(account)).posted.asset
        lines = await books.statement(account, asset)
    return to_csv(lines) if form == "csv" else json.dumps(to_json(account, asset, lines), indent=2) + "\n"
