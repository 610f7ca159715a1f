"""A purchase as one sponsored user operation of an account that has no coin, bundled by ourselves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pytest
from eth_abi.abi import encode

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.encoding import selector
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.rpc import RpcValue
from tests.contracts.conftest import Contract, Value, deploy, role, transact
from tests.contracts.test_escrow_on_chain import OPEN, PERMIT2, PRICE, Market, Terms

CLASS = 7
ETHER = 10**18
GWEI = 10**9
BATCH = b"\x01" + bytes(31)


@dataclass(frozen=True)
class Operation:
    """A packed user operation of EntryPoint v0.8."""

    sender: str
    nonce: int
    call_data: bytes
    init_code: bytes = b""
    paymaster_data: bytes = b""
    signature: bytes = b""

    def value(self) -> Value:
        limits = (600_000).to_bytes(16, "big") + (400_000).to_bytes(16, "big")
        fees = GWEI.to_bytes(16, "big") + (10 * GWEI).to_bytes(16, "big")
        return (
            self.sender,
            self.nonce,
            self.init_code,
            self.call_data,
            limits,
            60_000,
            fees,
            self.paymaster_data,
            self.signature,
        )


@dataclass(frozen=True)
class Shop:
    """Everything a purchase touches. The buyer's account is not deployed yet and owns only tokens."""

    chain: DevelopmentChain
    entry_point: Contract
    factory: Contract
    paymaster: Contract
    tokens: Contract
    market: Market
    buyer: str
    init_code: bytes

    async def purchase(self) -> Operation:
        """Approve, deposit and mint by voucher: signed by the policy service and then by the owner."""
        terms = Terms(self.buyer, self.market.account("seller-1"), 1)
        escrow, usdc = self.market.escrow, self.chain.usdc.reference
        deal = await self.market.id(terms)
        voucher = (self.buyer, CLASS << 64, 1, 0, int(time.time()) + 600, escrow.address, deal)
        minter = self.chain.accounts["seller-2"]
        digest = await self.tokens.read("voucherHash", voucher)
        assert isinstance(digest, bytes)
        signature = await minter.signer.sign(digest)
        approve = selector("approve(address,uint256)") + encode(["address", "uint256"], [escrow.address, PRICE])
        calls = [
            (usdc, 0, approve),
            (escrow.address, 0, escrow.data("deposit", terms.value())),
            (self.tokens.address, 0, self.tokens.data("mintWithVoucher", voucher, minter.address, signature)),
        ]
        batch = encode(["(address,uint256,bytes)[]"], [calls])
        call_data = selector("execute(bytes32,bytes)") + encode(["bytes32", "bytes"], [BATCH, batch])
        return await self.signed(Operation(self.buyer, 0, call_data, self.init_code))

    async def signed(self, operation: Operation) -> Operation:
        until = int(time.time()) + 300
        head = bytes.fromhex(self.paymaster.address[2:]) + (200_000).to_bytes(16, "big") + bytes(16)
        policy = b"\x00" + bytes(6) + until.to_bytes(6, "big")
        offered = replace(operation, paymaster_data=head + policy)
        digest = await self.paymaster.read("sponsorshipHash", offered.value())
        assert isinstance(digest, bytes)
        policy_signature = await self.chain.accounts["seller-3"].signer.sign(digest)
        sponsored = replace(offered, paymaster_data=head + policy + policy_signature)
        hashed = await self.entry_point.read("getUserOpHash", sponsored.value())
        assert isinstance(hashed, bytes)
        return replace(sponsored, signature=b"\x00" + await self.chain.accounts["buyer"].signer.sign(hashed))

    async def bundle(self, operation: Operation) -> int:
        relayer = self.chain.accounts["relayer"].address
        return await self.entry_point.send(relayer, "handleOps", [operation.value()], relayer)


@pytest.fixture
async def shop(chain: DevelopmentChain, entry_point: Contract) -> Shop:
    admin = chain.accounts["deployer"].address
    escrow = await deploy(chain, "Escrow", chain.usdc.reference, PERMIT2, chain.accounts["alice"].address, admin, 0)
    tokens = await deploy(chain, "Entitlements", "https://example.org/{id}.json", admin, 0)
    await tokens.send(admin, "grantRole", role("REGISTRAR_ROLE"), admin)
    await tokens.send(admin, "grantRole", role("MINTER_ROLE"), chain.accounts["seller-2"].address)
    await tokens.send(admin, "createClass", CLASS, 100, 0, True, "")
    paymaster = await deploy(chain, "Paymaster", chain.accounts["seller-3"].address, admin, 0)
    await paymaster.send(admin, "deposit", value=ETHER)
    factory = await deploy(chain, "AccountFactory")
    owner = (chain.accounts["buyer"].address, bytes(32), bytes(32))
    account = await factory.read("addressOf", owner, "0x" + "00" * 20, 0, bytes(32))
    assert isinstance(account, str)
    creation = factory.data("createAccount", owner, "0x" + "00" * 20, 0, bytes(32))
    await chain.mint(account, 5 * PRICE)
    return Shop(
        chain,
        entry_point,
        factory,
        paymaster,
        tokens,
        Market(chain, escrow),
        account,
        bytes.fromhex(factory.address[2:]) + creation,
    )


async def test_one_sponsored_operation_makes_the_account_pays_and_gives_access(shop: Shop) -> None:
    operation = await shop.purchase()
    deal = await shop.market.id(Terms(shop.buyer, shop.market.account("seller-1"), 1))
    assert await shop.tokens.read("hasAccess", shop.buyer, CLASS) is False
    gas = await shop.bundle(operation)
    assert await shop.market.status(deal) == OPEN
    assert await shop.tokens.read("hasAccess", shop.buyer, CLASS) is True
    assert await shop.chain.usdc_of(shop.buyer) == 4 * PRICE
    assert await shop.chain.rpc.read_int("eth_getBalance", shop.buyer, "latest") == 0
    left = await shop.entry_point.read("balanceOf", shop.paymaster.address)
    assert isinstance(left, int)
    assert left < ETHER
    assert gas < 500_000


async def test_an_operation_the_policy_service_did_not_sign_is_not_sponsored(shop: Shop) -> None:
    operation = await shop.purchase()
    dearer = bytearray(operation.paymaster_data)
    dearer[35] ^= 1
    changed = replace(operation, paymaster_data=bytes(dearer))
    relayer = shop.market.account("relayer")
    with pytest.raises(Reverted):
        await shop.chain.rpc.read_contract(
            shop.entry_point.address, shop.entry_point.data("handleOps", [changed.value()], relayer)
        )


async def test_an_ordinary_key_delegates_and_acts_as_an_account(shop: Shop) -> None:
    """EIP-7702: the key's own address runs the account's code, and the key is its owner."""
    owner = shop.chain.accounts["bob"]
    implementation = await shop.factory.read("IMPLEMENTATION")
    assert isinstance(implementation, str)
    code: RpcValue = "0xef0100" + implementation[2:]
    await shop.chain.rpc.call("anvil_setCode", owner.address, code)
    transfer = selector("transfer(address,uint256)") + encode(["address", "uint256"], [shop.buyer, 5])
    batch = encode(["(address,uint256,bytes)[]"], [[(shop.chain.usdc.reference, 0, transfer)]])
    call_data = selector("execute(bytes32,bytes)") + encode(["bytes32", "bytes"], [BATCH, batch])
    operation = Operation(owner.address, 0, call_data)
    await transact(
        shop.chain,
        shop.market.account("deployer"),
        shop.entry_point.address,
        shop.entry_point.data("depositTo", owner.address),
        ETHER,
    )
    hashed = await shop.entry_point.read("getUserOpHash", operation.value())
    assert isinstance(hashed, bytes)
    before = await shop.chain.usdc_of(shop.buyer)
    await shop.bundle(replace(operation, signature=b"\x00" + await owner.signer.sign(hashed)))
    assert await shop.chain.usdc_of(shop.buyer) == before + 5
