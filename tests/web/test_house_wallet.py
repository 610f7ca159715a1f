"""The wallet's pages over real wallets on a real chain: made, filled, spent from and signed for, by every kind."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from agentnexus.rails.evm.encoding import ZERO_ADDRESS
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.web.adapters.gas import gas_view
from tests.wallets.conftest import WHOLE, World, world
from tests.web.house import FAUCET, Pages, house_wallet, open_pages
from tests.web.sign_in_preview import PreviewSignIn

__all__ = ["world"]

pytestmark = pytest.mark.timeout(180)
SENT = "/wallet/operations/"


@pytest.fixture
async def pages(world: World) -> AsyncIterator[Pages]:
    async with open_pages(world, wallet=house_wallet(world)) as opened:
        yield opened


async def filled(pages: Pages, user: str = "ann", **kind: str) -> str:
    """A wallet with 10 USDC; its address."""
    assert await pages.moved("/wallet", user, **(kind or {"kind": "server"})) == "/wallet?done=created"
    wallet = await pages.world.wallets().of(user)
    await pages.world.chain.mint(wallet.address, 10 * WHOLE)
    return wallet.address


async def finished(pages: Pages, place: str, user: str = "ann") -> str:
    """The operation's page once the chain has it."""
    live = await pages.get(f"{place}/live", user)
    assert live.endswith("event: end\ndata: done\n\n")
    return await pages.get(place, user)


async def test_a_wallet_is_made_filled_and_spent_from_without_scripts(pages: Pages) -> None:
    assert "Make your wallet" in await pages.get("/wallet")
    address = await filled(pages)
    shown = await pages.get("/wallet")
    for each in (
        address,
        "10.00 USD",
        "This node keeps the key",
        "paid by AgentNexus (0.2 ETH left today)",
        "Topped up",
    ):
        assert each in shown, each
    assert FAUCET not in shown
    data = {"to": pages.world.seller, "amount": "2.5", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    place = await pages.moved("/wallet/send", **data)
    assert place.startswith(SENT)
    assert await pages.moved("/wallet/send", **data) == place  # sent twice, it is one transfer
    done = await finished(pages, place)
    assert re.search(r"0x[0-9a-f]{64}", done)
    assert "paid by AgentNexus: 0.0" in done
    after = await pages.get("/wallet")
    assert "7.50 USD" in after
    assert "-2.50 USDC" in after
    assert place in after


async def test_an_empty_wallet_says_where_money_comes_from(pages: Pages) -> None:
    await pages.moved("/wallet", kind="server")
    shown = await pages.get("/wallet")
    assert "0.00 USD" in shown
    assert FAUCET in shown
    short = await pages.post("/wallet/send", to=pages.world.seller, amount="1", asset="USDC", gas="sponsor", key="k")
    assert short.status_code == 402
    assert "this takes 1" in short.text.lower()


async def test_a_passkey_of_the_visitor_owns_and_signs(pages: Pages) -> None:
    pages.world.passkey("pat")
    choosing = await pages.get("/wallet", "pat")
    assert "pat's phone" in choosing
    (credential,) = re.findall(r'<option value="([^"]+)">pat', choosing)
    await filled(pages, "pat", kind="passkey", credential_id=credential)
    data = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    place = await pages.moved("/wallet/send", "pat", **data)
    assert "Sign with your passkey" in await pages.get(place, "pat")
    signed = await pages.sign_with_passkey(place, "pat")
    assert signed.status_code == 303, signed.text
    assert "The chain has it" in await finished(pages, place, "pat")
    assert "9.00 USD" in await pages.get("/wallet", "pat")
    assert (await pages.post("/wallet/export", "pat", confirm="yes")).status_code == 409


async def test_a_passkey_of_somebody_else_makes_no_wallet(pages: Pages) -> None:
    pages.world.passkey("pat")
    (credential,) = re.findall(r'<option value="([^"]+)">pat', await pages.get("/wallet", "pat"))
    stolen = await pages.post("/wallet", "eve", kind="passkey", credential_id=credential)
    assert stolen.status_code == 404
    assert "This passkey is not yours here." in stolen.text


async def test_a_wallet_of_ones_own_signs_the_typed_data_of_the_page(pages: Pages) -> None:
    owner = pages.world.chain.accounts["alice"].address
    await filled(pages, "alice", kind="key", address=owner)
    assert owner.lower() in (await pages.get("/wallet", "alice")).lower()
    data = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    place = await pages.moved("/wallet/send", "alice", **data)
    for signature in ("0x" + "11" * 65, "0x11", "nonsense", "💸"):
        wrong = await pages.post(f"{place}/signature", "alice", signature=signature)
        assert wrong.status_code in (400, 403), signature
        assert "It waits for your signature" in wrong.text
    assert (await pages.sign_with_key(place, "alice")).status_code == 303
    assert "The chain has it" in await finished(pages, place, "alice")


async def test_what_the_visitor_does_not_want_to_sign_is_discarded(pages: Pages) -> None:
    await filled(pages, "alice", kind="key", address=pages.world.chain.accounts["alice"].address)
    data = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    place = await pages.moved("/wallet/send", "alice", **data)
    assert await pages.moved(f"{place}/discard", "alice") == place
    shown = await pages.get(place, "alice")
    assert "You discarded it" in shown
    for page in (shown, await pages.get("/wallet", "alice")):
        assert "Discarded</span>" in page
    assert "Sign with" not in shown
    late = await pages.post(f"{place}/signature", "alice", signature="0x" + "11" * 65)
    assert late.status_code == 409
    assert "nobody sends it any more" in late.text


async def test_a_sponsor_that_refuses_is_said_beside_the_form(pages: Pages) -> None:
    await filled(pages)
    await pages.world.give_coin((await pages.world.wallets().of("ann")).address, 10**18)
    data = {"to": pages.world.seller, "amount": "0.1", "asset": "ETH", "key": "form-1"}
    refused = await pages.post("/wallet/send", gas="sponsor", **data)
    assert refused.status_code in (402, 403), refused.text
    section = refused.text[refused.text.index('aria-labelledby="send"') : refused.text.index('aria-labelledby="keys"')]
    assert 'role="alert"' in section
    place = await pages.moved("/wallet/send", gas="account", **(data | {"key": "form-2"}))
    assert "paid by the wallet, in the chain's coin" in await finished(pages, place)


@pytest.mark.parametrize(
    ("field", "text"),
    [("amount", "0"), ("amount", "-1"), ("amount", "nan"), ("amount", "1e-9"), ("to", "0x12"), ("to", ZERO_ADDRESS),
     ("asset", "EURC"), ("gas", "somebody"), ("key", "")],
)  # fmt: skip
async def test_what_cannot_be_sent_moves_nothing_and_stays_in_its_field(pages: Pages, field: str, text: str) -> None:
    await filled(pages)
    good = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    if field == "key":
        good["key"] = "k" * 101
    else:
        good[field] = text
    answer = await pages.post("/wallet/send", **good)
    assert answer.status_code == 400, answer.text
    assert "10.00 USD" in await pages.get("/wallet")


async def test_everybody_sees_their_own_operations_only(pages: Pages) -> None:
    await filled(pages)
    data = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-1"}
    place = await pages.moved("/wallet/send", **data)
    await filled(pages, "eve")
    for path in (place, f"{place}/live"):
        assert (await pages.client.get(path, headers={"X-User": "eve"})).status_code == 404
    assert place not in await pages.get("/wallet", "eve")
    await finished(pages, place)


async def test_the_key_is_given_to_its_owner_and_that_is_noted(pages: Pages) -> None:
    await filled(pages)
    assert "last given out" not in await pages.get("/wallet")
    shown = await pages.post("/wallet/export", confirm="yes")
    (key,) = re.findall(r'aria-labelledby="secret">(0x[0-9a-f]{64})<', shown.text)
    assert key == await pages.world.wallets().export("ann")
    assert "last given out just now" not in await pages.get("/wallet/export")
    assert "last given out" in await pages.get("/wallet")


async def test_gas_is_paid_in_usdc_once_that_is_allowed(pages: Pages) -> None:
    await filled(pages)
    data = {"to": pages.world.seller, "amount": "1", "asset": "USDC", "gas": "usdc"}
    refused = await pages.post("/wallet/send", **data, key="form-1")
    assert refused.status_code == 403
    assert "Pay gas in USDC" in refused.text
    offered = re.search(r"Let up to (\d+) USDC be taken for gas", refused.text)
    assert offered is not None
    await finished(pages, await pages.moved("/wallet/gas", amount=offered[1], key="form-2"))
    place = await pages.moved("/wallet/send", **data, key="form-3")
    assert "paid by the wallet, in USDC" in await finished(pages, place)
    assert await pages.world.chain.usdc_of((await pages.world.wallets().of("ann")).address) < 9 * WHOLE


async def test_a_guardian_is_named_and_shown(pages: Pages) -> None:
    await filled(pages)
    friend = pages.world.chain.accounts["bob"].address
    for days in ("0", "61", "seven", "\u0667", "9" * 30):
        refused = await pages.post("/wallet/guardian", guardian=friend, days=days, key=f"k{days[:3]}")
        assert refused.status_code == 400, days
    place = await pages.moved("/wallet/guardian", guardian=friend, days="7", key="form-1")
    assert "The chain has it" in await finished(pages, place)
    shown = await pages.get("/wallet")
    assert friend.lower() in shown.lower()
    assert "7 days" in shown
    assert "Name another guardian" in shown


async def test_a_history_is_read_page_by_page_and_nonsense_is_its_beginning(pages: Pages) -> None:
    await filled(pages)
    for number in range(26):
        await pages.world.chain.mint((await pages.world.wallets().of("ann")).address, number + 1)
    first = await pages.get("/wallet")
    (older,) = re.findall(r'href="(/wallet\?before=[^"]+)#history"', first)
    assert "+10.00 USDC" in await pages.get(older)
    assert "+10.00 USDC" not in first
    assert "10.00" in await pages.get("/wallet?before=nonsense")


async def test_a_chain_that_is_away_is_said_where_the_money_would_be(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentnexus.core.errors import Unavailable

    address = await filled(pages)

    async def away(self: Rpc, *_arguments: object) -> object:
        raise Unavailable("the chain does not answer", next_step="try again")

    monkeypatch.setattr(Rpc, "read_int", away)
    shown = await pages.get("/wallet")
    assert "The chain does not answer." in shown
    assert address in shown


def test_who_pays_is_said_of_every_kind_of_policy() -> None:
    free = {"title": "T", "paid_in": None, "per_operation": "0.01", "per_user_day": "0.2", "per_day": "5", "left": {}}
    sold = {**free, "paid_in": {"token": "0x1", "per_native": 1}}
    assert gas_view({"policies": []}, "ETH").choices == [("account", "The wallet pays, in ETH")]
    assert gas_view({"policies": []}, "ETH").sentence == "paid by the wallet, in ETH"
    assert [name for name, _ in gas_view({"policies": [free, sold]}, "ETH").choices] == ["sponsor", "usdc", "account"]
    left = {"you": {"per_day": "0.150000"}, "everybody": {"per_day": "0.05"}}
    view = gas_view({"policies": [{**free, "left": left}]}, "ETH")
    assert view.sentence == "paid by AgentNexus (0.05 ETH left today)"
    assert view.policies[0][0] == "T"


async def test_an_old_session_gets_no_key_and_names_no_guardian_where_the_node_signs(world: World) -> None:
    friend = world.chain.accounts["bob"].address
    world.passkey("pat")
    async with open_pages(world, wallet=house_wallet(world), sign_in=PreviewSignIn(too_old=True)) as pages:
        assert "There is no key to take along" in await pages.get("/wallet/export")  # before there is a wallet
        await filled(pages)
        for path, data in (("export", {"confirm": "yes"}), ("guardian", {"guardian": friend, "days": "7", "key": "k"})):
            assert (await pages.moved(f"/wallet/{path}", **data)).startswith("/connect?again=1&"), path
        assert (await world.wallets().of("ann")).exported_at is None
        (credential,) = re.findall(r'<option value="([^"]+)">pat', await pages.get("/wallet", "pat"))
        await filled(pages, "pat", kind="passkey", credential_id=credential)
        signed = await pages.moved("/wallet/guardian", "pat", guardian=friend, days="7", key="k")
        assert signed.startswith(SENT)  # the passkey is the proof
