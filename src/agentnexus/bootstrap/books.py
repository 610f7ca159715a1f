"""Check the books for `nexus ledger check`: with themselves, and wallet by wallet with the chain."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from agentnexus.bootstrap.ground import Chain, Ground, open_chain, open_ground
from agentnexus.bootstrap.upkeep import account_of, book_deposits, own_addresses
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Money
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
        }
    )


async def check_books() -> BooksReport:
    """Every wallet of ours against the chain; then double entry, balances, holds and budgets."""
    report = BooksReport()
    async with open_ground(running_settings()) as ground, Books(ground.database, ground.clock, ground.ids) as books:
        try:
            async with open_chain(ground) as chain:
                await _compare_wallets(ground, chain, books, report)
        except Unavailable as error:
            report.problems.append(f"the wallets are not compared with the chain: {error.message}")
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
    comparison = await Reconciler(books, ground.clock, ground.ids).compare(observed)
    for account, money in observed.items():
        word = "agrees" if account in comparison.agreeing else "payments on their way"
        if account in comparison.agreeing or account in comparison.in_flight:
            report.wallets.append(f"{account}  {money}  {word}")
    report.problems += [
        f"{case.subject}: the books say {case.expected}, the chain says {case.observed}" for case in comparison.cases
    ]


async def statement_of(account: str, form: str) -> str:
    """Every entry of an account, as CSV or JSON text."""
    async with open_ground(running_settings()) as ground, Books(ground.database, ground.clock, ground.ids) as books:
        asset = (await books.balance(account)).posted.asset
        lines = await books.statement(account, asset)
    return to_csv(lines) if form == "csv" else json.dumps(to_json(account, asset, lines), indent=2) + "\n"
