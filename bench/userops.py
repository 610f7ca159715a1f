"""How fast user operations are on a local chain: building, signing, and bringing them on chain, by us and by Alto.

Run: python -m bench.userops [count]; prints JSON. Needs `npm ci`, and for the peer `bench/peers/alto_package/install`;
starts its own chain and database. Beside our JSON-RPC client stands web3.py's, on the same node in the same run.
"""

from __future__ import annotations

import sys
from functools import partial

from web3 import AsyncHTTPProvider, AsyncWeb3

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.contracts import deploy_contracts
from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts import AccountPlan, Call, DealTerms, Escrow, Owner
from agentnexus.rails.evm.contracts.abi import encode_values
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import checksum_address, selector
from agentnexus.rails.evm.userops import (
    Bundler,
    Flavour,
    GasEstimate,
    OwnerSigner,
    RpcBundler,
    SelfBundler,
    Sender,
    SigningSponsor,
    UserOperation,
    build,
)
from bench.evm import Figures, measure
from bench.ground import measure_on_chain
from bench.peers.alto import alto, installed

Results = dict[str, Figures]


class Buyer:
    """An account that deposits into the escrow, gas sponsored: one operation after the other."""

    def __init__(self, chain: DevelopmentChain, manifest: Manifest, sender: Sender, owner: str) -> None:
        key = chain.accounts[owner].signer
        self.chain = chain
        self.sender = sender
        self._signer = OwnerSigner(key)
        policy = chain.accounts["relayer"].signer
        self._sponsor = SigningSponsor(manifest.address("Paymaster"), chain.chain_id, policy)
        self._escrow = manifest.escrow(chain.rpc)
        self._number = 0

    @classmethod
    async def open(cls, chain: DevelopmentChain, manifest: Manifest, owner: str) -> Buyer:
        factory = manifest.factory(chain.rpc)
        plan = AccountPlan(Owner(chain.accounts[owner].address))
        sender = Sender.planned(plan, factory.address, await factory.implementation())
        await chain.mint(sender.address, 10**9)
        return cls(chain, manifest, sender, owner)

    def deposit(self) -> Call:
        self._number += 1
        seller = self.chain.accounts["seller-1"].address
        return self._escrow.deposit(DealTerms(self.sender.address, seller, 10, self._number, 250))

    def approve(self) -> Call:
        data = encode_values(["address", "uint256"], [self._escrow.address, 10**9])
        return Call(self.chain.usdc.reference, selector("approve(address,uint256)") + data)

    async def build(self, bundler: Bundler, *calls: Call, gas: GasEstimate | None = None) -> UserOperation:
        return await build(
            self.chain.rpc, bundler, self.sender, calls, signer=self._signer, sponsor=self._sponsor, gas=gas
        )

    async def send(self, bundler: Bundler, *calls: Call) -> None:
        """From calls to the receipt."""
        receipt = await bundler.receipt(await bundler.send(await self.build(bundler, *calls or (self.deposit(),))))
        assert receipt.succeeded


async def run(chain: DevelopmentChain, database: Database, count: int) -> Results:
    manifest = await deploy_contracts(chain)
    relayer = chain.accounts["relayer"].signer
    results: Results = {}
    async with await SelfBundler.open(database, chain.rpc, chain.chain_id, relayer) as bundler:
        buyer = await Buyer.open(chain, manifest, "alice")
        await buyer.send(bundler, buyer.approve(), buyer.deposit())
        known = await bundler.estimate(await buyer.build(bundler, buyer.deposit()))
        results["build and sign, gas known"] = await measure(
            [partial(buyer.build, bundler, buyer.deposit(), gas=known) for _ in range(4 * count)]
        )
        results["build and sign, gas estimated"] = await measure(
            [partial(buyer.build, bundler, buyer.deposit()) for _ in range(count)]
        )
        results["sponsored deposit, own bundler"] = await measure([partial(buyer.send, bundler)] * count)
    results |= await read_contract(chain, manifest.escrow(chain.rpc), 4 * count)
    if installed():
        async with alto(chain) as rpc:
            peer = RpcBundler(rpc, chain.rpc, chain.chain_id, flavour=Flavour.PIMLICO)
            other = await Buyer.open(chain, manifest, "bob")
            await other.send(peer, other.approve(), other.deposit())
            results["sponsored deposit, Alto"] = await measure([partial(other.send, peer)] * count)
    return results


async def read_contract(chain: DevelopmentChain, escrow: Escrow, count: int) -> Results:
    """The same view of the same contract by both clients."""
    web3 = AsyncWeb3(AsyncHTTPProvider(chain.rpc_url))
    address = web3.to_checksum_address(checksum_address(escrow.address))
    view = web3.eth.contract(address=address, abi=load_artifact("Escrow").abi).functions.deal(bytes(32))
    await view.call()
    try:
        return {
            "read a contract": await measure([partial(escrow.deal, bytes(32))] * count),
            "read a contract, web3.py": await measure([view.call] * count),
        }
    finally:
        await web3.provider.disconnect()


if __name__ == "__main__":
    measure_on_chain(run, int(sys.argv[1]) if len(sys.argv) > 1 else 50)
