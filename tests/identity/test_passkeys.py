"""Passkeys over HTTP with an authenticator of software: making them, signing in, and every wrong answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agentnexus.api.app import guarded
from agentnexus.bootstrap.api import SIGN_IN_BYTES_MAX
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Conflict, InvalidInput
from agentnexus.identity import passkeys as passkeys_module
from agentnexus.identity.ceremonies import decoded, encoded
from agentnexus.identity.passkeys import person_of
from agentnexus.identity.sites import Site
from agentnexus.identity.tokens import Holder
from agentnexus.platform.database import Database
from agentnexus.rails.evm.userops.passkeys import passkey_owner
from tests.identity.authenticator import PRESENT, VERIFIED, Authenticator, Json
from tests.identity.desk import ORIGIN, Desk, open_desk

AUTH = "/api/v1/auth"


@pytest.fixture
def desk(database: Database, clock: ManualClock) -> Desk:
    return open_desk(database, clock)


@pytest.fixture
def key() -> Authenticator:
    return Authenticator(ORIGIN, "nexus.example")


async def options(client: httpx.AsyncClient, kind: str = "") -> Json:
    answer = await client.post(f"{AUTH}/passkeys{kind}/options")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


async def create(client: httpx.AsyncClient, key: Authenticator, **body: object) -> httpx.Response:
    credential = key.create(await options(client))
    return await client.post(f"{AUTH}/passkeys", json={"credential": credential, **body})


async def sign_in(client: httpx.AsyncClient, key: Authenticator, **body: object) -> httpx.Response:
    credential = key.get(await options(client, "/login"))
    return await client.post(f"{AUTH}/passkeys/login", json={"credential": credential, **body})


async def who(client: httpx.AsyncClient) -> Json:
    return dict((await client.get(f"{AUTH}/session")).json()["data"])


async def test_a_stranger_with_a_new_passkey_becomes_somebody_and_is_signed_in(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        answer = await create(client, key, cookie=True, name=" Laptop ")
        assert answer.status_code == 201
        data = answer.json()["data"]
        assert data["user"] == person_of(key.credential_id)
        assert "token" not in data
        assert data["passkey"]["name"] == "Laptop"
        cookie = answer.headers.get_list("set-cookie")[0].lower()
        assert cookie.startswith("nexus_session=nx_")
        assert {"httponly", "samesite=lax", "secure", "path=/", "max-age=2592000"} <= set(cookie.split("; "))
        found = await who(client)
        assert (found["user"], found["role"], found["way"]) == (data["user"], "basic", "session")
        assert found["passkeys"] == [data["passkey"]]


async def test_the_key_that_is_kept_can_own_a_smart_account(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        data = (await create(client, key)).json()["data"]
    (kept,) = await desk.passkeys.of(data["user"])
    assert kept.public_key == key.point
    assert passkey_owner(kept.public_key).x == key.point[1:33]
    assert (kept.id, kept.rp_id) == (encoded(key.credential_id), "nexus.example")


async def test_what_is_asked_for_is_discoverable_verified_and_es256_only(desk: Desk) -> None:
    async with desk.browser() as client:
        asked = await options(client)
        assert asked["pubKeyCredParams"] == [{"type": "public-key", "alg": -7}]
        assert asked["attestation"] == "none"
        assert asked["rp"] == {"id": "nexus.example", "name": "AgentNexus"}
        selection = asked["authenticatorSelection"]
        assert isinstance(selection, dict)
        assert (selection["residentKey"], selection["userVerification"]) == ("required", "required")
        login = await options(client, "/login")
        assert (login["allowCredentials"], login["userVerification"]) == ([], "required")
        assert len(decoded(str(login["challenge"]))) == 32


async def test_a_passkey_signs_its_person_in_again(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as first:
        person = (await create(first, key)).json()["data"]["user"]
    async with desk.browser() as second:
        answer = await sign_in(second, key)
        data = answer.json()["data"]
        assert data["user"] == person
        assert await desk.tokens.find(data["token"]) == Holder(person, "basic")
        assert "set-cookie" not in answer.headers
        assert (await who(second))["user"] is None  # a token answered is nobody's session
        assert (await sign_in(second, key, cookie=True)).json()["data"] == {"user": person}
        assert (await who(second))["user"] == person
    (kept,) = await desk.passkeys.of(person)
    assert kept.last_used_at is not None


async def test_who_is_signed_in_adds_a_passkey_to_themselves(desk: Desk, key: Authenticator) -> None:
    token = await desk.tokens.admit("ann")
    other = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x08" * 16)
    async with desk.browser(authorization=f"Bearer {token}") as client:
        assert (await create(client, key)).json()["data"].keys() == {"user", "passkey"}
        excluded = (await options(client))["excludeCredentials"]
        assert excluded == [{"type": "public-key", "id": encoded(key.credential_id)}]
        assert (await create(client, other)).json()["data"]["user"] == "ann"
    assert [each.person_id for each in await desk.passkeys.of("ann")] == ["ann", "ann"]
    async with desk.browser() as client:
        assert (await sign_in(client, other)).json()["data"]["user"] == "ann"


async def test_nobody_adds_a_passkey_to_somebody_else(desk: Desk, key: Authenticator) -> None:
    """A challenge that a stranger began is worth nothing to ann, and ann's nothing to a stranger or to bob."""
    ann, bob = await desk.tokens.admit("ann"), await desk.tokens.admit("bob")
    async with desk.browser() as client:
        for begun, ended in (("", ann), (ann, ""), (ann, bob)):
            credential = key.create(await _as(client, begun, "/passkeys/options", {}))
            refused = await client.post(f"{AUTH}/passkeys", json={"credential": credential}, headers=_bearer(ended))
            assert refused.status_code == 403
            assert "begun as somebody else" in refused.json()["error"]["message"]
    assert await desk.passkeys.of("ann") == await desk.passkeys.of("bob") == []


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


async def _as(client: httpx.AsyncClient, token: str, path: str, body: Json) -> Json:
    return dict((await client.post(AUTH + path, json=body, headers=_bearer(token))).json()["data"])


async def test_a_known_credential_cannot_be_registered_again_with_another_key(desk: Desk, key: Authenticator) -> None:
    """Credential ids are no secrets: whoever brings one with a key of their own takes nothing over."""
    async with desk.browser() as client:
        person = (await create(client, key)).json()["data"]["user"]
        thief = Authenticator(ORIGIN, "nexus.example", credential_id=key.credential_id)
        assert (await create(client, thief)).status_code == 409
        token = await desk.tokens.admit("eve")
        credential = thief.create(await _as(client, token, "/passkeys/options", {}))
        refused = await client.post(f"{AUTH}/passkeys", json={"credential": credential}, headers=_bearer(token))
        assert refused.status_code == 409
        assert (await sign_in(client, thief)).status_code == 403
        assert (await sign_in(client, key)).json()["data"]["user"] == person
    assert await desk.passkeys.of("eve") == []


async def test_a_person_whose_passkey_is_gone_is_not_taken_over_by_its_id(
    desk: Desk, key: Authenticator, database: Database
) -> None:
    async with desk.browser() as client:
        await create(client, key)
        async with database.connection() as connection:
            await connection.execute("delete from identity.passkey")
        thief = Authenticator(ORIGIN, "nexus.example", credential_id=key.credential_id)
        assert (await create(client, thief)).status_code == 409


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"origin": "https://evil.example"}, "origin"),
        ({"origin": "http://nexus.example"}, "origin"),
        ({"origin": "https://nexus.example:8443"}, "origin"),
        ({"rp_id": "evil.example"}, "RP ID"),
        ({"flags": PRESENT}, "user was not verified"),
        ({"flags": VERIFIED}, "User presence"),
        ({"cross_origin": True}, "frame of another site"),
    ],
)
async def test_a_wrong_answer_makes_nobody_and_signs_nobody_in(
    desk: Desk, key: Authenticator, database: Database, change: dict[str, object], says: str
) -> None:
    async with desk.browser() as client:
        refused = await create(client, replace(key, **change))
        assert refused.status_code == 403
        assert says.lower() in refused.json()["error"]["message"].lower()
        async with database.connection() as connection:
            assert await connection.fetchval("select count(*) from identity.person") == 0
        await create(client, key)
        wrong = replace(key, **change)
        refused = await sign_in(client, wrong, cookie=True)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers
        assert (await sign_in(client, key)).status_code == 200


async def test_algorithms_that_no_account_checks_are_refused(desk: Desk, key: Authenticator) -> None:
    edwards = {1: 1, 3: -8, -1: 6, -2: bytes(32)}
    rsa = {1: 3, 3: -257, -1: b"\x01" * 256, -2: b"\x01\x00\x01"}
    wrong_curve = {1: 2, 3: -7, -1: 2, -2: b"\x01" * 48, -3: b"\x01" * 48}
    off_curve = {1: 2, 3: -7, -1: 1, -2: b"\x01" * 32, -3: b"\x01" * 32}
    es512 = {1: 2, 3: -36, -1: 3, -2: b"\x01" * 66, -3: b"\x01" * 66}
    nonsense: list[Json] = [{1: 2}, {1: 2, 3: -7, -1: 1, -2: 5, -3: 6}, {1: 2, 3: -7, -1: 1, -2: b"x", -3: b"y"}]
    async with desk.browser() as client:
        for cose in (edwards, rsa, wrong_curve, off_curve, es512, *nonsense):
            refused = await create(client, replace(key, cose=cose))
            assert refused.status_code == 403, refused.text


async def test_a_challenge_is_good_for_one_answer(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, key)
        asked = await options(client, "/login")
        body = {"credential": key.get(asked)}
        assert (await client.post(f"{AUTH}/passkeys/login", json=body)).status_code == 200
        again = await client.post(f"{AUTH}/passkeys/login", json=body)
        assert again.status_code == 403
        assert "unknown, used or too old" in again.json()["error"]["message"]


async def test_a_wrong_answer_uses_its_challenge_up(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, key)
        asked = await options(client, "/login")
        stranger = replace(key, key=ec.generate_private_key(ec.SECP256R1()))
        for answering in (stranger, key):
            answer = await client.post(f"{AUTH}/passkeys/login", json={"credential": answering.get(asked)})
            assert answer.status_code == 403


async def test_a_challenge_to_create_signs_nobody_in_and_the_other_way_round(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, key)
        swapped = {"credential": key.get(await options(client))}
        assert (await client.post(f"{AUTH}/passkeys/login", json=swapped)).status_code == 403
        new = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x09" * 16)
        asked = {**await options(client, "/login"), "user": {"id": "AAAA"}}
        assert (await client.post(f"{AUTH}/passkeys", json={"credential": new.create(asked)})).status_code == 403


async def test_an_old_challenge_is_refused(desk: Desk, key: Authenticator, clock: ManualClock) -> None:
    async with desk.browser() as client:
        asked = await options(client)
        clock.advance(301)
        refused = await client.post(f"{AUTH}/passkeys", json={"credential": key.create(asked)})
        assert refused.status_code == 403


async def test_somebody_elses_passkey_does_not_answer_for_one(desk: Desk, key: Authenticator) -> None:
    other = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x08" * 16)
    async with desk.browser() as client:
        await create(client, key)
    async with desk.browser() as client:
        await create(client, other)
        named = replace(other, credential_id=key.credential_id)  # ann's passkey by name, signed by another
        assert (await sign_in(client, named)).status_code == 403
        foreign = replace(key, user_handle=other.user_handle)
        refused = await sign_in(client, foreign)
        assert "made for somebody else" in refused.json()["error"]["message"]
        assert (await sign_in(client, replace(key, user_handle=None))).status_code == 200


async def test_an_unknown_passkey_is_refused(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        refused = await sign_in(client, key)
    assert refused.status_code == 403
    assert refused.json()["error"]["next_step"] == "create one, or sign in another way"


async def test_a_counter_that_goes_back_or_stands_is_refused(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, replace(key, count=5))
        for count, status in ((6, 200), (6, 403), (5, 403), (0, 403), (7, 200)):
            key.count = count
            assert (await sign_in(client, key)).status_code == status, count


async def test_of_two_answers_with_one_counter_one_is_taken(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, replace(key, count=1))
        key.count = 2
        bodies = [{"credential": key.get(await options(client, "/login"))} for _ in range(4)]
        answers = await asyncio.gather(*(client.post(f"{AUTH}/passkeys/login", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403]


@pytest.mark.parametrize(
    "credential",
    [
        None, [], "x", {}, {"id": "a", "rawId": "a", "type": "public-key"},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {}},
        {"id": "a" * 2000, "rawId": "a", "type": "public-key", "response": {"clientDataJSON": "e30"}},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {"clientDataJSON": "a" * 9000}},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {"clientDataJSON": "!!"}},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {"clientDataJSON": "e30"}},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {"clientDataJSON": encoded(b"[1]")}},
        {"id": "a", "rawId": "a", "type": "public-key", "response": {"clientDataJSON": encoded(b"[" * 5000)}},
        {"id": "a", "rawId": "a", "type": "public-key",
         "response": {"clientDataJSON": encoded(b'{"challenge": 5}')}},
    ],
)  # fmt: skip
async def test_what_is_no_credential_is_said_to_be_none(desk: Desk, credential: object) -> None:
    async with desk.browser() as client:
        for path in ("/passkeys", "/passkeys/login"):
            answer = await client.post(AUTH + path, json={"credential": credential})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["code"] == "invalid_input"


async def test_damaged_answers_never_break_the_node(desk: Desk, key: Authenticator) -> None:
    """Every field cut off, emptied and replaced: always a refusal, never a 500."""
    async with desk.browser() as client:
        for damage in ("", "AAAA", encoded(b"\xbf" * 60), encoded(b"\x81" * 3000), encoded(b"\xff" * 200)):
            credential = key.create(await options(client))
            _response(credential)["attestationObject"] = damage
            assert (await _post(client, "/passkeys", credential)) in (400, 403)
        await create(client, key)
        for name in ("authenticatorData", "signature", "userHandle"):
            for damage in ("", "AAAA", "*", encoded(b"\xff" * 100)):
                credential = key.get(await options(client, "/login"))
                _response(credential)[name] = damage
                status = await _post(client, "/passkeys/login", credential)
                assert status in (400, 403) or (name, damage) == ("userHandle", "")
        for name, value in (("type", "password"), ("rawId", "AAAA"), ("id", "AAAA"), ("id", "*"), ("id", "")):
            credential = key.get(await options(client, "/login"))
            credential[name] = value
            assert (await _post(client, "/passkeys/login", credential)) in (400, 403)


def _response(credential: Json) -> Json:
    found = credential["response"]
    assert isinstance(found, dict)
    return found


async def _post(client: httpx.AsyncClient, path: str, credential: Json) -> int:
    return (await client.post(AUTH + path, json={"credential": credential})).status_code


async def test_a_credential_id_longer_than_any_is_not_kept(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        answer = await create(client, replace(key, credential_id=b"\x07" * 1030))
        assert answer.status_code in (400, 403)


async def test_the_person_of_the_challenge_is_the_one_of_the_answer_after_the_session_is_over(
    desk: Desk, key: Authenticator
) -> None:
    """A stale cookie is nobody: neither locked out, nor still who they were."""
    async with desk.browser(cookie="nexus_session=nx_over") as client:
        assert (await who(client))["user"] is None
        answer = await create(client, key, cookie=True)
        assert answer.json()["data"]["user"] == person_of(key.credential_id)


async def test_a_wrong_token_in_the_header_is_said_to_be_wrong(desk: Desk) -> None:
    async with desk.browser(authorization="Bearer nx_wrong") as client:
        for answer in (await client.get(f"{AUTH}/session"), await client.post(f"{AUTH}/passkeys/options")):
            assert answer.status_code == 403
            assert "unknown, revoked or over" in answer.json()["error"]["message"]


async def test_another_sites_page_begins_nothing_and_ends_nothing(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, key, cookie=True)
        foreign = {"origin": "https://evil.example"}
        for path in ("/passkeys/options", "/passkeys/login/options", "/challenge"):
            answer = await client.post(AUTH + path, json={"address": "0x" + "1" * 40}, headers=foreign)
            assert answer.status_code == 403
            assert "page of another site" in answer.json()["error"]["message"]
        assert (await client.delete(f"{AUTH}/session", headers=foreign)).status_code == 403
        credential = key.get(await options(client, "/login"))
        body = {"credential": credential, "cookie": True}
        assert (await client.post(f"{AUTH}/passkeys/login", json=body, headers=foreign)).status_code == 403
        assert (await who(client))["user"] == person_of(key.credential_id)


async def test_signing_out_ends_the_session_for_good(desk: Desk, key: Authenticator) -> None:
    async with desk.browser() as client:
        await create(client, key, cookie=True)
        kept = client.cookies["nexus_session"]
        answer = await client.delete(f"{AUTH}/session")
        assert answer.status_code == 200
        assert "max-age=0" in answer.headers["set-cookie"].lower()
        assert (await who(client))["user"] is None
    assert await desk.tokens.find(kept) is None


async def test_signing_in_as_somebody_else_ends_the_session_before(desk: Desk, key: Authenticator) -> None:
    other = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x08" * 16)
    async with desk.browser() as client:
        await create(client, other)
        await create(client, key, cookie=True)
        before = client.cookies["nexus_session"]
        await sign_in(client, other, cookie=True)
        assert (await who(client))["user"] == person_of(other.credential_id)
    assert await desk.tokens.find(before) is None


async def test_strangers_are_counted(database: Database, clock: ManualClock) -> None:
    desk = open_desk(database, clock, per_minute=3)
    async with desk.browser() as client:
        codes = [(await client.post(f"{AUTH}/passkeys/login/options")).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]


async def test_the_local_user_gets_passkeys_on_localhost_and_is_led_there_from_the_address(
    database: Database, clock: ManualClock
) -> None:
    desk = open_desk(database, clock, public_url="http://127.0.0.1:5000", local_user="local")
    key = Authenticator("http://localhost:5000", "localhost")
    async with desk.browser("http://localhost:5000") as client:
        answer = await create(client, key)
        assert answer.json()["data"]["user"] == "local"
        assert (await who(client))["way"] == "local"
        session = await sign_in(client, key, cookie=True)
        assert session.json()["data"]["user"] == "local"
        assert "secure" not in session.headers["set-cookie"].lower()
    async with desk.browser("http://127.0.0.1:5000") as client:
        refused = await client.post(f"{AUTH}/passkeys/options")
        assert refused.status_code == 400
        assert refused.json()["error"]["next_step"] == "open http://localhost:5000"


async def test_whoever_uses_a_development_machine_may_become_somebody_of_their_own(
    database: Database, clock: ManualClock
) -> None:
    desk = open_desk(database, clock, public_url="http://127.0.0.1:5000", local_user="local")
    key = Authenticator("http://localhost:5000", "localhost")
    async with desk.browser("http://localhost:5000") as client:
        asked = await client.post(f"{AUTH}/passkeys/options", json={"own": True})
        credential = key.create(asked.json()["data"])
        mixed = await client.post(f"{AUTH}/passkeys", json={"credential": credential})
        assert mixed.status_code == 403  # begun as somebody new, ended as the local user

        asked = await client.post(f"{AUTH}/passkeys/options", json={"own": True})
        body = {"credential": key.create(asked.json()["data"]), "own": True, "cookie": True}
        made = (await client.post(f"{AUTH}/passkeys", json=body)).json()["data"]
        assert made["user"] == person_of(key.credential_id)
        assert made["passkey"]["name"] == "Passkey 1"
        assert (await who(client))["user"] == made["user"]


async def test_only_a_development_node_believes_the_name_it_was_asked_under(desk: Desk) -> None:
    async with desk.browser("http://localhost:5000") as client:
        assert (await options(client))["rp"] == {"id": "nexus.example", "name": "AgentNexus"}


async def test_a_person_has_so_many_passkeys_and_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, key: Authenticator
) -> None:
    monkeypatch.setattr(passkeys_module, "PER_PERSON_MAX", 1)
    token = await desk.tokens.admit("ann")
    async with desk.browser(authorization=f"Bearer {token}") as client:
        await create(client, key)
        refused = await client.post(f"{AUTH}/passkeys/options")
    assert refused.status_code == Conflict.http_status


async def test_sites_without_a_name_have_no_passkeys(desk: Desk) -> None:
    for origin in ("http://192.168.1.5:5000", "http://[::1]:80", "http://127.0.0.1"):
        with pytest.raises(InvalidInput, match="is an address"):
            await desk.passkeys.creation(Site(origin), None)


async def test_a_challenge_of_one_address_is_not_answered_at_another(database: Database, clock: ManualClock) -> None:
    desk = open_desk(database, clock, public_url=ORIGIN, local_user="local")
    key = Authenticator(ORIGIN, "nexus.example")
    async with desk.browser("http://localhost:5000") as here, desk.browser(ORIGIN) as there:
        asked = await options(here)
        answer = await there.post(f"{AUTH}/passkeys", json={"credential": key.create(asked)})
    assert answer.status_code == 403
    assert json.loads(answer.text)["error"]["message"] == "this was begun at another address of this node"


async def remove(client: httpx.AsyncClient, key: Authenticator) -> httpx.Response:
    return await client.delete(f"{AUTH}/passkeys/{encoded(key.credential_id)}")


async def test_a_lost_passkey_is_removed_and_signs_nobody_in(desk: Desk, key: Authenticator) -> None:
    spare = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x08" * 16)
    async with desk.browser() as client:
        await create(client, key, cookie=True)
        assert (await remove(client, key)).json()["error"]["message"] == "this is your only way to sign in"
        assert (await create(client, spare)).status_code == 201
        assert (await remove(client, key)).status_code == 200
        assert (await remove(client, key)).status_code == 404
        assert (await sign_in(client, key)).status_code == 403
        assert (await sign_in(client, spare)).json()["data"]["user"] == person_of(key.credential_id)


async def test_nobody_removes_somebody_elses_passkey(desk: Desk, key: Authenticator) -> None:
    token = await desk.tokens.admit("eve")
    async with desk.browser() as client:
        await create(client, key)
        assert (await remove(client, key)).status_code == 403
        client.headers["authorization"] = f"Bearer {token}"
        assert (await remove(client, key)).status_code == 404
        assert (await client.delete(f"{AUTH}/passkeys/*")).status_code == 400
    assert len(await desk.passkeys.of(person_of(key.credential_id))) == 1


async def test_of_two_passkeys_removed_at_once_one_stays(desk: Desk, key: Authenticator) -> None:
    spare = Authenticator(ORIGIN, "nexus.example", credential_id=b"\x08" * 16)
    async with desk.browser() as client:
        await create(client, key, cookie=True)
        await create(client, spare)
        answers = await asyncio.gather(remove(client, key), remove(client, spare))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_who_has_another_way_in_may_remove_the_last_one(desk: Desk, key: Authenticator) -> None:
    token = await desk.tokens.admit("ann")
    async with desk.browser(authorization=f"Bearer {token}") as client:
        await create(client, key)
        assert (await remove(client, key)).status_code == 200
    assert await desk.passkeys.of("ann") == []


async def test_what_is_too_large_or_too_deep_is_refused_before_anything_reads_it(desk: Desk) -> None:
    app = guarded(desk.app, 1 << 20, {AUTH: SIGN_IN_BYTES_MAX})
    large = b'{"credential": "' + b"a" * SIGN_IN_BYTES_MAX + b'"}'
    deep = b'{"credential": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN, headers=headers) as client:
        for path in ("/passkeys", "/passkeys/login", "/login", "/email", "/email/verify"):
            assert (await client.post(AUTH + path, content=large)).status_code == 413
            assert (await client.post(AUTH + path, content=deep)).status_code in (400, 404)


async def test_what_a_device_lists_is_told_apart_by_its_day(desk: Desk) -> None:
    async with desk.browser() as client:
        user = (await options(client))["user"]
        assert isinstance(user, dict)
        assert (user["name"], user["displayName"]) == ("AgentNexus 2026-11-20", "AgentNexus 2026-11-20")
    token = await desk.tokens.admit("ann")
    async with desk.browser(authorization=f"Bearer {token}") as client:
        user = (await options(client))["user"]
        assert isinstance(user, dict)
        assert user["name"] == "AgentNexus ann"
