"""The prepaid page over the real room and ledger: signatures as wallets write them, claims, withdrawals."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest
from fastapi import FastAPI
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from starlette.requests import Request

from agentnexus.core.clock import SystemClock
from agentnexus.escrow.model import ownership_message
from agentnexus.escrow.routes import no_escrow_routes
from agentnexus.escrow.service import Escrow
from agentnexus.platform.database import Database
from agentnexus.platform.http import install_error_handlers
from agentnexus.web.adapters.prepaid import HousePrepaid, NoPrepaid
from agentnexus.web.app import pages_app
from tests.escrow.conftest import SOL, Room, ScriptedTreasury, room_on, usdc
from tests.web.preview import preview_app


class CheckingTreasury(ScriptedTreasury):
    """Transfers are told by the test; addresses and signatures are the real ones."""

    def is_wallet(self, address: str) -> bool:
        try:
            return Pubkey.from_string(address).is_on_curve()
        except ValueError:
            return False

    def proves(self, wallet: str, message: str, signature: str) -> bool:
        try:
            return Signature.from_string(signature).verify(Pubkey.from_string(wallet), message.encode())
        except ValueError:
            return False


@dataclass
class House:
    room: Room
    treasury: CheckingTreasury
    client: httpx.AsyncClient
    keypair: Keypair

    @property
    def wallet(self) -> str:
        return str(self.keypair.pubkey())

    def signed(self, user: str = "ann") -> bytes:
        return bytes(self.keypair.sign_message(ownership_message(user, self.wallet).encode()))

    async def page(self, user: str = "ann") -> str:
        answer = await self.client.get("/prepaid", headers={"X-User": user})
        assert answer.status_code == 200, answer.text
        return html.unescape(answer.text)

    async def post(self, path: str, user: str = "ann", **data: str) -> httpx.Response:
        return await self.client.post(f"/prepaid/{path}", data=data, headers={"X-User": user})

    async def open(self) -> None:
        done = await self.post("accounts", wallet=self.wallet, signature=self.signed().hex())
        assert done.status_code == 303, done.text


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    room = room_on(database)
    treasury = CheckingTreasury(room.rail)
    escrow = Escrow(database, room.books, treasury, SystemClock())

    async def user(request: Request) -> str:
        return request.headers["x-user"]

    app = pages_app(replace(preview_app().routes[0].app.app.state.doors, prepaid=HousePrepaid(escrow), user=user))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        yield House(room, treasury, client, Keypair())
    await room.assert_sound()
    await room.books.close()


@pytest.mark.parametrize("form", ["base58", "base64", "hex", "spaced"])
async def test_the_proof_is_taken_in_every_form_that_wallets_write(house: House, form: str) -> None:
    raw = house.signed()
    written = {
        "base58": str(Signature.from_bytes(raw)),
        "base64": b64encode(raw).decode(),
        "hex": raw.hex(),
        "spaced": f"\n {raw.hex().upper()} ",
    }[form]
    assert (await house.post("accounts", wallet=house.wallet, signature=written)).status_code == 303
    assert house.wallet in await house.page()


async def test_a_proof_of_another_user_or_wallet_opens_nothing(house: House) -> None:
    shown = await house.post("open", wallet=house.wallet)
    assert ownership_message("ann", house.wallet) in html.unescape(shown.text)
    for signature in (house.signed("bob").hex(), "00" * 64, "nonsense", "💸"):
        refused = await house.post("accounts", wallet=house.wallet, signature=signature)
        assert refused.status_code == 403
        assert "The wallet has not shown that it is yours." in refused.text
    assert (await house.post("accounts", wallet=house.wallet)).status_code == 403
    assert (await house.post("accounts", wallet="1" * 44, signature="x")).status_code == 400
    assert "Open an account" in await house.page()


async def test_a_deposit_is_claimed_worked_from_and_taken_back(house: House) -> None:
    await house.open()
    house.treasury.arrives("sig1", usdc("2"), house.wallet)
    house.treasury.arrives("sig2", SOL.parse("0.5"), house.wallet)
    assert "2.00 USDC" in (await house.post("claim", signature="sig1")).headers["location"].replace("+", " ")
    assert (await house.post("claim", signature="sig2")).status_code == 303
    again = await house.post("claim", signature="sig1")
    assert (again.status_code, "This transaction was credited before." in again.text) == (409, True)
    account = await house.room.escrow.account("ann")
    await house.room.escrow.holds.reserve(account, "wf_1", usdc("0.75"))
    await house.room.escrow.holds.capture("wf_1", "s1", usdc("0.25"))
    page = await house.page()
    for shown in ("1.25 USDC", "0.50 SOL", "Paid for a task", "-0.25 USDC", 'href="/tasks/wf_1"', "sig1"):
        assert shown in page
    sent = await house.post("withdraw", withdraw_amount="1", asset="USDC", key="k1")
    assert sent.status_code == 303
    assert (await house.post("withdraw", withdraw_amount="1", asset="USDC", key="k1")).headers == sent.headers
    assert "0.25 USDC" in await house.page()
    short = await house.post("withdraw", withdraw_amount="1", asset="USDC", key="k2")
    assert (short.status_code, "Insufficient escrow balance. Available: 0.25" in short.text) == (402, True)


@pytest.mark.parametrize("amount", ["", "nan", "-1", "0", "1e-9", "0.0000001", "💸", "\u0661", "1" * 59])
async def test_an_amount_that_is_none_moves_nothing_and_stays_in_its_field(house: House, amount: str) -> None:
    await house.open()
    await house.post("claim", signature=house.treasury.arrives("sig1", usdc("2"), house.wallet))
    answer = await house.post("withdraw", withdraw_amount=amount, asset="USDC", key="k1")
    assert answer.status_code in (400, 402), answer.text
    assert 'aria-invalid="true"' in answer.text
    assert (await house.room.balance())[0] == "2"


async def test_an_asset_that_is_not_kept_is_refused(house: House) -> None:
    await house.open()
    answer = await house.post("withdraw", withdraw_amount="1", asset="<b>EURC</b>", key="k1")
    assert answer.status_code == 400
    assert "Use USDC or SOL." in answer.text
    assert "<b>EURC" not in answer.text


async def test_everybody_sees_their_own_account_only(house: House) -> None:
    await house.open()
    house.treasury.arrives("sig1", usdc("2"), house.wallet)
    bob = await house.post("claim", user="bob", signature="sig1")
    assert bob.status_code == 404
    assert house.wallet not in await house.page("bob")
    taken = await house.post("accounts", user="bob", wallet=house.wallet, signature=house.signed("bob").hex())
    assert (taken.status_code, "belongs to another account" in taken.text) == (409, True)


async def test_a_node_without_a_treasury_says_so_on_page_and_api() -> None:
    nothing = NoPrepaid()
    page = await nothing.page("ann")
    assert page.top_up is None
    assert [name for name, _ in page.missing][-1] == "NEXUS_TREASURY_KEYPAIR"
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(no_escrow_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        for method, path in (("GET", "address"), ("GET", "ann/balance"), ("POST", "ann/withdraw")):
            answer = await client.request(method, f"/escrow/{path}")
            assert answer.status_code == 503
            assert "NEXUS_TREASURY_KEYPAIR" in answer.text
