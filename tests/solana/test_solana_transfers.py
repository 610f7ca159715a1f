"""Planning transfers against states no faucet makes: frozen accounts, stolen accounts, fees that change, odd mints."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from agentnexus.core.errors import InsufficientFunds, InvalidInput, PaymentFailed
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PaymentState, PayMode
from agentnexus.devnet.solana.accounts import USDC_MINT, fee_mint_keypair, solana_accounts
from agentnexus.devnet.solana.engine import Chain, Pace
from agentnexus.devnet.solana.genesis import mint_tokens, prepare
from agentnexus.devnet.solana.methods import Dispatcher
from agentnexus.devnet.solana.rpc_errors import RpcError
from agentnexus.platform.database import Database
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import TOKEN_2022_PROGRAM, TOKEN_PROGRAM, associated_address
from agentnexus.rails.solana.rpc import RpcValue, SolanaRpc
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.tokens import read_token_account
from agentnexus.rails.solana.transfers import TransferPlanner
from agentnexus.rails.solana.wallet import SolanaRail

BUYER, SELLER = solana_accounts()["buyer"], solana_accounts()["seller-1"]
FEE_MINT = fee_mint_keypair().pubkey()
FEE_TOKEN = DEVNET.token(FEE_MINT, symbol="FEE")


class LocalNode(SolanaRpc):
    """A chain in this process, asked without HTTP."""

    def __init__(self, chain: Chain) -> None:
        super().__init__("http://127.0.0.1:1")
        self.chain = chain
        self.dispatcher = Dispatcher(chain)
        self.asked: list[str] = []

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        self.asked.append(method)
        try:
            return self.dispatcher.call(method, list(parameters))
        except RpcError as error:
            raise NodeError(method, error.code, error.message, error.data) from error


@pytest.fixture
def node() -> Iterator[LocalNode]:
    chain = Chain(pace=Pace(slot_milliseconds=0))
    prepare(chain)
    yield LocalNode(chain)
    chain.close()


@pytest.fixture
def planner(node: LocalNode) -> TransferPlanner:
    return TransferPlanner(node, DEVNET, BUYER.public_key, BUYER.public_key)


def change(node: LocalNode, address: Pubkey, at: int, data: bytes) -> None:
    """Overwrite some bytes of an account."""
    account = node.chain.account(address)
    assert account is not None
    changed = account.data[:at] + data + account.data[at + len(data) :]
    node.chain.set_account(address, Account(account.lamports, changed, account.owner))


async def test_a_plan_for_a_known_payee_is_one_transfer_and_no_rent(planner: TransferPlanner) -> None:
    plan = await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))
    assert (len(plan.instructions), plan.rent_lamports, plan.mint) == (1, 0, USDC_MINT)
    assert plan.destination == associated_address(SELLER.public_key, USDC_MINT)


async def test_a_plan_for_a_new_payee_makes_the_account_and_names_its_rent(
    planner: TransferPlanner, node: LocalNode
) -> None:
    plan = await planner.plan(str(Keypair().pubkey()), Money(DEVNET.usdc, 5))
    assert (len(plan.instructions), plan.rent_lamports) == (2, node.chain.rent(165))
    with_fee = await planner.plan(str(Keypair().pubkey()), Money(FEE_TOKEN, 5))
    assert with_fee.rent_lamports == node.chain.rent(182)


async def test_after_the_first_a_plan_asks_the_node_once(planner: TransferPlanner, node: LocalNode) -> None:
    await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))
    node.asked.clear()
    await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))
    assert node.asked == ["getMultipleAccounts"]


async def test_a_token_account_that_was_given_away_is_not_paid_into(planner: TransferPlanner, node: LocalNode) -> None:
    """The owner of an associated account of the old program can hand it to somebody else."""
    home = associated_address(SELLER.public_key, USDC_MINT)
    change(node, home, 32, bytes(Keypair().pubkey()))
    with pytest.raises(InvalidInput, match="belongs to somebody else"):
        await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))


async def test_an_account_at_the_payees_place_that_is_no_token_account_is_not_paid_into(
    planner: TransferPlanner, node: LocalNode
) -> None:
    payee = Keypair().pubkey()
    node.chain.set_account(associated_address(payee, USDC_MINT), Account(10**9, bytes(165), TOKEN_PROGRAM))
    with pytest.raises(InvalidInput, match="belongs to somebody else"):
        await planner.plan(str(payee), Money(DEVNET.usdc, 5))


async def test_a_frozen_account_of_the_payee_is_known_before_anything_is_signed(
    node: LocalNode, database: Database
) -> None:
    home = associated_address(SELLER.public_key, USDC_MINT)
    change(node, home, 108, b"\x02")
    held = node.chain.account(home)
    assert held is not None
    account = read_token_account(held.owner, held.data)
    assert account is not None
    assert account.state == "frozen"
    rail = SolanaRail(TransactionSender(database, node, DEVNET), BUYER.signer)
    with pytest.raises(PaymentFailed, match="would fail"):
        await rail.send(request(SELLER.address, 5), "k1")
    assert "sendTransaction" not in node.asked


async def test_the_fee_of_the_epoch_counts(planner: TransferPlanner, node: LocalNode, database: Database) -> None:
    """The mint's owner announced a higher fee for a later epoch: today's is taken today, and exactly."""
    mint = node.chain.account(FEE_MINT)
    assert mint is not None
    change(node, FEE_MINT, 166 + 4 + 90, struct.pack("<QQH", 5, 10**6, 5_000))
    rail = SolanaRail(TransactionSender(database, node, DEVNET), BUYER.signer)
    before = (await rail.balance(FEE_TOKEN)).atomic
    payment = await rail.send(request(SELLER.address, 1_000, FEE_TOKEN), "k1")
    assert payment.state is PaymentState.CONFIRMED
    assert before - (await rail.balance(FEE_TOKEN)).atomic == 1_011
    assert "getEpochInfo" in node.asked


async def test_a_gross_amount_beyond_the_wallet_is_too_little(planner: TransferPlanner) -> None:
    everything = (await planner.balance(FEE_TOKEN)).atomic
    with pytest.raises(InsufficientFunds):
        await planner.plan(SELLER.address, Money(FEE_TOKEN, everything))
    assert await planner.plan(SELLER.address, Money(FEE_TOKEN, everything), need_funds=False)


async def test_a_token_nobody_may_pass_on_is_refused_before_anything_is_paid(
    planner: TransferPlanner, node: LocalNode
) -> None:
    mint = Keypair().pubkey()
    plain = struct.pack("<I32sQBBI32s", 1, bytes(BUYER.public_key), 0, 6, 1, 0, bytes(32))
    extension = struct.pack("<HH", 9, 0)
    node.chain.set_account(mint, Account(10**9, plain + bytes(83) + b"\x01" + extension, TOKEN_2022_PROGRAM))
    with pytest.raises(InvalidInput, match="non-transferable"):
        await planner.plan(SELLER.address, Money(DEVNET.token(mint), 5))


async def test_an_asset_that_is_a_wallet_or_a_token_account_is_no_token(planner: TransferPlanner) -> None:
    for address in (SELLER.public_key, associated_address(SELLER.public_key, USDC_MINT)):
        with pytest.raises(InvalidInput, match="is not a token"):
            await planner.balance(DEVNET.token(address))


async def test_a_mint_that_changes_its_decimals_is_noticed_at_the_next_payment(
    planner: TransferPlanner, node: LocalNode
) -> None:
    """Only the program of a token is remembered."""
    await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))
    change(node, USDC_MINT, 44, b"\x02")
    with pytest.raises(InvalidInput, match="has 2 decimals, not 6"):
        await planner.plan(SELLER.address, Money(DEVNET.usdc, 5))


async def test_a_wallet_without_a_token_account_has_zero_and_can_be_paid(node: LocalNode, database: Database) -> None:
    fresh = Keypair().pubkey()
    empty = TransferPlanner(node, DEVNET, fresh, BUYER.public_key)
    assert await empty.balance(DEVNET.usdc) == Money(DEVNET.usdc, 0)
    assert await empty.balance(DEVNET.native) == Money(DEVNET.native, 0)
    rail = SolanaRail(TransactionSender(database, node, DEVNET), BUYER.signer)
    await rail.send(request(str(fresh), 123), "k1")
    assert await empty.balance(DEVNET.usdc) == Money(DEVNET.usdc, 123)


async def test_the_whole_balance_can_be_paid(node: LocalNode, database: Database) -> None:
    owner = Keypair()
    mint_tokens(node.chain, owner.pubkey(), USDC_MINT, 777)
    rail = SolanaRail(
        TransactionSender(database, node, DEVNET),
        solana_signer(owner),
        fee_payer=BUYER.signer,
    )
    await rail.send(request(SELLER.address, 777), "k1")
    assert await rail.balance(DEVNET.usdc) == Money(DEVNET.usdc, 0)


@pytest.mark.parametrize(
    "answer", [None, 5, {}, {"value": None}, {"value": []}, {"value": [5, 6, 7]}, {"value": [{"owner": "x"}]}]
)
async def test_accounts_that_cannot_be_read_are_the_nodes_fault(answer: RpcValue) -> None:
    class Odd(SolanaRpc):
        async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
            return answer

    async with Odd("http://127.0.0.1:1") as rpc:
        planner = TransferPlanner(rpc, DEVNET, BUYER.public_key, BUYER.public_key)
        with pytest.raises(ClusterUnavailable):
            await planner.balance(DEVNET.native)


def request(payee: str, atomic: int, asset: Asset = DEVNET.usdc) -> PaymentRequest:
    return PaymentRequest(
        rail="solana", amount=Money(asset, atomic), payee=payee, mode=PayMode.PAY, reference={}, binding="job:1"
    )


def solana_signer(keypair: Keypair) -> LocalSigner:
    return replace(BUYER, keypair=keypair).signer
