"""`nexus agents buy`, `agents execute`, `purchase` and `entitlements` on the real routes, chain and sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from agentnexus.cli.operations import EXIT_NOT_YET
from agentnexus.cli.purchase import PURCHASE, REFUND
from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.purchases.routes import no_purchase_routes, purchase_routes
from agentnexus.platform.http import install_error_handlers
from agentnexus.wallets.model import WalletKind
from tests.cli.site import Done, Terminal, key_of, served
from tests.cli.test_offers import Answers
from tests.purchases.conftest import AGENT, Shop, runtime, shop, world
from tests.wallets.conftest import WHOLE

__all__ = ["runtime", "shop", "world"]
pytestmark = pytest.mark.timeout(180)
USER = "alice"


@dataclass(frozen=True)
class Counter:
    """Where somebody buys; `folder` is for their files."""

    shop: Shop
    terminal: Terminal
    folder: Path

    async def run(self, *arguments: str, typed: str | None = None) -> Done:
        return await self.terminal.run(*arguments, typed=typed)

    async def told(self, *arguments: str) -> dict[str, object]:
        return await self.terminal.told(*arguments)

    def key(self, account: str = USER) -> str:
        return str(key_of(self.shop.world.chain, account, self.folder))


@pytest.fixture
async def counter(shop: Shop, tmp_path: Path) -> AsyncIterator[Counter]:
    app = FastAPI()
    app.state.callers = Callers(Tokens(shop.database, SystemEntropy()), local_user=USER)
    app.state.limiter = Limiter(shop.database, per_minute=10_000)
    clock = shop.world.clock
    for router in (listing_routes(shop.listings, clock, ""), purchase_routes(shop.purchases, shop.entitlements, clock)):
        app.include_router(router, prefix="/api/v1")
    install_error_handlers(app)
    async with served(app) as url:
        yield Counter(shop, Terminal(url, tmp_path / "home"), tmp_path)


async def test_runs_are_bought_used_and_the_rest_is_taken_back(counter: Counter) -> None:
    shop = counter.shop
    await shop.world.funded(USER, usdc=10 * WHOLE)
    bought = await counter.run("agents", "buy", AGENT, "--runs", "3", "--budget", "1")
    assert bought.code == 0, bought.stderr
    assert "3 runs left" in bought.stdout
    assert "the runs are yours" in bought.stderr
    assert await shop.runs(USER) == 3

    listed = await counter.run("entitlements")
    assert listed.stdout.split()[:1] == ["3"]
    used = await counter.run("agents", "execute", AGENT, "--input", '{"text": "hello"}')
    assert used.code == 0, used.stderr
    assert "hello" in used.stdout
    await shop.settle_uses()
    assert "2  " in (await counter.run("entitlements")).stdout

    (purchase,) = json.loads((await counter.run("purchase", "list", "--json")).stdout)
    assert f"{purchase['id']}  " in (await counter.run("purchase", "list")).stdout
    refunded = await counter.run("purchase", "refund", purchase["id"])
    assert refunded.code == 0, refunded.stderr
    assert "back in your wallet" in refunded.stdout
    assert await shop.runs(USER) == 0
    shown = await counter.run("purchase", "show", purchase["id"], "--wait")
    assert shown.code == 1, "a purchase that was refunded gives no runs"


@pytest.mark.parametrize("kind", [WalletKind.KEY, WalletKind.DELEGATED])
async def test_a_wallet_of_ones_own_signs_its_purchases(counter: Counter, kind: WalletKind) -> None:
    shop = counter.shop
    await shop.world.funded(USER, kind, usdc=10 * WHOLE)
    given = ("agents", "buy", AGENT, "--runs", "2", "--key", "k1", "--yes")
    waiting = await counter.run(*given)
    assert waiting.code == EXIT_NOT_YET
    assert "nexus purchase sign pur_" in waiting.stdout
    signed = await counter.run(*given, "--key-file", counter.key())
    assert signed.code == 0, signed.stderr
    assert await shop.runs(USER) == 2
    later = await counter.told("agents", "buy", AGENT, "--key", "k2", "--yes", "--no-wait")
    assert (later["step"], later["state"]) == ("signing", "processing")
    done = await counter.run("purchase", "sign", str(later["id"]), "--key-file", counter.key(), typed="y\n")
    assert done.code == 0, done.stderr
    assert await shop.runs(USER) == 3


async def test_nothing_is_bought_over_what_was_typed_or_without_a_yes(counter: Counter) -> None:
    await counter.shop.world.funded(USER, usdc=10 * WHOLE)
    over = await counter.run("agents", "buy", AGENT, "--runs", "3", "--budget", "0.000001")
    assert over.code == 3
    assert "at most 0.000001 is allowed" in over.stderr
    no = await counter.run("agents", "buy", AGENT, "--runs", "3", typed="n\n")
    assert no.code == 1
    assert "buy 3 runs of" in no.stderr
    unasked = await counter.run("agents", "buy", AGENT, "--json")
    assert unasked.code == 2
    assert json.loads((await counter.run("purchase", "list", "--json")).stdout) == []
    assert "nothing bought yet" in (await counter.run("purchase", "list")).stdout
    assert "no runs left" in (await counter.run("entitlements")).stdout


async def test_a_wallet_with_too_little_is_told_what_is_missing(counter: Counter) -> None:
    await counter.shop.world.funded(USER, usdc=1)
    poor = await counter.run("agents", "buy", AGENT, "--budget", "1")
    assert poor.code == 3
    assert "what to do" in poor.stderr


async def test_a_run_that_fails_says_why_and_keeps_the_run(counter: Counter) -> None:
    await counter.shop.world.funded(USER, usdc=10 * WHOLE)
    await counter.told("agents", "buy", AGENT, "--runs", "2", "--budget", "1")
    failed = await counter.run("agents", "execute", AGENT, "--input", '{"do": "refuse"}')
    assert failed.code == 1
    assert failed.stdout.startswith("failed  ")
    (right,) = json.loads((await counter.run("entitlements", "--json")).stdout)
    assert right["runs_left"] == 2


async def test_what_waits_for_a_signature_can_be_taken_back(counter: Counter) -> None:
    await counter.shop.world.funded(USER, WalletKind.KEY, usdc=10 * WHOLE)
    made = await counter.told("agents", "buy", AGENT, "--yes", "--no-wait")
    back = await counter.run("purchase", "refund", str(made["id"]))
    assert back.code == 0, back.stderr
    assert "nothing was paid" in back.stdout


async def test_a_node_that_sells_no_runs_says_so(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(no_purchase_routes(), prefix="/api/v1")
    install_error_handlers(app)
    async with served(app) as url:
        done = await Terminal(url, tmp_path).run("entitlements")
    assert done.code == 1
    assert "not sold in advance" in done.stderr


@pytest.mark.parametrize(
    ("state", "step", "bought", "refunded"),
    [
        ("processing", "sent", EXIT_NOT_YET, EXIT_NOT_YET),
        ("completed", "entitled", 0, 1),
        ("completed", "refunding", EXIT_NOT_YET, EXIT_NOT_YET),
        ("processing", "ending", EXIT_NOT_YET, EXIT_NOT_YET),
        ("refunded", "ended", 1, 0),
        ("failed", "ended", 1, 0),
    ],
)
def test_a_shell_learns_how_it_ended(state: str, step: str, bought: int, refunded: int) -> None:
    made: dict[str, object] = {"id": "pur_1", "state": state, "step": step}
    assert (PURCHASE.exit_code(made), REFUND.exit_code(made)) == (bought, refunded)


def test_a_purchase_that_failed_for_want_of_money_is_over_a_budget() -> None:
    assert PURCHASE.exit_code({"state": "failed", "error": {"code": "insufficient_funds"}}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "buy", AGENT, "--runs", "0"),
        ("agents", "buy", AGENT, "--runs", "1001"),
        ("agents", "buy", AGENT, "--budget", "x"),
        ("agents", "execute", AGENT),
        ("agents", "execute", AGENT, "--input", "{"),
        ("purchase", "sign", "pur_1"),
        ("purchase",),
    ],
)
async def test_wrong_use_is_said_before_any_node_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert (await Terminal("http://127.0.0.1:1", tmp_path).run(*arguments)).code == 2


async def test_what_sellers_write_cannot_steer_the_terminal(tmp_path: Path) -> None:
    row = {
        "agent_id": "x", "agent_name": "\x1b[2Jclean", "runs_left": 1, "status": "active",
    }  # fmt: skip
    with Answers({"data": [row]}).served() as url:
        assert "\x1b" not in (await Terminal(url, tmp_path).run("entitlements")).stdout
