"""`nexus agents buy` and `execute`, `purchase`, `entitlements`: runs and months, on real routes, chain and sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI

from agentnexus.cli.bought import comes_back, words
from agentnexus.cli.operations import EXIT_NOT_YET
from agentnexus.cli.purchase import PURCHASE, REFUND
from agentnexus.cli.rights import rights_of
from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.marketplace.listings.routes import listing_routes
from agentnexus.marketplace.purchases.kinds import Period
from agentnexus.marketplace.purchases.routes import no_purchase_routes, purchase_routes
from agentnexus.platform.http import install_error_handlers
from agentnexus.wallets.model import WalletKind
from agentnexus.wallets.routes import wallet_routes
from tests.cli.site import Done, Terminal, key_of, served
from tests.cli.test_offers import Answers
from tests.purchases.conftest import AGENT, Shop, runtime, shop, world
from tests.wallets.conftest import WHOLE
from tests.web.months import runs_of_this_month, sell_months, this_month

__all__ = ["runtime", "shop", "world"]
pytestmark = pytest.mark.timeout(180)
USER = "alice"
BOB = "0x" + "b0" * 20


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


async def _nobody(_person_id: str) -> list[object]:
    return []


@pytest.fixture
async def counter(shop: Shop, tmp_path: Path) -> AsyncIterator[Counter]:
    app = FastAPI()
    app.state.callers = Callers(Tokens(shop.database, SystemEntropy()), local_user=USER)
    app.state.limiter = Limiter(shop.database, per_minute=10_000)
    clock = shop.world.clock
    wallet = wallet_routes(shop.world.wallets(), _nobody)  # type: ignore[arg-type]  # nobody has a passkey
    buying = purchase_routes(shop.purchases, shop.entitlements, clock)
    for router in (listing_routes(shop.listings, clock, ""), buying, wallet):
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
    assert bought.stdout.startswith("3 runs of Trial agent for 0.06 USDC")
    assert await shop.runs(USER) == 3

    listed = await counter.run("entitlements")
    assert listed.stdout.split()[:1] == ["3"]
    used = await counter.run("agents", "execute", AGENT, "--input", '{"text": "hello"}')
    assert used.code == 0, used.stderr
    assert "hello" in used.stdout
    await shop.settle_uses()
    assert "2  " in (await counter.run("entitlements")).stdout

    (purchase,) = json.loads((await counter.run("purchase", "list", "--json")).stdout)
    line = (await counter.run("purchase", "list")).stdout
    assert f"{purchase['id']}  " in line
    assert line[16:20] == " UTC"
    assert line.endswith("the runs are yours, 2 runs left\n")
    assert (await counter.run("purchase", "list", "--before", "pur_0")).stdout == "none before that, if it is yours\n"
    refunded = await counter.run("purchase", "refund", purchase["id"])
    assert refunded.code == 0, refunded.stderr
    assert refunded.stdout.startswith("3 runs of Trial agent for 0.06 USDC: 0.04 USDC is back in your wallet")
    assert "bought in transaction 0x" in refunded.stdout
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
    begun = await counter.run("agents", "buy", AGENT, "--yes", "--no-wait", "--key-file", counter.key())
    assert begun.code == 0, begun.stderr
    assert "signature" not in begun.stdout + begun.stderr, "it is signed"
    assert "sign it" not in begun.stdout
    (newest, *_) = json.loads((await counter.run("purchase", "list", "--json")).stdout)
    assert "  transaction 0x" in (await counter.run("purchase", "show", newest["id"], "--wait")).stdout


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
    nobody = await counter.run("agents", "buy", AGENT, "--runs", "3")
    assert nobody.code == 2
    assert "nobody is there to answer: add --yes, or --budget" in nobody.stderr
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


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"state": "processing", "step": "signing", "sign": {"kind": "key"}}, "waits for your signature"),
        ({"state": "processing", "step": "signing", "sign": None, "sign_error": {}}, "on its way: nothing is left"),
        ({"state": "processing", "step": "signing", "sign": None, "sign_error": {"code": "x"}}, "waits for your"),
        ({"state": "processing", "step": "signing"}, "waits for your signature"),
        ({"state": "completed", "right": "active"}, "the runs are yours"),
        ({"state": "completed", "right": "active", "kind": "period"}, "the month is yours"),
        ({"state": "completed", "right": "used_up"}, "used up"),
        ({"state": "completed", "right": "passed_on", "kind": "period"}, "passed on"),
        ({"state": "completed", "right": "expired"}, "over"),
        ({"state": "completed", "step": "refunding", "right": "active"}, "the money is coming back"),
        ({"state": "failed", "step": "signing"}, "failed: nothing was paid"),
    ],
)
def test_a_purchase_says_what_became_of_it(more: dict[str, object], said: str) -> None:
    assert words(more).startswith(said)


@pytest.mark.parametrize(
    ("more", "amount"),
    [
        ({"held": "0.06", "runs_left": 2}, "0.04 USDC"),  # one run of three is not settled yet
        ({"held": "0.02", "runs_left": 3}, "0.02 USDC"),
        ({"held": "0.5", "runs_left": None, "kind": "period"}, "0.50 USDC"),
    ],
)
def test_what_comes_back_is_what_nobody_used(more: dict[str, object], amount: str) -> None:
    assert comes_back({"price": "0.02", "currency": "USDC", "kind": "runs", **more}) == amount


async def test_what_is_used_up_is_not_offered_and_why_money_stays_is_said(tmp_path: Path) -> None:
    made = {
        "id": "pur_1", "kind": "runs", "quantity": 2, "agent_id": "x", "agent_name": "X", "amount": "1", "price": ".5",
        "currency": "USDC", "state": "completed", "step": "entitled", "runs_left": 1, "expires_at": "2026-12-21T00:00",
    }  # fmt: skip
    with Answers({"data": made | {"right": "active", "refund_blocked": "1 run was passed on"}}).served() as url:
        blocked = await Terminal(url, tmp_path).run("purchase", "show", "pur_1")
    assert "cannot be given back now: 1 run was passed on" in blocked.stdout
    assert "run it:" in blocked.stdout
    with Answers({"data": made | {"right": "used_up", "runs_left": 0}}).served() as url:
        used = await Terminal(url, tmp_path).run("purchase", "show", "pur_1")
    assert "X for 1.00 USDC: used up" in used.stdout
    assert "run it:" not in used.stdout


def test_a_purchase_that_failed_for_want_of_money_is_over_a_budget() -> None:
    assert PURCHASE.exit_code({"state": "failed", "error": {"code": "insufficient_funds"}}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "buy", AGENT, "--runs", "0"),
        ("agents", "buy", AGENT, "--runs", "1001"),
        ("agents", "buy", AGENT, "--budget", "x"),
        ("agents", "buy", AGENT, "--runs", "2", "--month"),
        ("agents", "buy", AGENT, "--upgrade"),
        ("entitlements", "pass-on", AGENT, "--to", BOB),
        ("entitlements", "pass-on", AGENT, "--to", BOB, "--runs", "1", "--month"),
        ("entitlements", "pass-on", AGENT, "--runs", "1"),
        ("agents", "execute", AGENT),
        ("agents", "execute", AGENT, "--input", "{"),
        ("purchase", "sign", "pur_1"),
        ("purchase",),
    ],
)
async def test_wrong_use_is_said_before_any_node_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert (await Terminal("http://127.0.0.1:1", tmp_path).run(*arguments)).code == 2


async def test_a_month_is_bought_run_and_renewed(counter: Counter) -> None:
    shop = counter.shop
    await sell_months(shop)
    await shop.world.funded(USER, usdc=20 * WHOLE)
    price, ends_at, next_ends_at = this_month(shop)
    asked = await counter.run("agents", "buy", AGENT, "--month", typed="n\n")
    assert f"buy a month of Trial agent until {ends_at:%Y-%m-%d} for {price}?" in asked.stderr
    bought = await counter.run("agents", "buy", AGENT, "--month", "--budget", "0.5")
    assert bought.code == 0, bought.stderr
    assert f"a month of Trial agent until {ends_at:%Y-%m-%d} for {price}" in bought.stdout
    assert f"{runs_of_this_month(shop)} runs left until {ends_at:%Y-%m-%d}" in bought.stdout
    assert "the month is yours" in bought.stderr
    used = await counter.run("agents", "execute", AGENT, "--input", '{"text": "hello"}')
    assert used.code == 0, used.stderr
    await shop.settle_uses()
    assert (
        f"{runs_of_this_month(shop) - 1}  month until {ends_at:%Y-%m-%d}" in (await counter.run("entitlements")).stdout
    )

    renewed = await counter.told("agents", "buy", AGENT, "--month", "--yes")
    assert (renewed["amount"], str(renewed["ends_at"])[:10]) == ("0.5", f"{next_ends_at:%Y-%m-%d}")
    assert f"{next_ends_at:%Y-%m-%d}" in (await counter.run("entitlements")).stdout
    third = await counter.run("agents", "buy", AGENT, "--month", "--yes")
    assert third.code == 1
    assert f"until {next_ends_at:%Y-%m-%d} already" in third.stderr
    listed = (await counter.run("purchase", "list")).stdout
    assert listed.count("a month of Trial agent") == 2
    unasked = await counter.run("purchase", "refund", str(renewed["id"]))
    assert unasked.code == 2
    assert "add --yes" in unasked.stderr
    kept = await counter.run("purchase", "refund", str(renewed["id"]), typed="n\n")
    assert kept.code == 1
    assert f"a month of Trial agent until {next_ends_at:%Y-%m-%d} back for 0.50 USDC?" in kept.stderr
    back = await counter.run("purchase", "refund", str(renewed["id"]), "--yes")
    assert back.code == 0, back.stderr
    assert "0.50 USDC is back in your wallet" in back.stdout


async def test_runs_become_a_month_and_come_back(counter: Counter) -> None:
    shop = counter.shop
    await sell_months(shop, runs=None)
    await shop.world.funded(USER, usdc=20 * WHOLE)
    await counter.told("agents", "buy", AGENT, "--runs", "3", "--yes")
    month = await counter.run("agents", "buy", AGENT, "--month", "--upgrade", "--yes")
    assert month.code == 0, month.stderr
    assert "3 runs come back once the month is there: 0.06 USDC" in month.stderr
    assert "as many runs as you like until" in month.stdout
    await shop.work()
    rights = json.loads((await counter.run("entitlements", "--json")).stdout)
    assert {each["kind"]: each["status"] for each in rights} == {"runs": "revoked", "period": "active"}
    shown = (await counter.run("entitlements")).stdout
    assert "any  month until" in shown
    assert "not yours any more" in shown


@pytest.mark.parametrize("kind", [WalletKind.SERVER, WalletKind.KEY])
async def test_what_was_bought_is_passed_on(counter: Counter, kind: WalletKind) -> None:
    shop = counter.shop
    await sell_months(shop)
    await shop.world.funded(USER, kind, usdc=20 * WHOLE)
    key = () if kind is WalletKind.SERVER else ("--key-file", counter.key())
    await counter.told("agents", "buy", AGENT, "--runs", "3", "--yes", *key)
    await counter.told("agents", "buy", AGENT, "--month", "--yes", *key)
    asked = await counter.run("entitlements", "pass-on", AGENT, "--to", BOB, "--runs", "2", typed="n\n")
    assert f"pass 2 runs of {AGENT} on to {BOB}, for good?" in asked.stderr
    assert "a wallet on this node, once they have signed with that wallet" in asked.stderr
    (runs, _) = json.loads((await counter.run("entitlements", "--json")).stdout)
    assert f"comes back at its end, on {runs['expires_at'][:10]}" in asked.stderr
    for what in (("--runs", "2"), ("--month",)):
        done = await counter.run("entitlements", "pass-on", AGENT, "--to", BOB, *what, "--yes", *key)
        assert done.code == 0, done.stderr
        assert f"of Trial agent on to {BOB}: done" in done.stdout
    await shop.work()
    rights = {each["kind"]: each for each in json.loads((await counter.run("entitlements", "--json")).stdout)}
    assert (rights["runs"]["runs_left"], rights["period"]["status"]) == (1, "revoked")
    more = await counter.run("entitlements", "pass-on", AGENT, "--to", BOB, "--runs", "2", "--yes", *key)
    assert more.code == 1
    assert "at most 1 can be passed on" in more.stderr
    listed = json.loads((await counter.run("purchase", "list", "--json")).stdout)
    assert {each["kind"]: each["passed_on"] for each in listed} == {"runs": 2, "period": 1}


async def test_what_the_agent_does_not_allow_is_not_passed_on(counter: Counter) -> None:
    await counter.shop.world.funded(USER, usdc=20 * WHOLE)
    await counter.told("agents", "buy", AGENT, "--runs", "3", "--yes")
    refused = await counter.run("entitlements", "pass-on", AGENT, "--to", BOB, "--runs", "1", "--yes")
    assert refused.code == 1
    assert "cannot be passed on" in refused.stderr
    monthless = await counter.run("agents", "buy", AGENT, "--month", "--yes")
    assert monthless.code == 1
    assert "sold by the run" in monthless.stderr
    assert "say --runs N" in monthless.stderr


def test_tokens_that_a_purchase_may_give_are_of_that_agent_kind_and_month() -> None:
    runs, three = rights_of({"kind": "runs", "quantity": 3, "agent_id": AGENT, "ends_at": None})
    now = Period.at(datetime.now(UTC))
    month, one = rights_of({"kind": "period", "quantity": 1, "agent_id": AGENT, "ends_at": now.ends_at.isoformat()})
    assert (three, one, len(runs), len(month)) == (3, 1, 2, 2)
    assert {each & (2**64 - 1) for each in runs} == {0}
    assert {each & (2**64 - 1) for each in month} == {now.number}
    over = {"kind": "period", "quantity": 1, "agent_id": AGENT, "ends_at": now.starts_at.isoformat()}
    assert rights_of(over) == (frozenset(), 0)


async def test_every_kind_and_end_has_its_line(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    row = {"agent_id": "x", "agent_name": "X", "runs_left": 1, "status": "active", "kind": "runs"}
    rows = [
        row | {"expires_at": "2026-12-21T00:00:00+00:00"},
        row | {"kind": "period", "runs_left": None, "starts_at": soon.isoformat(), "expires_at": "2099-01-05"},
        row | {"runs_left": 0, "status": "used_up"},
        row | {"runs_left": 0, "status": "new"},
    ]
    with Answers({"data": rows}).served() as url:
        lines = (await Terminal(url, tmp_path).run("entitlements")).stdout.splitlines()
    assert [" ".join(each.split()) for each in lines] == [
        "1 runs until 2026-12-21 X x",
        f"any month {soon:%Y-%m-%d} to 2099-01-05 X x",
        "0 runs X x used up",
        "0 runs X x new",
    ]


async def test_what_sellers_write_cannot_steer_the_terminal(tmp_path: Path) -> None:
    row = {
        "agent_id": "x", "agent_name": "\x1b[2Jclean", "runs_left": 1, "status": "active",
    }  # fmt: skip
    with Answers({"data": [row]}).served() as url:
        assert "\x1b" not in (await Terminal(url, tmp_path).run("entitlements")).stdout
