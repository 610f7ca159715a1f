"""The wallet's pages: made once, forms that need no scripts, every problem beside its form, keys only on request."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta
from urllib.parse import unquote

import httpx
import pytest

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotAllowed, PaymentUnknown, Unavailable
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.wallet import OPERATION_STATES, PasskeyChoice, Recovery, explorer_link, operation_state
from tests.web.browsing import read_form
from tests.web.conftest import Site
from tests.web.wallet_preview import (
    ADDRESS,
    CREDENTIAL,
    FAUCET,
    FRIEND,
    HOSTILE,
    NOW,
    OWNER,
    SECRET,
    TRANSACTION,
    PreviewWallet,
    page,
)


def wallet(site: Site) -> PreviewWallet:
    found: PreviewWallet = site.app.state.wallet
    return found


async def text(client: httpx.AsyncClient, path: str = "/wallet") -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def forms(body: str) -> dict[str, str]:
    """What each form of a page sends to, with its own markup."""
    return {
        re.search(r'action="([^"]*)"', each).group(1): each  # type: ignore[union-attr] # a form has an address
        for each in re.findall(r"<form.*?</form>", body, re.DOTALL)
    }


async def test_a_wallet_shows_what_it_holds_where_to_send_and_what_happened(client: httpx.AsyncClient) -> None:
    shown = await text(client)
    for each in ("24.90 USD", "24.9", "0.0005", "ETH", ADDRESS, "Received", "+25 USDC", "Waiting for your signature"):
        assert each in shown, each
    assert "paid by AgentNexus (0.19 ETH left today)" in shown
    assert 'href="/wallet/operations/op_unsigned"' in shown
    assert shown.count("<svg xmlns") == 1
    assert "style=" not in shown  # the policy forbids it


async def test_wallet_and_entitlements_are_reached_from_every_money_page(client: httpx.AsyncClient) -> None:
    for path in ("/money", "/money/budget", "/money/approvals", "/prepaid", "/wallet", "/entitlements"):
        found = (await client.get(path)).text
        assert 'href="/wallet"' in found, path
        assert 'href="/entitlements"' in found, path
        assert re.search(r'href="/money" aria-current="page"', found), path


async def test_without_contracts_the_page_says_what_to_do(site: Site, client: httpx.AsyncClient) -> None:
    await wallet(site).not_kept()
    shown = await text(client)
    assert "Not kept on this node" in shown
    assert "nexus contracts deploy" in shown
    assert 'action="/wallet' not in shown
    assert "There is no key to take along" in await text(client, "/wallet/export")


async def test_making_a_wallet_leads_back_to_where_it_was_needed(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).before_making()
    wanted, asked = "/agents/a/buy?kind=period", "/wallet?next=/agents/a/buy%3Fkind%3Dperiod"
    shown = forms(await text(client, asked))
    assert f'name="next" value="{wanted}"' in shown["/wallet"]
    (passkey,) = re.findall(r'href="/connect\?next=([^"]*)"', (await client.get(asked)).text)
    assert unquote(passkey) == asked, "and the way over a passkey leads there as well"
    wallet(site).refuse = InvalidInput("that is no kind of wallet", field="kind")
    refused = await client.post("/wallet", data={"kind": "none", "next": wanted})
    assert f'name="next" value="{wanted}"' in html.unescape(refused.text), "a refusal forgets it not"
    wallet(site).refuse = None
    made = await client.post("/wallet", data={"kind": "server", "next": wanted})
    assert (made.status_code, made.headers["location"]) == (303, wanted)
    assert f'href="{wanted}">Go on where you were' in await text(client, asked)


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:0"])
async def test_making_a_wallet_leads_to_no_other_site(site: Site, client: httpx.AsyncClient, elsewhere: str) -> None:
    wallet(site).before_making()
    assert "evil" not in (await client.get("/wallet", params={"next": elsewhere})).text
    made = await client.post("/wallet", data={"kind": "server", "next": elsewhere})
    assert made.headers["location"] == "/wallet?done=created"


async def test_a_chain_that_does_not_answer_leaves_the_rest_of_the_page(site: Site, client: httpx.AsyncClient) -> None:
    trouble = problem_of(Unavailable("the chain does not answer", next_step="try again in a minute"))
    wallet(site).shown = replace(page(), money_problem=trouble, tokens=(), total="", history=())
    shown = await text(client)
    assert "The chain does not answer." in shown
    assert ADDRESS in shown
    assert read_form(shown).sent["asset"] == ["USDC"]


async def test_the_history_goes_on_at_the_next_page(site: Site, client: httpx.AsyncClient) -> None:
    assert 'href="/wallet?before=more#history"' in await text(client)
    shown = await text(client, "/wallet?before=1763718000000000.op_1")
    assert wallet(site).asked_before == "1763718000000000.op_1"
    assert "Newest ones" in shown


async def test_an_empty_wallet_of_a_development_chain_says_where_play_money_comes_from(
    site: Site, client: httpx.AsyncClient
) -> None:
    wallet(site).shown = replace(page(), faucet=FAUCET, history=())
    shown = await text(client)
    assert FAUCET in shown
    assert "Nothing yet." in shown


async def test_texts_of_others_are_only_text(site: Site, client: httpx.AsyncClient) -> None:
    line = replace(page().history[2], label=HOSTILE, amount=HOSTILE, counterparty=HOSTILE)
    wallet(site).shown = replace(page(), history=[line], older=HOSTILE)
    assert HOSTILE not in (await client.get("/wallet")).text
    view = wallet(site).operations["op_failed"]
    wallet(site).operations["op_failed"] = replace(view, title=HOSTILE)
    assert HOSTILE not in (await client.get("/wallet/operations/op_failed")).text


async def test_a_wallet_is_made_in_one_of_three_ways(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).before_making(PasskeyChoice(CREDENTIAL, "My phone"))
    shown = await text(client)
    ways = re.findall(r'name="kind" value="(\w+)"', shown)
    assert ways == ["passkey", "server", "key"]
    assert "My phone" in shown
    for data, kept in (
        ({"kind": "passkey", "credential_id": CREDENTIAL}, ("passkey", CREDENTIAL, "")),
        ({"kind": "server"}, ("server", "", "")),
        ({"kind": "key", "address": f" {OWNER} "}, ("key", "", OWNER)),
    ):
        done = await client.post("/wallet", data=data)
        assert (done.status_code, done.headers["location"]) == (303, "/wallet?done=created")
        assert wallet(site).made[-1] == kept
    assert "Your wallet is ready" in await text(client, "/wallet?done=created")


async def test_who_has_no_passkey_is_led_to_make_one(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).before_making()
    assert '<a class="button button-main" href="/connect?next=/wallet">' in await text(client)


async def test_what_is_no_address_keeps_the_field(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).before_making()
    wallet(site).refuse = InvalidInput("this is no address", field="address", next_step="copy it from your wallet")
    answer = await client.post("/wallet", data={"kind": "key", "address": HOSTILE})
    assert answer.status_code == 400
    assert HOSTILE not in answer.text
    assert "This is no address." in answer.text
    assert re.search(r'id="owner"[^>]*aria-invalid="true"', answer.text)
    assert "Your wallet is ready" not in (await client.post("/wallet?done=created", data={"kind": "key"})).text


async def test_another_kind_of_wallet_is_refused_with_what_to_do(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).before_making()
    wallet(site).refuse = Conflict("you have a wallet of the kind server", next_step="use that one")
    answer = await client.post("/wallet", data={"kind": "passkey", "credential_id": CREDENTIAL})
    assert answer.status_code == 409
    assert "Use that one." in answer.text


async def test_money_is_sent_once_per_form(site: Site, client: httpx.AsyncClient) -> None:
    keys = [read_form(forms(await text(client))["/wallet/send"]).sent["key"][0] for _ in range(2)]
    assert keys[0] != keys[1]
    data = {"to": FRIEND, "amount": " 1.5 ", "asset": "USDC", "gas": "sponsor", "key": keys[0]}
    done = await client.post("/wallet/send", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "/wallet/operations/op_signed")
    (sent,) = wallet(site).sent
    assert (sent.to, sent.amount, sent.asset, sent.gas, sent.key) == (FRIEND, "1.5", "USDC", "sponsor", keys[0])


@pytest.mark.parametrize(
    "refusal",
    [
        InsufficientFunds("this takes 90 USDC, and the wallet has 24.9", next_step="send less"),
        NotAllowed("nobody pays the gas of this", next_step="pay it in ETH"),
        InvalidInput("that is no amount", field="amount", next_step="give e.g. 5"),
    ],
)
async def test_a_refused_transfer_keeps_what_was_typed_under_a_new_key(
    site: Site, client: httpx.AsyncClient, refusal: InsufficientFunds
) -> None:
    wallet(site).refuse = refusal
    data = {"to": FRIEND, "amount": "90", "asset": "ETH", "gas": "usdc", "key": "form-key"}
    answer = await client.post("/wallet/send", data=data)
    assert answer.status_code == refusal.http_status
    form = forms(answer.text)["/wallet/send"]
    sent = read_form(form).sent
    assert (sent["to"], sent["amount"], sent["asset"], sent["gas"]) == ([FRIEND], ["90"], ["ETH"], ["usdc"])
    assert sent["key"] != ["form-key"]
    section = answer.text[answer.text.index('aria-labelledby="send"') : answer.text.index('aria-labelledby="keys"')]
    assert 'role="alert"' in section


async def test_a_transfer_that_is_not_known_yet_keeps_its_key(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).refuse = PaymentUnknown("sent and not confirmed", next_step="repeat it")
    data = {"to": FRIEND, "amount": "1", "asset": "USDC", "gas": "sponsor", "key": "form-key"}
    answer = await client.post("/wallet/send", data=data)
    assert read_form(forms(answer.text)["/wallet/send"]).sent["key"] == ["form-key"]


async def test_too_long_texts_are_refused(site: Site, client: httpx.AsyncClient) -> None:
    for path, name in (
        ("/wallet", "credential_id"),
        ("/wallet/send", "to"),
        ("/wallet/guardian", "guardian"),
        ("/wallet/operations/op_unsigned/signature", "signature"),
    ):
        answer = await client.post(path, data={name: "9" * 30_000})
        assert answer.status_code == 400, path
    assert (wallet(site).made, wallet(site).sent, wallet(site).guardians, wallet(site).signed) == ([], [], [], [])


async def test_forms_of_other_sites_move_nothing(site: Site, client: httpx.AsyncClient) -> None:
    for path in ("", "/send", "/guardian", "/recovery", "/export", "/operations/op_unsigned/signature"):
        answer = await client.post(
            f"/wallet{path}", data={"confirm": "yes"}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403, path
    assert wallet(site).exported == 0
    assert wallet(site).sent == []


@pytest.mark.parametrize("state", list(OPERATION_STATES))
async def test_an_operation_says_how_it_stands(client: httpx.AsyncClient, state: str) -> None:
    shown = await text(client, f"/wallet/operations/op_{state}")
    assert OPERATION_STATES[state][0] in shown
    is_live = "hx-sse:connect" in shown
    assert is_live is (state in ("unsigned", "signed"))
    assert ("Load it again" in shown) is is_live
    assert ("Sign with your passkey" in shown) is (state == "unsigned")
    assert (TRANSACTION in shown) is (state in ("succeeded", "failed"))


async def test_what_did_not_happen_says_that_nothing_is_lost(client: httpx.AsyncClient) -> None:
    assert "the wallet holds what it held before" in await text(client, "/wallet/operations/op_failed")
    rejected = await text(client, "/wallet/operations/op_rejected")
    assert "Nothing left the wallet." in rejected
    assert "Pay for the gas in USDC." in rejected


async def test_passing_on_says_what_its_receiver_needs(site: Site, client: httpx.AsyncClient) -> None:
    for name in ("op_unsigned", "op_succeeded", "op_failed"):
        wallet(site).operations[name] = replace(wallet(site).operations[name], passes_on=True)
        shown = await text(client, f"/wallet/operations/{name}")
        assert ("The receiver needs a wallet on this node" in shown) is (name != "op_failed")
    assert "The receiver needs" not in await text(client, "/wallet/operations/op_signed")


async def test_a_wallet_of_ones_own_signs_what_is_shown_or_elsewhere(site: Site, client: httpx.AsyncClient) -> None:
    shown = await text(client, "/wallet/operations/op_key")
    assert '"name":"ERC4337"' in shown
    assert f'data-wallet="evm:{OWNER}"' in shown
    assert "nexus wallet sign op_unsigned" in shown
    done = await client.post("/wallet/operations/op_key/signature", data={"signature": "0x" + "11" * 65})
    assert (done.status_code, done.headers["location"]) == (303, "/wallet/operations/op_key")
    (signed,) = wallet(site).signed
    assert (signed.signature, signed.authenticator_data) == ("0x" + "11" * 65, "")


async def test_a_delegating_address_is_led_to_the_command_line(client: httpx.AsyncClient) -> None:
    shown = await text(client, "/wallet/operations/op_delegated")
    assert "nexus wallet sign op_unsigned --key-file FILE" in shown
    assert 'name="signature"' not in shown


async def test_a_wrong_signature_comes_back_with_what_to_sign(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).refuse = NotAllowed("this is not the wallet's passkey", next_step="sign again")
    answer = await client.post("/wallet/operations/op_unsigned/signature", data={"signature": "00"})
    assert answer.status_code == 403
    assert "Sign with your passkey" in answer.text
    assert "Sign again." in answer.text


async def test_what_waits_for_a_signature_can_be_discarded(site: Site, client: httpx.AsyncClient) -> None:
    for name in ("op_unsigned", "op_key", "op_delegated"):
        assert "/discard" in await text(client, f"/wallet/operations/{name}")
    for name in ("op_signed", "op_succeeded", "op_rejected"):
        assert "/discard" not in await text(client, f"/wallet/operations/{name}")
    done = await client.post("/wallet/operations/op_key/discard")
    assert (done.status_code, done.headers["location"]) == (303, "/wallet/operations/op_key")
    gone = await text(client, "/wallet/operations/op_key")
    for each in ("Discarded</span>", "You discarded it", "nothing left the wallet", "begin it again"):
        assert each in gone, each
    assert "tone-fail" not in gone[gone.index('id="live-head"') :]
    assert "Discarded</span>" in await text(client, "/wallet")
    wallet(site).refuse = Conflict("it is too late to discard it", next_step="look at what became of it")
    late = await client.post("/wallet/operations/op_unsigned/discard")
    assert late.status_code == 409
    assert "It is too late to discard it." in late.text


async def test_somebody_elses_operation_is_not_there(client: httpx.AsyncClient) -> None:
    for path in ("op_nobody", "op_nobody/live"):
        assert (await client.get(f"/wallet/operations/{path}")).status_code == 404


async def test_the_live_page_ends_with_the_operation(client: httpx.AsyncClient) -> None:
    answer = await client.get("/wallet/operations/op_succeeded/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert 'hx-swap-oob="outerMorph" id="live-head"' in answer.text
    assert answer.text.endswith("event: end\ndata: done\n\n")


async def test_the_key_is_shown_after_a_page_that_says_what_it_means(site: Site, client: httpx.AsyncClient) -> None:
    asked = await text(client, "/wallet/export")
    assert "Whoever has it owns the wallet." in asked
    assert SECRET not in asked
    unsure = await client.post("/wallet/export", data={})
    assert unsure.status_code == 422
    assert wallet(site).exported == 0
    shown = await client.post("/wallet/export", data={"confirm": "yes"})
    assert SECRET in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert wallet(site).exported == 1
    wallet(site).shown = page("passkey")
    assert "There is no key to take along" in await text(client, "/wallet/export")
    assert "/wallet/export" not in await text(client)


async def test_a_key_that_cannot_be_given_is_refused(site: Site, client: httpx.AsyncClient) -> None:
    wallet(site).refuse = Conflict("this node has no key of your wallet", next_step="you have it")
    answer = await client.post("/wallet/export", data={"confirm": "yes"})
    assert answer.status_code == 409
    assert "This node has no key of your wallet." in answer.text


async def test_a_guardian_is_named_and_a_wrong_one_stays_in_its_field(site: Site, client: httpx.AsyncClient) -> None:
    data = {"guardian": FRIEND, "days": "7", "key": "k"}
    done = await client.post("/wallet/guardian", data=data)
    assert done.headers["location"] == "/wallet/operations/op_unsigned"
    assert wallet(site).guardians == [(FRIEND, "7", "k")]
    wallet(site).refuse = InvalidInput("the delay is 1 to 60 days", field="days", next_step="give 7")
    answer = await client.post("/wallet/guardian", data={**data, "days": "99"})
    assert answer.status_code == 400
    sent = read_form(forms(answer.text)["/wallet/guardian"]).sent
    assert (sent["guardian"], sent["days"]) == ([FRIEND], ["99"])
    assert '<details class="fold" open>' in answer.text


async def test_a_recovery_that_somebody_began_can_be_refused(site: Site, client: httpx.AsyncClient) -> None:
    assert "Somebody asks for new owners" not in await text(client)
    wallet(site).shown = replace(page(), recovery=Recovery(FRIEND, 7, NOW + timedelta(days=3)))
    shown = await text(client)
    assert "Somebody asks for new owners" in shown
    assert "Name another guardian" in shown
    done = await client.post("/wallet/recovery", data={"key": "k"})
    assert done.headers["location"] == "/wallet/operations/op_unsigned"
    assert wallet(site).refused_recovery == ["k"]
    wallet(site).refuse = Conflict("no recovery waits", next_step="nothing is to be done")
    assert (await client.post("/wallet/recovery", data={"key": "k"})).status_code == 409


def test_transactions_lead_to_where_anybody_can_look_them_up() -> None:
    assert explorer_link("eip155:8453", TRANSACTION) == f"https://basescan.org/tx/{TRANSACTION}"
    assert explorer_link("eip155:31337", TRANSACTION) == ""
    assert explorer_link("eip155:8453", "") == ""
    assert operation_state("strange").label == "Strange"


async def test_gas_in_usdc_is_allowed_up_to_an_amount(site: Site, client: httpx.AsyncClient) -> None:
    done = await client.post("/wallet/gas", data={"amount": "2", "key": "k"})
    assert done.headers["location"] == "/wallet/operations/op_unsigned"
    assert wallet(site).allowed == [("2", "k")]
    wallet(site).refuse = InvalidInput("not an amount of USDC", field="amount", next_step="give e.g. 1")
    answer = await client.post("/wallet/gas", data={"amount": "much", "key": "k"})
    assert answer.status_code == 400
    assert read_form(forms(answer.text)["/wallet/gas"]).sent["amount"] == ["much"]
