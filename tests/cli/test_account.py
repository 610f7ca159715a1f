"""`nexus wallet …` on the real routes and a real chain: every kind of signer, and what is said while it goes."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.http import install_error_handlers
from agentnexus.rails.evm.signer import signer_from_keystore
from agentnexus.wallets.model import WalletKind
from agentnexus.wallets.routes import no_wallet_routes, wallet_routes
from agentnexus.wallets.service import Wallets
from tests.cli.site import Terminal, key_of, served
from tests.wallets.conftest import WHOLE, World, world

__all__ = ["world"]
pytestmark = pytest.mark.timeout(180)
BOB = "0x" + "b0" * 20
USER = "local"


async def _nobody(_user_id: str) -> list[object]:
    return []


@dataclass(frozen=True)
class Desk:
    """Somebody at a terminal of a node that keeps wallets."""

    world: World
    wallets: Wallets
    terminal: Terminal
    folder: Path

    def key(self, account: str) -> str:
        return str(key_of(self.world.chain, account, self.folder))

    async def fund(self, atomic: int = 10 * WHOLE) -> None:
        wallet = await self.wallets.of(USER)
        await self.world.chain.mint(wallet.address, atomic)

    async def money_of(self, address: str = BOB) -> int:
        return await self.world.chain.usdc_of(address)

    async def run(self, *arguments: str, typed: str | None = None) -> tuple[int, str, str]:
        done = await self.terminal.run("wallet", *arguments, typed=typed)
        return done.code, done.stdout, done.stderr

    async def told(self, *arguments: str) -> dict[str, object]:
        return await self.terminal.told("wallet", *arguments)


@pytest.fixture
async def desk(world: World, tmp_path: Path) -> AsyncIterator[Desk]:
    wallets = world.wallets()
    app = FastAPI()
    app.state.callers = Callers(Tokens(world.database, SystemEntropy()), local_user=USER)
    app.state.limiter = Limiter(world.database, per_minute=10_000)
    app.include_router(wallet_routes(wallets, _nobody), prefix="/api/v1")  # type: ignore[arg-type]  # nobody has any
    install_error_handlers(app)
    async with served(app) as url:
        yield Desk(world, wallets, Terminal(url, tmp_path / "home"), tmp_path)


async def test_a_wallet_that_the_node_signs_for_is_made_filled_used_and_handed_over(desk: Desk) -> None:
    code, out, err = await desk.run("create")
    assert code == 0, err
    assert "this node signs for you" in out
    wallet = await desk.wallets.of(USER)
    assert (await desk.told("account"))["address"] == wallet.address
    await desk.fund()
    code, out, _ = await desk.run("balance")
    assert out.split()[:4] == ["10.00", "USDC", "10.00", "USD"]

    code, out, err = await desk.run("send", BOB, "2.5", "--yes")
    assert code == 0, err
    assert "done" in err.splitlines()
    assert f"USDC to {BOB}: done" in out
    assert await desk.money_of() == 2_500_000
    code, out, _ = await desk.run("history")
    assert "-2.50 USDC" in out
    assert "+10.00 USDC" in out

    password = desk.folder / "password"
    password.write_text("correct horse battery\n")
    kept = desk.folder / "my-key.json"
    given = ("export", str(kept), "--password-file", str(password))
    assert (await desk.run(*given, typed="n\n"))[0] == 1
    assert not kept.exists()
    told = await desk.told(*given, "--yes")
    assert "key" not in told, "a key is not for eyes"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert signer_from_keystore(kept, "correct horse battery").public_id == wallet.owner.key
    assert (await desk.run(*given, "--yes"))[0] == 1, "nothing is overwritten"


async def test_a_key_is_handed_to_who_has_just_signed_in(desk: Desk) -> None:
    tokens = Tokens(desk.world.database, SystemEntropy())
    signed_in = desk.terminal.home / "sign-in.json"
    signed_in.parent.mkdir(parents=True)
    signed_in.touch(mode=0o600)
    password, kept = desk.folder / "password", desk.folder / "my-key.json"
    password.write_text("correct horse battery\n")
    wanted = ("export", str(kept), "--password-file", str(password), "--yes")
    codes = []
    for token in (await tokens.issue("ann"), await tokens.admit("ann")):
        signed_in.write_text(json.dumps({desk.terminal.url: {"user": "ann", "token": token}}))
        await desk.told("create")
        code, _, err = await desk.run(*wanted)
        codes.append((code, "nexus sign-in" in err, kept.exists()))
    assert codes == [(1, True, False), (0, False, True)]  # the first is a token that the operator gave


@pytest.mark.parametrize("kind", [WalletKind.KEY, WalletKind.DELEGATED])
async def test_a_key_of_ones_own_signs_here_and_the_node_gets_signatures_only(desk: Desk, kind: WalletKind) -> None:
    key = desk.key("alice")
    await desk.told("create", "--kind", str(kind), "--key-file", key)
    assert (await desk.wallets.of(USER)).kind is kind
    await desk.fund()
    unsigned = await desk.run("send", BOB, "1", "--yes", "--key", "k1")
    assert unsigned[0] == 4
    assert "nexus wallet sign op_" in unsigned[1]
    code, _, err = await desk.run("send", BOB, "1", "--yes", "--key", "k1", "--key-file", key)
    assert code == 0, err
    assert await desk.money_of() == WHOLE
    second = await desk.told("send", BOB, "2", "--yes", "--no-wait", "--key", "k2")
    assert second["state"] == "unsigned"
    code, _, err = await desk.run("sign", str(second["id"]), "--key-file", key, typed="y\n")
    assert code == 0, err
    assert f"send 2.00 USDC to {BOB}" in err
    assert await desk.money_of() == 3 * WHOLE
    assert (await desk.told("operation", str(second["id"])))["state"] == "succeeded"


async def test_nothing_is_sent_without_a_yes(desk: Desk) -> None:
    await desk.told("create")
    await desk.fund()
    code, _, err = await desk.run("send", BOB, "1.5")
    assert code == 2
    assert "nobody is there to answer: add --yes" in err
    assert (await desk.run("send", BOB, "1.5", "--json"))[0] == 2
    code, _, err = await desk.run("send", BOB, "1.5", typed="n\n")
    assert code == 1
    assert f"send 1.50 USDC to {BOB}?" in err
    assert await desk.money_of() == 0
    assert (await desk.run("send", BOB, "1.5", typed="y\n"))[0] == 0
    assert await desk.money_of() == 1_500_000


async def test_a_delegation_is_agreed_to_by_hand(desk: Desk) -> None:
    key = desk.key("alice")
    await desk.told("create", "--kind", "delegated", "--key-file", key)
    await desk.fund()
    given = ("send", BOB, "1", "--key", "k1", "--key-file", key)
    code, _, err = await desk.run(*given, typed="y\nn\n")
    assert code == 1
    assert "obeys the code at" in err
    assert (await desk.run(*given, "--json"))[0] == 2, "where nobody can be asked, --yes says it"
    assert await desk.money_of() == 0


async def test_another_key_than_the_owners_changes_nothing(desk: Desk) -> None:
    await desk.told("create", "--key-file", desk.key("alice"))
    await desk.fund()
    code, _, err = await desk.run("send", BOB, "1", "--yes", "--key", "k1", "--key-file", desk.key("bob"))
    assert code == 1
    assert "no signature of" in err
    assert await desk.money_of() == 0
    assert (await desk.run("send", BOB, "1", "--yes", "--key", "k1", "--key-file", desk.key("alice")))[0] == 0


async def test_what_waits_for_a_passkey_names_its_page(desk: Desk) -> None:
    await desk.world.funded(USER, WalletKind.PASSKEY)
    code, out, _ = await desk.run("send", BOB, "1", "--yes")
    assert code == 4
    assert f"sign it:  with your passkey, at {desk.terminal.url}/wallet/operations/op_" in out
    given = ("send", BOB, "1", "--yes", "--key", "k", "--key-file", desk.key("alice"))
    code, _, err = await desk.run(*given)
    assert code == 1
    assert "not signed for by a key" in err


async def test_what_nobody_signs_is_discarded(desk: Desk) -> None:
    await desk.world.funded(USER, WalletKind.PASSKEY)
    _, out, _ = await desk.run("send", BOB, "1", "--yes", "--json")
    operation = str(json.loads(out)["id"])
    code, out, _ = await desk.run("discard", operation)
    assert code == 0
    assert "discarded, nothing of it happens" in out
    assert (await desk.told("discard", operation))["state"] == "rejected"
    assert (await desk.run("operation", operation))[0] == 1
    code, out, _ = await desk.run("history")
    assert f"1.00 USDC to {BOB}  (discarded)" in " ".join(out.split(" "))
    assert out[16:20] == " UTC"


async def test_the_same_key_is_the_same_transfer(desk: Desk) -> None:
    await desk.told("create")
    await desk.fund()
    first = await desk.told("send", BOB, "1", "--yes", "--key", "once")
    again = await desk.told("send", BOB, "1", "--yes", "--key", "once")
    assert first["id"] == again["id"]
    assert await desk.money_of() == WHOLE
    assert (await desk.run("send", BOB, "2", "--yes", "--key", "once"))[0] == 1


async def test_too_little_money_is_over_budget_for_a_shell(desk: Desk) -> None:
    await desk.told("create")
    code, _, err = await desk.run("send", BOB, "1", "--yes")
    assert code == 3
    assert "what to do: send USDC to 0x" in err


@pytest.mark.parametrize("own", [True, False], ids=["own key", "node's key"])
async def test_guardians_and_sessions_are_set_and_ended(desk: Desk, own: bool) -> None:
    key = ("--key-file", desk.key("alice")) if own else ()
    await desk.told("create", *key)
    guardian = desk.world.chain.accounts["bob"].address
    assert (await desk.run("guardian", guardian, "--delay", "7d", *key))[0] == 0
    found = (await desk.told("account"))["guardian"]
    assert found == {"address": guardian, "delay_seconds": 7 * 86_400}
    usdc = desk.world.chain.usdc.reference
    for more in (("--limit", "USDC=2.5"), ("--own-gas", "--limit", "ETH=0.1")):
        granted = ("session", "grant", BOB, "--call", f"{usdc}:approve(address,uint256)", "--for", "12h", *more, *key)
        code, _, err = await desk.run(*granted)
        assert code == 0, err
    assert (await desk.run("session", "revoke", BOB, *key))[0] == 0
    assert (await desk.run("guardian", "none", *key))[0] == 0
    assert (await desk.told("account"))["guardian"] is None
    code, _, err = await desk.run("guardian", "--refuse", *key)
    assert code == 1, "there is no recovery to refuse"


@pytest.mark.parametrize("own", [True, False], ids=["own key", "node's key"])
async def test_gas_is_shown_and_can_be_paid_in_usdc(desk: Desk, own: bool) -> None:
    key = ("--key-file", desk.key("alice")) if own else ()
    await desk.told("create", *key)
    await desk.fund()
    code, out, _ = await desk.run("gas")
    assert code == 0
    assert "left for you: all of it" in out
    assert (await desk.run("gas", "--allow", "5", *key))[0] == 0
    code, _, err = await desk.run("send", BOB, "1", "--yes", "--gas", "usdc", *key)
    assert code == 0, err
    assert await desk.money_of() == WHOLE


async def test_without_a_wallet_the_advice_is_to_make_one(desk: Desk) -> None:
    for command in (("account",), ("balance",), ("send", BOB, "1", "--yes")):
        code, _, err = await desk.run(*command)
        assert code == 1
        assert "what to do" in err


async def test_a_node_without_contracts_says_so(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(no_wallet_routes(), prefix="/api/v1")
    install_error_handlers(app)
    async with served(app) as url:
        done = await Terminal(url, tmp_path).run("wallet", "create")
    assert done.code == 1
    assert "nexus contracts deploy" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--kind", "key"),
        ("create", "--kind", "server", "--key-file", __file__),
        ("create", "--kind", "passkey"),
        ("send", BOB, "-1"),
        ("send", BOB),
        ("sign", "op_1"),
        ("guardian",),
        ("guardian", BOB, "--refuse"),
        ("guardian", BOB, "--delay", "soon"),
        ("session", "grant", BOB),
        ("session", "grant", BOB, "--call", "approve(address)"),
        ("session", "grant", BOB, "--call", f"{BOB}:approve"),
        ("session", "grant", BOB, "--call", BOB, "--limit", "USDC"),
        ("session", "grant", BOB, "--call", BOB, "--limit", "USDC=x"),
    ],
)
async def test_wrong_use_is_said_before_any_node_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = await Terminal("http://127.0.0.1:1", tmp_path).run("wallet", *arguments)
    assert done.code == 2, done.stderr
