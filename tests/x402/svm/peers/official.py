"""The official Python package's three roles on Solana, wired as its documentation says."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI
from solders.keypair import Keypair
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.mechanisms.svm.exact import (
    ExactSvmServerScheme,
    register_exact_svm_client,
    register_exact_svm_facilitator,
)
from x402.mechanisms.svm.signers import FacilitatorKeypairSigner, KeypairSigner
from x402.schemas import AssetAmount, PaymentRequirements, SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.markets.x402.facilitation import Facilitation
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements
from agentnexus.rails.solana.networks import DEVNET
from x402 import x402Client, x402FacilitatorSync, x402ResourceServer


class OfficialFacilitator:
    """The official facilitator behind our port; its calls block, so they run in threads."""

    def __init__(self, keypair: Keypair, rpc_url: str, signer: FacilitatorKeypairSigner | None = None) -> None:
        self.inner = x402FacilitatorSync()
        self.signer = signer or FacilitatorKeypairSigner(keypair, rpc_url)
        register_exact_svm_facilitator(self.inner, self.signer, DEVNET.caip2)

    def get_supported(self) -> SupportedResponse:
        return self.inner.get_supported()

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        return await asyncio.to_thread(self.inner.verify, payload, requirements)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        return await asyncio.to_thread(self.inner.settle, payload, requirements)


def official_client(keypair: Keypair, rpc_url: str) -> x402Client:
    """A paying client without its default cap."""
    client = x402Client()
    register_exact_svm_client(client, KeypairSigner(keypair), rpc_url=rpc_url)
    client.set_spend_controls(False)
    return client


def official_http(keypair: Keypair, rpc_url: str, inner: httpx.AsyncBaseTransport, base_url: str) -> httpx.AsyncClient:
    """httpx with the official paying transport around `inner`."""
    transport = x402AsyncTransport(official_client(keypair, rpc_url), inner)
    return httpx.AsyncClient(transport=transport, base_url=base_url)


def official_server(
    facilitator: Facilitation,
    asked: PaymentRequirements,
    runs: list[str],
    rpc_url: str | None = None,
    *,
    method: str = "GET",
) -> FastAPI:
    """A FastAPI app behind the official middleware, selling ``/report``; with a node it hints blockhashes."""
    server = x402ResourceServer(facilitator)
    server.register(asked.network, ExactSvmServerScheme(rpc_url))
    price = AssetAmount(amount=asked.amount, asset=asked.asset, extra={})
    accepts = {"scheme": "exact", "payTo": asked.pay_to, "network": asked.network, "price": price}
    app = FastAPI()

    @app.api_route("/report", methods=[method])
    async def report() -> dict[str, int]:
        runs.append("run")
        return {"run": len(runs)}

    app.add_middleware(
        PaymentMiddlewareASGI, routes={f"{method} /report": {"accepts": accepts, "description": "d"}}, server=server
    )
    return app
