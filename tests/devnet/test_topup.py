"""Topping up in the local economy: which development wallet pays, and what a claim waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NexusError, NotFound, Unavailable
from agentnexus.devnet import topup
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.devnet.topup import WALLETS, Claims, Json

FACTS: Json = {
    "solana": {"accounts": {name: {"address": account.address} for name, account in solana_accounts().items()}}
}
Answer = Callable[[Json | None], Json]


@dataclass
class Node:
    """Answers by (method, last part of the path); an error is raised. `asked` keeps every request."""

    answers: dict[str, list[Json | NexusError]] = field(default_factory=dict)
    asked: list[tuple[str, str, Json | None]] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Json | None) -> Json:
        self.asked.append((method, path, body))
        answer = self.answers[path.rpartition("/")[2]].pop(0)
        if isinstance(answer, NexusError):
            raise answer
        return answer

    @property
    def claims(self) -> Claims:
        return Claims(self.ask, "/escrow/ann")


def address(name: str) -> str:
    return solana_accounts()[name].address


async def test_an_account_of_a_development_wallet_is_paid_by_that_wallet() -> None:
    node = Node({"balance": [{"userWallet": address("bob")}]})
    assert await node.claims.development_wallet(FACTS) == "bob"
    assert node.asked == [("GET", "/escrow/ann/balance", None)]


async def test_without_an_account_one_is_opened_for_the_first_free_wallet() -> None:
    taken = Conflict("this wallet belongs to another account")
    node = Node({"balance": [NotFound("no account")], "create": [taken, {}]})
    assert await node.claims.development_wallet(FACTS) == "bob"
    assert [body for _, _, body in node.asked[1:]] == [{"userWallet": address(name)} for name in WALLETS[:2]]


async def test_where_every_wallet_is_taken_the_nodes_own_words_are_passed_on() -> None:
    taken: list[Json | NexusError] = [Conflict("this wallet belongs to another account") for _ in WALLETS]
    with pytest.raises(Conflict, match="belongs to another"):
        await Node({"balance": [NotFound("no account")], "create": taken}).claims.development_wallet(FACTS)


@pytest.mark.parametrize("question", ["balance", "create"])
async def test_other_errors_are_not_taken_for_a_missing_account(question: str) -> None:
    answers: dict[str, list[Json | NexusError]] = {"balance": [NotFound("no account")], "create": []}
    answers[question] = [Unavailable("this node keeps no prepaid accounts")]
    with pytest.raises(Unavailable, match="keeps no prepaid"):
        await Node(answers).claims.development_wallet(FACTS)


async def test_an_account_of_ones_own_wallet_is_not_topped_up_with_play_money() -> None:
    node = Node({"balance": [{"userWallet": "8sKxNfT4wV5zQm2rJpYcHbGdLeA7uR3tXkWnZ1oPvUy9"}]})
    with pytest.raises(InvalidInput, match="no development wallet") as caught:
        await node.claims.development_wallet(FACTS)
    assert "nexus escrow deposit" in caught.value.next_step


@pytest.mark.parametrize("facts", [{}, {"solana": None}, {"solana": "x"}])
async def test_outside_the_local_economy_nothing_is_asked(facts: Json) -> None:
    node = Node()
    with pytest.raises(InvalidInput, match="local economy"):
        await node.claims.development_wallet(facts)
    assert node.asked == []


async def test_a_claim_waits_until_the_transfer_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topup, "PAUSE_SECONDS", 0.0)
    early: list[Json | NexusError] = [
        InvalidInput("not known", reason="unknown"),
        Conflict("not final", reason="unconfirmed"),
        {"success": True},
    ]
    node = Node({"deposit": early})
    assert await node.claims.claim("sig") == {"success": True}
    assert node.asked == [("POST", "/escrow/ann/deposit", {"signature": "sig"})] * 3


async def test_a_claim_that_is_refused_for_good_is_not_repeated() -> None:
    node = Node({"deposit": [InvalidInput("failed on the chain", reason="failed")]})
    with pytest.raises(InvalidInput, match="failed on the chain"):
        await node.claims.claim("sig")
    assert len(node.asked) == 1


async def test_a_claim_that_never_becomes_final_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topup, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(topup, "CLAIM_SECONDS", 0.05)
    waiting: list[Json | NexusError] = [Conflict("not final", reason="unconfirmed")] * 1_000_000
    with pytest.raises(TimeoutError):
        await Node({"deposit": waiting}).claims.claim("sig")
