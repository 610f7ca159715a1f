"""The routes of prepaid accounts under hostile requests: strangers, nonsense, huge numbers, many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from tests.escrow.site import Site, User, open_site

NUL = "\x00" * 64
WEIRD = ["💸" * 64, NUL, "\u202e" * 64, "A" * 64 + "\n", "' or 1=1; --" + "x" * 64, "\ud800" * 64, "1" * 88]
AMOUNTS = [
    "NaN", "Infinity", "-Infinity", "-1", "0", "1e400", "1e-400", "1" * 500, '"0x10"', "[]", "{}", "true", "null",
    '"1e99999999"', '"-0.0"', '"\u0000"', '" 1 ; 2"',
]  # fmt: skip


@pytest.fixture
async def site(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database, database_url, tmp_path) as opened:
        await opened.start()
        yield opened
        async with Books(database) as books:
            report = await books.check()
            assert report.clean, report.findings


@pytest.fixture
async def ann(site: Site) -> AsyncIterator[User]:
    async with site.user("ann") as user:
        await user.funded(2_000_000)
        yield user


def assert_refused(answer: httpx.Response) -> None:
    """Said no in the house's form: never a crash, never an answer without a message."""
    assert 400 <= answer.status_code < 500, answer.text
    body = answer.json()
    assert body["success"] is False
    assert str(body["error"] if isinstance(body["error"], str) else body["error"]["message"])


async def raw(user: User, what: str, content: str | bytes, **headers: str) -> httpx.Response:
    return await user.ask("POST", what, content=content, headers={"Content-Type": "application/json", **headers})


async def test_strangers_do_not_learn_that_an_account_is_there(site: Site, ann: User) -> None:
    async with site.user("eve") as eve, httpx.AsyncClient() as nobody:
        for name in ("ann", "no-such-user"):
            for method, what, body in (
                ("GET", "balance", None),
                ("GET", "history", None),
                ("POST", "deposit", {"signature": "1" * 88}),
                ("POST", "withdraw", {"amount": 1}),
                ("POST", "create", {"userWallet": eve.wallet, "proof": eve.proof(name)}),
            ):
                url = f"{site.urls[0]}/escrow/{name}/{what}"
                assert (await eve.client.request(method, url, json=body)).status_code == 404, url
                assert (await nobody.request(method, url, json=body)).status_code in (401, 403), url
    assert await ann.available() == 2.0


async def test_a_wallet_cannot_be_taken_by_another_user(site: Site, ann: User) -> None:
    async with site.user("eve") as eve:
        proofs = ["", "1" * 64, eve.proof(), ann.proof(), ann.proof("eve")[:-1], "💸", "\x00"]
        for proof in proofs:
            assert_refused(await eve.ask("POST", "create", json={"userWallet": ann.wallet, "proof": proof}))
        taken = await eve.ask("POST", "create", json={"userWallet": ann.wallet, "proof": ann.proof("eve")})
        assert taken.status_code == 409  # even where its owner signs for both
        again = await ann.ask("POST", "create", json={"userWallet": eve.wallet, "proof": eve.proof("ann")})
        assert again.status_code == 409
        assert (await eve.ask("GET", "balance")).status_code == 404


async def test_what_is_no_wallet_opens_nothing(site: Site) -> None:
    async with site.user("eve") as eve:
        for wallet in ("x" * 44, "1" * 32, "0" * 44, "💸" * 40, "\x00" * 40, "", "A" * 5000):
            assert_refused(await eve.ask("POST", "create", json={"userWallet": wallet, "proof": "1" * 64}))
        assert (await eve.ask("GET", "balance")).status_code == 404


async def test_nonsense_for_a_signature_is_refused_and_credits_nothing(ann: User) -> None:
    for text in WEIRD:
        assert_refused(await raw(ann, "deposit", json.dumps({"signature": text})))
    for value in (None, 5, [], {}, "short", "1" * 5000):
        assert_refused(await raw(ann, "deposit", json.dumps({"signature": value})))
    assert await ann.available() == 2.0


async def test_no_amount_but_a_plain_one_moves_money(ann: User) -> None:
    before = await ann.tokens()
    for amount in AMOUNTS:
        assert_refused(await raw(ann, "withdraw", f'{{"amount": {amount}}}'))
    for amount in ("0.0000001", "2.000001", "1e3", "99999999999999999999999999999999999999999999999999"):
        answer = await raw(ann, "withdraw", f'{{"amount": {amount}}}')
        assert_refused(answer)
        assert answer.status_code in (400, 402)
    assert (await ann.available(), await ann.tokens()) == (2.0, before)


async def test_a_claim_with_a_hostile_amount_is_refused(ann: User) -> None:
    signature = await ann.pay(1_000_000, "2")
    for amount in AMOUNTS:
        if amount != "null":
            assert_refused(await raw(ann, "deposit", f'{{"signature": "{signature}", "amount": {amount}}}'))
    for amount in ("1.000001", "0.999999", "1000000"):
        assert_refused(await raw(ann, "deposit", f'{{"signature": "{signature}", "amount": {amount}}}'))
    assert await ann.available() == 2.0
    done = await raw(ann, "deposit", f'{{"signature": "{signature}", "amount": "1.0"}}')
    assert (done.status_code, await ann.available()) == (200, 3.0)


async def test_bodies_that_are_no_objects_are_refused(ann: User) -> None:
    deep = "[" * 20_000
    for body in ("", "{", "[]", "null", '"x"', deep, "\ufeff{}", b"\xff\xfe\x00", '{"amount": 1, "amount": -1}'):
        for what in ("create", "deposit", "withdraw"):
            assert_refused(await raw(ann, what, body))
    assert await ann.available() == 2.0


async def test_money_goes_nowhere_but_home(site: Site, ann: User) -> None:
    async with site.user("eve") as eve:
        for destination in (eve.wallet, site.treasury, "x", "", "💸"):
            body = json.dumps({"amount": 1, "destination": destination})
            assert_refused(await raw(ann, "withdraw", body))
        for asset in ("EURC", "usdc; drop", "\x00", "💸", ""):
            assert_refused(await raw(ann, "withdraw", json.dumps({"amount": 1, "asset": asset})))
    assert await ann.available() == 2.0


async def test_a_key_that_cannot_be_one_is_refused(ann: User) -> None:
    for key in ("k" * 201, "k" * 10_000, "a\tb"):
        assert_refused(await ann.ask("POST", "withdraw", json={"amount": 1}, headers={"Idempotency-Key": key}))
    assert await ann.available() == 2.0


async def test_one_key_is_one_withdrawal_whatever_comes_with_it(ann: User) -> None:
    headers = {"Idempotency-Key": "w1"}
    first = await ann.ask("POST", "withdraw", json={"amount": 0.5}, headers=headers)
    assert (await ann.ask("POST", "withdraw", json={"amount": 0.5}, headers=headers)).json() == first.json()
    assert (await ann.ask("POST", "withdraw", json={"amount": 0.6}, headers=headers)).status_code == 409
    assert await ann.available() == 1.5


async def test_a_history_has_a_sane_length(ann: User) -> None:
    for limit in ("0", "-1", "201", "1e3", "NaN", "💸", "9" * 400):
        answer = await ann.client.get(f"{ann.site.urls[0]}/escrow/ann/history", params={"limit": limit})
        assert_refused(answer)


async def test_two_processes_never_pay_out_more_than_there_is(site: Site, ann: User) -> None:
    """Twelve withdrawals of 0.5 from 2.0 at the same instant, over two API processes: four go through."""
    await site.start()
    before = await ann.tokens()

    async def take(number: int) -> int:
        headers = {"Idempotency-Key": f"w{number}"}
        return (await ann.ask("POST", "withdraw", api=number % 2, json={"amount": 0.5}, headers=headers)).status_code

    codes = await asyncio.gather(*map(take, range(12)))
    assert sorted(codes) == [200] * 4 + [402] * 8
    assert (await ann.available(), await ann.tokens()) == (0.0, before + 2_000_000)


async def test_two_processes_send_one_key_once(site: Site, ann: User) -> None:
    await site.start()
    before = await ann.tokens()

    async def take(number: int) -> httpx.Response:
        headers = {"Idempotency-Key": "same"}
        return await ann.ask("POST", "withdraw", api=number % 2, json={"amount": 0.5}, headers=headers)

    answers = await asyncio.gather(*map(take, range(8)))
    assert {answer.json().get("signature") for answer in answers if answer.status_code == 200} != set()
    assert {answer.status_code for answer in answers} <= {200, 503}  # a process that lost the race may ask to repeat
    assert len({answer.json()["signature"] for answer in answers if answer.status_code == 200}) == 1
    assert (await ann.available(), await ann.tokens()) == (1.5, before + 500_000)


async def test_two_processes_credit_one_deposit_once(site: Site, ann: User) -> None:
    await site.start()
    signature = await ann.pay(1_000_000, "2")
    claims = [ann.ask("POST", "deposit", api=number % 2, json={"signature": signature}) for number in range(10)]
    codes = [answer.status_code for answer in await asyncio.gather(*claims)]
    assert sorted(codes) == [200] + [409] * 9
    assert await ann.available() == 3.0
