"""Signing in by pages alone: a code by e-mail without scripts, where it leads, signing out, and who is signed out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from agentnexus.core.errors import Conflict, RateLimited
from agentnexus.identity.mail_codes import person_of
from agentnexus.identity.tokens import Holder
from agentnexus.platform.database import Database
from agentnexus.web.views.sign_in import ConnectPage, short_person
from tests.identity.test_tokens import passes
from tests.web.connect_site import ConnectSite, connect_site
from tests.web.preview import preview_app
from tests.web.sign_in_preview import ADA, LOCAL
from tests.web.wallet_preview import page as wallet_page

ADDRESS = "ada@example.org"


@pytest.fixture
def site(database: Database, tmp_path: Path) -> ConnectSite:
    return connect_site(database, tmp_path)


@pytest.fixture
async def client(site: ConnectSite) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as made:
        yield made


def hidden(page: httpx.Response, name: str) -> str:
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', page.text)
    assert found is not None
    return unescape(found[1])


async def ask(client: httpx.AsyncClient, email: str = ADDRESS, next_path: str = "") -> dict[str, str]:
    """The form for the code, as its page has it."""
    sent = await client.post("/connect/email", data={"email": email, "next": next_path})
    assert sent.status_code == 303, sent.text
    page = await client.get(sent.headers["location"])
    assert email not in page.text + sent.headers["location"]
    return {name: hidden(page, name) for name in ("challenge", "next")}


async def test_a_code_signs_in_and_leads_to_where_the_visitor_wanted_to_go(
    client: httpx.AsyncClient, site: ConnectSite
) -> None:
    wanted = await client.get("/money?days=7")
    assert wanted.status_code == 303
    assert wanted.headers["location"] == "/connect?next=%2Fmoney%3Fdays%3D7"
    page = await client.get(wanted.headers["location"])
    assert hidden(page, "next") == "/money?days=7"
    form = await ask(client, next_path=hidden(page, "next"))
    entered = await client.post("/connect/code", data={**form, "code": site.code()})
    assert (entered.status_code, entered.headers["location"]) == (303, "/money?days=7")
    cookie = entered.headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= set(cookie.split("; "))
    assert (await client.get("/money?days=7")).status_code == 200
    assert site.came == [person_of(ADDRESS)]
    shown = (await client.get("/connect")).text
    assert "You are signed in" in shown
    assert ADDRESS in shown
    assert person_of(ADDRESS) in shown


async def test_signing_out_ends_the_session(client: httpx.AsyncClient, site: ConnectSite) -> None:
    await client.post("/connect/code", data={**await ask(client), "code": site.code()})
    token = client.cookies["nexus_session"]
    left = await client.post("/connect/sign-out")
    assert (left.status_code, left.headers["location"]) == (303, "/connect")
    assert "nexus_session" not in client.cookies
    assert await site.desk.tokens.find(token) is None
    assert (await client.get("/money")).status_code == 303
    assert (await client.post("/connect/sign-out")).status_code == 303  # who is out stays out


async def test_a_wrong_code_is_said_where_it_was_typed(client: httpx.AsyncClient, site: ConnectSite) -> None:
    form = await ask(client, next_path="/wallet")
    wrong = f"{(int(site.code()) + 1) % 10**6:06}"
    page = await client.post("/connect/code", data={**form, "code": wrong})
    assert page.status_code == 403
    assert "This code is wrong, used or too old." in page.text
    assert {name: hidden(page, name) for name in form} == form
    assert "nexus_session" not in client.cookies
    right = await client.post("/connect/code", data={**form, "code": f" {site.code()} "})
    assert right.headers["location"] == "/wallet"


@pytest.mark.parametrize("email", ["", "ada", "ada@example.org\nBcc: eve@evil.example", "x" * 400])
async def test_what_is_no_address_is_said_at_its_form(client: httpx.AsyncClient, email: str) -> None:
    page = await client.post("/connect/email", data={"email": email})
    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert 'action="/connect/email"' in page.text


@pytest.mark.parametrize(
    "next_path",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)"],
)
async def test_signing_in_leads_to_no_other_site(client: httpx.AsyncClient, site: ConnectSite, next_path: str) -> None:
    page = await client.get("/connect", params={"next": next_path})
    assert hidden(page, "next") == ""
    assert 'data-next="/connect"' in page.text
    form = await ask(client, next_path=next_path)
    assert form["next"] == ""
    entered = await client.post("/connect/code", data={**form, "next": next_path, "code": site.code()})
    assert entered.headers["location"] == "/connect"


async def test_a_cookie_that_is_over_locks_nobody_out(client: httpx.AsyncClient, site: ConnectSite) -> None:
    assert (await client.get("/money", headers={"cookie": "nexus_session=nx_over"})).status_code == 303
    page = await client.get("/connect", headers={"cookie": "nexus_session=nx_over"})
    assert page.status_code == 200
    assert "max-age=0" in page.headers["set-cookie"].lower()
    assert 'action="/connect/email"' in page.text
    assert ">Connect<" in page.text


async def test_what_a_form_sent_while_signed_out_is_not_lost_silently(client: httpx.AsyncClient) -> None:
    page = await client.post("/money/approvals/revoke", data={})
    assert page.status_code in (403, 404, 405)
    refused = await client.post("/workflows/wf_approval/approve")
    assert refused.status_code in (403, 404, 405)
    posted = await client.post("/prepaid/claim", data={"signature": "x"})
    assert posted.status_code == 403
    assert "Sign in (Connect, at the top), then send it again." in posted.text


async def test_parts_of_pages_and_programs_are_not_led_away(client: httpx.AsyncClient) -> None:
    for headers in ({"hx-request": "true"}, {"accept": "application/json"}, {"accept": "text/event-stream"}):
        assert (await client.get("/money", headers=headers)).status_code == 403


@pytest.mark.parametrize("path", ["/connect/email", "/connect/code", "/connect/sign-out"])
async def test_another_sites_form_signs_nobody_in_or_out(
    client: httpx.AsyncClient, site: ConnectSite, path: str
) -> None:
    form = await ask(client)
    await client.post("/connect/code", data={**form, "code": site.code()})
    kept = client.cookies["nexus_session"]
    foreign = await client.post(path, data={**form, "code": site.code()}, headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert client.cookies["nexus_session"] == kept
    assert await site.desk.tokens.find(kept) is not None


async def test_a_new_sign_in_ends_the_one_before(client: httpx.AsyncClient, site: ConnectSite) -> None:
    tokens = []
    for email in (ADDRESS, "bob@example.org"):
        await client.post("/connect/code", data={**await ask(client, email), "code": site.code()})
        tokens.append(client.cookies["nexus_session"])
    assert [await site.desk.tokens.find(token) for token in tokens] == [
        None,
        Holder(person_of("bob@example.org"), "basic"),
    ]


async def test_the_local_user_is_told_so_and_may_become_somebody_else(database: Database, tmp_path: Path) -> None:
    site = connect_site(database, tmp_path, local_user="local")
    async with site.client() as client:
        page = await client.get("/connect")
        assert "You are “local” now" in page.text
        assert 'action="/connect/sign-out"' not in page.text
        sent = await client.post("/connect/email", data={"email": ADDRESS})
        code_page = await client.get(sent.headers["location"])
        assert str(tmp_path / "mail") in code_page.text
        form = {name: hidden(code_page, name) for name in ("challenge", "next")}
        await client.post("/connect/code", data={**form, "code": site.code()})
        assert ADDRESS in (await client.get("/connect")).text
        await client.get("/money")
        await client.post("/connect/sign-out")
        await client.get("/money")
    assert site.came == [person_of(ADDRESS), "local"]


async def test_the_address_of_this_machine_leads_to_its_name_for_passkeys(database: Database, tmp_path: Path) -> None:
    site = connect_site(database, tmp_path, local_user="local")
    async with site.client() as client:
        page = await client.get(
            "/connect?next=/wallet", headers={"host": f"127.0.0.1:{site.port}", "accept": "text/html"}
        )
    assert "Passkeys are made for names, and 127.0.0.1 is an address." in page.text
    assert f'href="http://localhost:{site.port}/connect?next=/wallet"' in page.text
    assert "data-passkey=" not in page.text


async def test_a_node_without_mail_offers_none(database: Database, tmp_path: Path) -> None:
    site = connect_site(database, tmp_path, with_mail=False)
    async with site.client() as client:
        page = await client.get("/connect")
        assert "This node sends no e-mail." in page.text
        refused = await client.post("/connect/email", data={"email": ADDRESS})
    assert refused.status_code == 503
    assert "sign in with a passkey or a wallet" in refused.text.lower()


async def test_the_session_is_known_by_the_api_as_well(client: httpx.AsyncClient, site: ConnectSite) -> None:
    await client.post("/connect/code", data={**await ask(client), "code": site.code()})
    told = (await client.get("/api/v1/auth/session")).json()["data"]
    assert (told["user"], told["way"]) == (person_of(ADDRESS), "session")


async def test_hostile_names_and_too_many_codes_are_shown_as_text() -> None:
    app = preview_app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        app.state.sign_in.shown = ConnectPage(visitor=ADA)
        page = await client.get("/connect")
        assert "&lt;script&gt;alert(&#34;name&#34;)&lt;/script&gt;" in page.text
        assert "<script>alert" not in page.text
        app.state.sign_in.shown = ConnectPage(visitor=LOCAL)
        app.state.sign_in.refuse = RateLimited("too many codes were sent", next_step="wait 12 min")
        page = await client.post("/connect/email", data={"email": '"><script>alert(1)</script>'})
        assert page.status_code == 429
        assert "Too many codes were sent." in page.text
        assert "<script>alert" not in page.text


async def test_a_passkey_is_removed_by_its_owner_and_a_refusal_is_shown() -> None:
    app = preview_app()
    app.state.sign_in.shown = ConnectPage(visitor=ADA)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert 'name="passkey" value="AQ"' in (await client.get("/connect")).text
        done = await client.post("/connect/passkeys/remove", data={"passkey": "AQ"})
        assert (done.status_code, done.headers["location"]) == (303, "/connect")
        app.state.sign_in.refuse = Conflict("this is your only way to sign in", next_step="add another passkey first")
        page = await client.post("/connect/passkeys/remove", data={"passkey": "AQ"})
    assert page.status_code == 409
    assert "This is your only way to sign in." in page.text
    assert app.state.sign_in.removed == ["AQ"]


async def test_who_is_signed_out_removes_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.post("/connect/passkeys/remove", data={"passkey": "AQ"})).status_code == 403


async def test_the_header_names_who_is_signed_in(client: httpx.AsyncClient, site: ConnectSite) -> None:
    assert ">Connect<" in (await client.get("/")).text
    await client.post("/connect/code", data={**await ask(client), "code": site.code()})
    assert ">Account<" in (await client.get("/")).text  # a page for everybody does not look
    assert f">{short_person(person_of(ADDRESS))}<" in (await client.get("/money")).text


@pytest.mark.parametrize(
    ("person", "short"),
    [
        ("ann", "ann"),
        ("0x" + "a1" * 20, "0xa1a1…a1a1"),
        ("mail." + "3f" * 16, "e-mail 3f3f"),
        ("passkey." + "9c" * 16, "passkey 9c9c"),
        ("ed25519." + "77" * 32, "key 7777"),
        ("a.very.long.name.of.somebody", "a.very.long.n…"),
    ],
)
def test_people_are_named_where_there_is_little_room(person: str, short: str) -> None:
    assert short_person(person) == short


async def sign_in(client: httpx.AsyncClient, site: ConnectSite, form: dict[str, str] | None = None) -> httpx.Response:
    return await client.post("/connect/code", data={**(form or await ask(client)), "code": site.code()})


async def test_an_old_session_is_led_to_a_new_proof_and_back_to_the_key(
    client: httpx.AsyncClient, site: ConnectSite, database: Database
) -> None:
    await sign_in(client, site)
    assert (await client.get("/wallet/export")).status_code == 200
    await passes(database, 301)
    assert (await client.get("/wallet")).status_code == 200  # looking needs no proof
    asked = await client.get("/wallet/export")
    assert (asked.status_code, asked.headers["location"]) == (303, "/connect?again=1&next=%2Fwallet%2Fexport")
    page = await client.get(asked.headers["location"])
    assert "<h1>Sign in again</h1>" in page.text
    assert f"You are {ADDRESS}" in page.text
    assert f'value="{ADDRESS}"' in page.text
    assert 'data-passkey="sign-in"' in page.text
    assert 'data-passkey="create"' not in page.text  # a thief has passkeys, too
    back = await sign_in(client, site, await ask(client, next_path=hidden(page, "next")))
    assert (back.status_code, back.headers["location"]) == (303, "/wallet/export")
    assert (await client.get("/wallet/export")).status_code == 200


async def test_nothing_that_a_thief_would_want_is_done_with_an_old_session(
    client: httpx.AsyncClient, site: ConnectSite, database: Database
) -> None:
    await sign_in(client, site)
    await passes(database, 301)
    origin = {"origin": site.url, "referer": f"{site.url}/wallet?before=1"}
    for path, data in (
        ("/wallet/export", {"confirm": "yes"}),
        ("/wallet/guardian", {"guardian": "0x" + "1" * 40, "days": "7", "key": "k"}),
        ("/connect/passkeys/remove", {"passkey": "AQ"}),
    ):
        answer = await client.post(path, data=data, headers=origin)
        assert (answer.status_code, answer.headers["location"]) == (303, "/connect?again=1&next=%2Fwallet"), path
    foreign = await client.post(
        "/wallet/export", data={"confirm": "yes"}, headers={"referer": "https://evil.example/x"}
    )
    assert foreign.headers["location"] == "/connect?again=1&next=%2F"
    program = await client.post("/wallet/export", data={"confirm": "yes"}, headers={"accept": "application/json"})
    assert (program.status_code, program.json()["error"]["code"]) == (403, "sign_in_again")
    wallet = site.wallet
    assert (wallet.exported, wallet.guardians) == (0, [])


async def test_a_wallet_that_its_owner_signs_for_asks_for_no_other_proof(
    client: httpx.AsyncClient, site: ConnectSite, database: Database
) -> None:
    site.wallet.shown = wallet_page("passkey")
    await sign_in(client, site)
    await passes(database, 301)
    data = {"guardian": "0x" + "1" * 40, "days": "7", "key": "k"}
    assert (await client.post("/wallet/guardian", data=data)).headers["location"].startswith("/wallet/operations/")
    assert "There is no key to take along" in (await client.get("/wallet/export")).text


async def test_a_wrong_address_leaves_the_visitor_where_they_prove_who_they_are(
    client: httpx.AsyncClient, site: ConnectSite
) -> None:
    await sign_in(client, site)
    page = await client.post("/connect/email", data={"email": "nobody", "next": "/wallet/export", "again": "1"})
    assert page.status_code == 400
    assert "<h1>Sign in again</h1>" in page.text
    assert hidden(page, "next") == "/wallet/export"
    assert 'value="nobody"' in page.text


async def test_who_is_signed_out_signs_in_whatever_the_address_says(client: httpx.AsyncClient) -> None:
    page = await client.get("/connect?again=1&next=/wallet/export")
    assert "<h1>Sign in</h1>" in page.text
    assert 'data-passkey="create"' in page.text


async def test_the_visitor_sees_where_they_are_signed_in_and_ends_one_or_all(
    client: httpx.AsyncClient, site: ConnectSite
) -> None:
    await sign_in(client, site)
    async with site.client() as other:
        other.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
        await other.post("/connect/code", data={**await ask(other), "code": site.code()})
        page = (await client.get("/connect")).text
        assert "A browser (here)" in page
        assert "Firefox on Linux" in page
        given = await site.desk.tokens.issue(person_of(ADDRESS), label="job", vouched=True)
        assert "A program" in (await client.get("/connect")).text
        await site.desk.tokens.revoke(given)
        (device,) = re.findall(r'name="device" value="(tok_[0-9a-f]{16})"', page)  # one signs out here at the top
        done = await client.post("/connect/devices/end", data={"device": device})
        assert (done.status_code, done.headers["location"]) == (303, "/connect")
        assert (await other.get("/money")).status_code == 303
        assert (await client.get("/money")).status_code == 200
        again = await client.post("/connect/devices/end", data={"device": device})
        assert again.status_code == 303
        await other.post("/connect/code", data={**await ask(other), "code": site.code()})
        everywhere = await client.post("/connect/devices/end-all")
        assert everywhere.headers["location"] == "/connect"
        for each in (client, other):
            assert (await each.get("/money")).status_code == 303
    assert "nexus_session" not in client.cookies


async def test_nobody_ends_what_is_not_theirs_or_from_another_site(
    client: httpx.AsyncClient, site: ConnectSite
) -> None:
    await sign_in(client, site)
    (mine,) = await site.desk.tokens.of(person_of(ADDRESS))
    async with site.client() as other:
        await other.post("/connect/code", data={**await ask(other, "bob@example.org"), "code": site.code()})
        await other.post("/connect/devices/end", data={"device": mine.id})
        await other.post("/connect/devices/end-all")
    for path in ("/connect/devices/end", "/connect/devices/end-all"):
        foreign = await client.post(path, data={"device": mine.id}, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
    assert (await client.get("/money")).status_code == 200
    async with site.client() as nobody:
        for path in ("/connect/devices/end", "/connect/devices/end-all"):
            assert (await nobody.post(path, data={"device": mine.id})).status_code == 403
            assert (await nobody.post(path, data={"device": "9" * 200})).status_code in (400, 403)


async def test_names_of_devices_are_text() -> None:
    app = preview_app()
    app.state.sign_in.shown = ConnectPage(visitor=ADA)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        page = (await client.get("/connect")).text
        assert "&lt;script&gt;alert(&#34;device&#34;)" in page
        assert "<script>alert" not in page
        await client.post("/connect/devices/end", data={"device": "tok_2"})
        await client.post("/connect/devices/end", data={"device": "tok_9"})  # over already
        await client.post("/connect/devices/end-all")
    assert app.state.sign_in.ended == ["tok_2", "all"]
