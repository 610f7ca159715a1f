"""Who is let in at the edges: every header a browser or program may send, buckets to the last token, owners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.errors import NotAllowed, NotFound, RateLimited
from agentnexus.identity.caller import COOKIE, Caller, Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.origin import counted_as, from_this_machine, is_loopback, may_act, same_origin
from agentnexus.identity.tokens import PREFIX, Holder, Tokens
from agentnexus.platform.database import Database


def connection(
    method: str = "POST", kind: str = "http", client: str | None = "127.0.0.1", **headers: str
) -> HTTPConnection:
    named = {"host": "shop.example", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    scope = {"type": kind, "method": method, "headers": raw, "client": None if client is None else (client, 1)}
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"origin": "https://shop.example"}, True),
        ({"origin": "http://shop.example"}, True),
        ({"origin": "https://shop.example:8443"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://shop.example.evil.example"}, False),
        ({"origin": "https://shop.example@evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "SAME-ORIGIN"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://shop.example"}, False),
    ],
)
def test_a_page_of_ours_is_known_by_what_browsers_add(headers: dict[str, str], ours: bool) -> None:
    assert same_origin(Headers({"host": "shop.example", **headers})) is ours


@pytest.mark.parametrize(
    ("method", "kind", "acts"),
    [
        ("GET", "http", True),
        ("HEAD", "http", True),
        ("OPTIONS", "http", True),
        ("POST", "http", False),
        ("PUT", "http", False),
        ("PATCH", "http", False),
        ("DELETE", "http", False),
        ("get", "http", False),
        ("GET", "websocket", False),
    ],
)
def test_another_site_may_link_here_but_neither_post_nor_open_sockets(method: str, kind: str, acts: bool) -> None:
    assert may_act(connection(method, kind, origin="https://evil.example")) is acts


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("notlocalhost", False),
        ("localhost.evil.example", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
        ("127.1", False),
        ("0x7f.0.0.1", False),
    ],
)
def test_only_true_loopback_names_and_addresses_are_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("host", "client", "here"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", None, True),
        ("localhost", "10.0.0.5", False),
        ("evil.example", "127.0.0.1", False),
        ("evil.example:127.0.0.1", "127.0.0.1", False),
        ("[::1", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("user@localhost", "127.0.0.1", True),
    ],
)
def test_the_local_user_is_found_only_when_both_ends_are_here(host: str, client: str | None, here: bool) -> None:
    """A name that a stranger's DNS points at loopback (rebinding) is not this machine."""
    assert from_this_machine(connection(client=client, host=host)) is here


@given(st.text(max_size=60))
def test_no_host_name_is_a_crash(host: str) -> None:
    assert is_loopback(host) in (True, False)
    try:
        raw = host.encode("latin-1")
    except UnicodeEncodeError:
        return
    scope = {"type": "http", "method": "GET", "headers": [(b"host", raw)], "client": ("127.0.0.1", 1)}
    assert from_this_machine(HTTPConnection(scope)) in (True, False)


async def test_tokens_and_their_many_wrong_forms(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(1))
    token = await tokens.issue("ann")
    callers = Callers(tokens, local_user="me")
    assert token.startswith(PREFIX)
    assert len(token) >= len(PREFIX) + 43, "256 random bits"
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert await callers.identify(connection(authorization=f"{scheme} {token}")) == Caller("ann")
    for wrong in (token[:-1], token + "x", token.upper(), f" {token}", "nx_", "'; drop table identity.token; --"):
        with pytest.raises(NotAllowed, match="unknown, revoked or over"):
            await callers.identify(connection(authorization=f"Bearer {wrong}"))
    for nothing in ("Bearer", "Bearer ", f"Basic {token}", f"Token {token}"):
        with pytest.raises(NotAllowed, match="sign in first"):
            await callers.identify(connection(authorization=nothing))


async def test_a_wrong_token_is_never_taken_for_the_local_user(database: Database) -> None:
    callers = Callers(Tokens(database, SeededEntropy(1)), local_user="me")
    assert await callers.identify(connection(host="localhost")) == Caller("me")
    for wrong in ({"authorization": "Bearer nx_wrong"}, {"cookie": f"{COOKIE}=nx_wrong"}):
        with pytest.raises(NotAllowed, match="unknown, revoked or over"):
            await callers.identify(connection(host="localhost", **wrong))


async def test_a_cookie_counts_from_our_pages_only_and_a_bearer_from_everywhere(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(1))
    token = await tokens.issue("ann")
    callers = Callers(tokens)
    foreign = {"origin": "https://evil.example"}
    with pytest.raises(NotAllowed, match="another site"):
        await callers.identify(connection(cookie=f"{COOKIE}={token}", **foreign))
    assert await callers.identify(connection("GET", cookie=f"{COOKIE}={token}", **foreign)) == Caller("ann")
    assert await callers.identify(connection(authorization=f"Bearer {token}", **foreign)) == Caller("ann")


async def test_two_tokens_of_one_person_end_one_by_one_and_their_role_stays(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(1))
    first, second = await tokens.issue("ann", "operator"), await tokens.issue("ann")
    assert first != second
    assert await tokens.find(second) == Holder("ann", "operator")
    assert await tokens.revoke(first)
    assert await tokens.find(first) is None
    assert await tokens.find(second) == Holder("ann", "operator")


@pytest.mark.parametrize(
    ("caller", "owner", "may"),
    [
        (Caller("ann"), "ann", True),
        (Caller("ann"), "Ann", False),
        (Caller("ann"), "", False),
        (Caller(""), "ann", False),
        (Caller("op", "operator"), "ann", True),
        (Caller("op", "Operator"), "ann", False),
        (Caller("op", "admin"), "ann", False),
    ],
)
def test_strangers_learn_nothing_and_only_operators_see_all(caller: Caller, owner: str, may: bool) -> None:
    if may:
        caller.require_owner(owner, "workflow")
        return
    with pytest.raises(NotFound, match="there is no workflow with that id"):
        caller.require_owner(owner, "workflow")


async def drained(database: Database, clock: ManualClock, **more: int) -> Limiter:
    limiter = Limiter(database, per_minute=60, clock=clock, **more)
    for _ in range(more.get("burst", 60)):
        await limiter.take("ann")
    return limiter


@pytest.mark.parametrize("burst", [1, 5, 60])
async def test_a_burst_is_let_through_to_the_last_call_and_not_one_more(
    database: Database, clock: ManualClock, burst: int
) -> None:
    with pytest.raises(RateLimited) as refused:
        await (await drained(database, clock, burst=burst)).take("ann")
    assert refused.value.details == {"retry_after_seconds": burst}
    assert refused.value.next_step == f"wait {burst} s"


async def test_after_the_seconds_it_was_told_a_caller_gets_in_and_just_before_it_does_not(
    database: Database, clock: ManualClock
) -> None:
    limiter = await drained(database, clock, burst=1)
    clock.advance(0.999)
    with pytest.raises(RateLimited):
        await limiter.take("ann")
    clock.advance(0.001)
    await limiter.take("ann")


async def test_waiting_long_saves_up_no_more_than_the_burst(database: Database, clock: ManualClock) -> None:
    limiter = await drained(database, clock, burst=3)
    clock.advance(3600)
    for _ in range(3):
        await limiter.take("ann")
    with pytest.raises(RateLimited):
        await limiter.take("ann")


async def test_one_caller_does_not_use_up_anothers_calls(database: Database, clock: ManualClock) -> None:
    limiter = await drained(database, clock, burst=1)
    await limiter.take("bob")
    with pytest.raises(RateLimited):
        await limiter.take("ann")


async def test_a_slow_rate_tells_the_true_wait(database: Database, clock: ManualClock) -> None:
    limiter = Limiter(database, per_minute=1, burst=1, clock=clock)
    await limiter.take("ann")
    clock.advance(15)
    with pytest.raises(RateLimited) as refused:
        await limiter.take("ann")
    assert refused.value.details == {"retry_after_seconds": 45}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_whoever_has_a_whole_network_of_addresses_is_counted_as_one(host: str, name: str) -> None:
    assert counted_as(host) == name
