"""ERC-7677 over HTTP: what wallets ask, with what they get wrong; and another party's client against our service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest
import uvicorn
from fastapi import APIRouter

from agentnexus.api.app import create_api, guarded
from agentnexus.core.clock import SeededEntropy, SystemClock
from agentnexus.core.errors import NotAllowed
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.platform.telemetry import sponsorships_total
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.paymaster.refusals import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    OPERATION_REJECTED,
    PARSE_ERROR,
    PAYMASTER_REJECTED,
    THROTTLED,
)
from agentnexus.rails.evm.paymaster.routes import BODY_BYTES_MAX, no_paymaster_routes, paymaster_routes
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.userops import OwnerSigner, UserOperation, build
from agentnexus.rails.evm.userops.model import nonce_of
from agentnexus.rails.evm.userops.sponsors import ServiceSponsor
from tests.paymaster.conftest import Desk, settle

CHAIN = hex(31337)
Json = dict[str, RpcValue]


class AuthorisedRpc(Rpc):
    """JSON-RPC with the token of a client."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        super().__init__(url)
        self._client = client

    async def _ask(self, body: bytes) -> httpx.Response:
        return await self._client.post(self.url, content=body)


@dataclass
class Site:
    """The service behind the API's own edge, and a client with alice's token."""

    desk: Desk
    client: httpx.AsyncClient
    url: str

    async def ask(self, method: str, *parameters: RpcValue) -> Json:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
        answer = await self.client.post("/paymaster", json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        assert found["id"] == 7
        assert found["jsonrpc"] == "2.0"
        return found

    async def result(self, method: str, *parameters: RpcValue) -> Json:
        found = (await self.ask(method, *parameters)).get("result")
        assert isinstance(found, dict)
        return found

    async def error(self, method: str, *parameters: RpcValue) -> tuple[int, Json]:
        error = (await self.ask(method, *parameters)).get("error")
        assert isinstance(error, dict)
        code, data = error["code"], error["data"]
        assert isinstance(code, int)
        assert isinstance(data, dict)
        assert error["message"] == data["message"]
        return code, data


def app_of(desk: Desk, tokens: Tokens, router: APIRouter) -> object:
    app = create_api(
        routers=[("", router)],
        pages=[],
        callers=Callers(tokens),
        limiter=Limiter(desk.database, per_minute=6000),
        checks={},
        clock=SystemClock(),
        version="0",
    )
    return guarded(app, 1024 * 1024)


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[Site]:
    tokens, port = Tokens(desk.database, SeededEntropy(1)), free_port()
    app = app_of(desk, tokens, paymaster_routes(desk.service()))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))  # type: ignore[arg-type]  # an ASGI app
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the test's own process
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {await tokens.issue('alice')}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        serving = asyncio.create_task(server.serve())

        async def started() -> bool:
            return server.started

        await wait_until_ready(started, what="the paymaster service", timeout_seconds=20)
        yield Site(desk, client, url)
        server.should_exit = True
        await serving


def plain(operation: UserOperation) -> Json:
    """An unsigned operation as a wallet sends it: no signature, nothing of the paymaster."""
    body = operation.to_json()
    del body["signature"]
    return body


async def test_the_stub_is_as_long_as_the_final_data_and_not_cheaper(site: Site) -> None:
    operation = await site.desk.unsigned()
    stub = await site.result("pm_getPaymasterStubData", plain(operation), ENTRY_POINT, CHAIN, {})
    final = await site.result("pm_getPaymasterData", {**plain(operation), **_of(stub)}, ENTRY_POINT, CHAIN, {})
    stub_data, final_data = (bytes.fromhex(str(each["paymasterData"])[2:]) for each in (stub, final))
    assert len(stub_data) == len(final_data)
    assert stub_data.count(0) <= final_data.count(0)
    assert stub["sponsor"] == {"name": "AgentNexus"}
    assert stub["isFinal"] is False
    assert stub["paymaster"] == final["paymaster"] == site.desk.paymaster
    assert stub["paymasterPostOpGasLimit"] == "0x0"
    assert final["paymasterVerificationGasLimit"] == stub["paymasterVerificationGasLimit"]


def with_call(desk: Desk, operation: UserOperation, to: str | None = None, atomic: int = 1) -> UserOperation:
    return replace(operation, call_data=execute_data([desk.transfer(to, atomic)]))


def _of(stub: Json) -> Json:
    return {name: stub[name] for name in stub if name.startswith("paymaster")}


async def test_a_wallets_own_client_gets_its_operation_sponsored_and_mined(site: Site) -> None:
    desk = site.desk
    async with AuthorisedRpc(f"{site.url}/paymaster", site.client) as rpc:
        operation = await build(
            desk.chain.rpc,
            desk.bundler,
            await desk.sender(),
            [desk.transfer()],
            signer=OwnerSigner(desk.chain.accounts["alice"].signer),
            sponsor=ServiceSponsor(rpc, desk.chain.chain_id),
        )
        assert (await desk.send(operation)).succeeded
        await settle(desk.settling())
        assert (await desk.booked())[0] == await desk.on_chain()
        with pytest.raises(NotAllowed, match="no policy pays"):
            await ServiceSponsor(rpc, desk.chain.chain_id).stub(with_call(desk, operation, to=desk.paymaster))


async def test_one_call_estimates_and_sponsors_for_older_clients(site: Site) -> None:
    operation = await site.desk.unsigned()
    bare: Json = {name: plain(operation)[name] for name in ("sender", "nonce", "callData", "factory", "factoryData")}
    found = await site.result("pm_sponsorUserOperation", bare, ENTRY_POINT, {"policyId": "tests"})
    assert int(str(found["callGasLimit"]), 16) > 0
    assert int(str(found["maxFeePerGas"]), 16) > 0
    assert found["paymaster"] == site.desk.paymaster
    whole = UserOperation.from_json({**bare, **found})
    owner = OwnerSigner(site.desk.chain.accounts["alice"].signer)
    signed = whole.signed(await owner.sign(whole.hash(site.desk.chain.chain_id)))
    assert (await site.desk.send(signed)).succeeded


async def test_another_chain_entry_point_or_policy_is_refused(site: Site) -> None:
    operation = plain(await site.desk.unsigned())
    v07 = "0x0000000071727De22E5E9d8BAf0edAc6f37da032"
    for parameters, field in (
        ((operation, ENTRY_POINT, "0x1", {}), "chainId"),
        ((operation, v07, CHAIN, {}), "entryPoint"),
        ((operation, ENTRY_POINT, CHAIN, {"policyId": "gone"}), "policyId"),
        ((operation, ENTRY_POINT, "31337", {}), "chainId"),
        (("0x", ENTRY_POINT, CHAIN, {}), "userOp"),
        (({**operation, "nonce": "zero"}, ENTRY_POINT, CHAIN, {}), "nonce"),
        (({**operation, "sender": "0x12"}, ENTRY_POINT, CHAIN, {}), "sender"),
        ((operation, ENTRY_POINT), "params"),
    ):
        for method in ("pm_getPaymasterStubData", "pm_getPaymasterData"):
            code, data = await site.error(method, *parameters)
            assert code == INVALID_PARAMS
            details = data["details"]
            assert isinstance(details, dict)
            assert details["field"] == field


async def test_a_refusal_says_why_and_what_to_do(site: Site) -> None:
    operation = await site.desk.unsigned()
    stranger = with_call(site.desk, operation, to=site.desk.chain.accounts["bob"].address)
    for method in ("pm_getPaymasterStubData", "pm_getPaymasterData"):
        code, data = await site.error(method, plain(stranger), ENTRY_POINT, CHAIN, {})
        assert code == PAYMASTER_REJECTED
        assert data["code"] == "not_allowed"
        assert "GET at this address" in str(data["next_step"])
    broke = with_call(site.desk, operation, atomic=10**12)
    code, data = await site.error("pm_getPaymasterData", plain(broke), ENTRY_POINT, CHAIN, {})
    assert code == OPERATION_REJECTED


async def test_a_spent_budget_is_told_as_throttling_with_when_it_frees(site: Site) -> None:
    operation = await site.desk.unsigned()
    first = await site.result("pm_getPaymasterData", plain(operation), ENTRY_POINT, CHAIN, {})
    accounts, policy = site.desk.service().accounts, site.desk.policies[0]
    used = Money(accounts.coin, (await site.desk.booked())[1])
    budget = accounts.budget_ids(policy, "alice", newcomer=False)["you"]
    await site.desk.books.budgets.change(budget, Limits(per_day=used))
    assert await site.result("pm_getPaymasterData", plain(operation), ENTRY_POINT, CHAIN, {}) == first
    other = replace(operation, nonce=nonce_of(1, 0))
    code, data = await site.error("pm_getPaymasterData", plain(other), ENTRY_POINT, CHAIN, {})
    assert code == THROTTLED
    assert data["code"] == "budget_exceeded"
    details = data["details"]
    assert isinstance(details, dict)
    assert details["frees_at"]


async def test_what_is_no_request_is_told_so(site: Site) -> None:
    for body, code in (
        (b"{", PARSE_ERROR),
        (b"[" * 50_000, PARSE_ERROR),
        (b"[]", INVALID_REQUEST),
        (b"7", INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_call"}', METHOD_NOT_FOUND),
        (b'{"jsonrpc":"2.0","id":1,"method":"pm_getPaymasterData","params":{}}', INVALID_PARAMS),
        (b"[" + b"1," * 30 + b"1]", INVALID_REQUEST),
    ):
        answer = (await site.client.post("/paymaster", content=body)).json()
        assert answer["error"]["code"] == code, body[:40]
    large = await site.client.post("/paymaster", content=b" " * (BODY_BYTES_MAX + 1))
    assert large.status_code == 413


async def test_a_batch_is_answered_one_by_one_and_notifications_not_at_all(site: Site) -> None:
    request = {"jsonrpc": "2.0", "method": "pm_getPaymasterStubData"}
    operation = plain(await site.desk.unsigned())
    good = {**request, "id": "a", "params": [operation, ENTRY_POINT, CHAIN, {}]}
    answers = (await site.client.post("/paymaster", json=[good, 1, {**good, "id": 2, "params": []}])).json()
    assert ["result" in each for each in answers] == [True, False, False]
    assert [each["id"] for each in answers] == ["a", None, 2]
    quiet = {**request, "params": [operation, ENTRY_POINT, CHAIN, {}]}
    assert (await site.client.post("/paymaster", json=quiet)).status_code == 204


async def test_only_callers_we_know_are_served(site: Site) -> None:
    stranger = {"Authorization": "Bearer nobody"}
    for answer in (
        await site.client.get("/paymaster", headers=stranger),
        await site.client.post("/paymaster", headers=stranger, json={}),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["next_step"]


async def test_the_policies_can_be_read_but_not_whose_they_are(site: Site) -> None:
    described = (await site.client.get("/paymaster")).json()
    assert described["success"] is True
    assert described["entry_point"] == ENTRY_POINT
    (policy,) = described["policies"]
    assert policy["rules"][0]["functions"] == ["transfer(address,uint256)"]
    assert policy["per_operation"] == "0.1"
    assert not {"users", "senders"} & set(policy)


async def test_promises_and_refusals_are_counted(site: Site) -> None:
    network = site.desk.chain.network.caip2
    promised, refused = (sponsorships_total.labels(network, status) for status in ("promised", "not_allowed"))
    before = promised._value.get(), refused._value.get()
    operation = await site.desk.unsigned()
    await site.result("pm_getPaymasterData", plain(operation), ENTRY_POINT, CHAIN, {})
    stranger = with_call(site.desk, operation, to=site.desk.paymaster)
    await site.error("pm_getPaymasterData", plain(stranger), ENTRY_POINT, CHAIN, {})
    assert (promised._value.get(), refused._value.get()) == (before[0] + 1, before[1] + 1)


async def test_a_node_that_pays_for_nobody_says_how_to_change_that(desk: Desk) -> None:
    app = app_of(desk, Tokens(desk.database, SeededEntropy(1)), no_paymaster_routes())
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # an ASGI app
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        for answer in (await client.get("/paymaster"), await client.post("/paymaster", json={})):
            assert answer.status_code == 503
            assert "NEXUS_PAYMASTER" in answer.json()["error"]["next_step"]
