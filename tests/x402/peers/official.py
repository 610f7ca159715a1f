"""The official Python package's three roles, wired as its documentation says."""

from __future__ import annotations

import asyncio

import httpx
from eth_account import Account
from fastapi import FastAPI
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.mechanisms.evm.exact import ExactEvmServerScheme, register_exact_evm_client, register_exact_evm_facilitator
from x402.mechanisms.evm.signers import EthAccountSigner, FacilitatorWeb3Signer
from x402.schemas import AssetAmount, PaymentRequirements, SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements
from x402 import x402Client, x402FacilitatorSync, x402ResourceServer


class OfficialFacilitator:
    """The official facilitator behind our port; its calls block, so they run in threads."""

    def __init__(self, private_key: str, rpc_url: str, network: str = "eip155:31337") -> None:
        self.inner = x402FacilitatorSync()
        self.signer = FacilitatorWeb3Signer(private_key, rpc_url)
        register_exact_evm_facilitator(self.inner, self.signer, network)

    def get_supported(self) -> SupportedResponse:
        return self.inner.get_supported()

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        return await asyncio.to_thread(self.inner.verify, payload, requirements)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        return await asyncio.to_thread(self.inner.settle, payload, requirements)


def official_client(private_key: str) -> x402Client:
    """A paying client without its default cap, which refuses tokens it does not know."""
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(Account.from_key(private_key)))
    client.set_spend_controls(False)
    return client


def official_http(private_key: str, inner: httpx.AsyncBaseTransport, base_url: str) -> httpx.AsyncClient:
    """httpx with the official paying transport around `inner`."""
    return httpx.AsyncClient(transport=x402AsyncTransport(official_client(private_key), inner), base_url=base_url)


def official_server(facilitator: Facilitation, asked: PaymentRequirements, runs: list[str]) -> FastAPI:
    """A FastAPI app behind the official middleware, selling ``GET /report``."""
    server = x402ResourceServer(facilitator)
    server.register(asked.network, ExactEvmServerScheme())
    price = AssetAmount(amount=asked.amount, asset=asked.asset, extra=asked.extra)
    accepts = {"scheme": "exact", "payTo": asked.pay_to, "network": asked.network, "price": price}
    app = FastAPI()

    @app.get("/report")
    async def report() -> dict[str, int]:
        runs.append("run")
        return {"run": len(runs)}

    @app.get("/other")
    async def other() -> dict[str, str]:
        runs.append("other")
        return {"other": "result"}

    routes = {path: {"accepts": accepts, "description": "d"} for path in ("GET /report", "GET /other")}
    app.add_middleware(PaymentMiddlewareASGI, routes=routes, server=server)
    return app
