"""Other people's software against ours: solana-py in both directions, and the official x402 classes unmodified."""

from __future__ import annotations

import asyncio
import json
import struct
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import websockets
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import TokenAccountOpts, TxOpts
from solana.rpc.websocket_api import connect
from solders.account_decoder import UiTokenAmount
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.rpc.config import RpcTransactionLogsFilterMentions
from solders.rpc.responses import (
    AccountNotification,
    LogsNotification,
    SendTransactionPreflightFailureMessage,
    SignatureNotification,
    SlotNotification,
)
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import (
    create_idempotent_associated_token_account,
    get_associated_token_address,
    transfer_checked,
)
from spl.token.models import TransferCheckedParams
from tests.solana.conftest import Desk, Wallet, funded_wallet, new_wallet

from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentState
from agentnexus.devnet.solana.accounts import USDC_MINT
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.rails.solana.deposits import DepositVerifier
from agentnexus.rails.solana.networks import DEVNET, MAINNET, NETWORKS
from agentnexus.rails.solana.programs import (
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    Token,
    associated_address,
    compute_unit_limit,
    compute_unit_price,
    create_associated_account,
    memo,
    transfer_sol,
    transfer_tokens,
)

if TYPE_CHECKING:
    from x402.schemas import SettleResponse

pytestmark = pytest.mark.peer


# The official classes never close their connections.
leaky = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def peer(solana: SolanaDevelopmentChain) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(solana.rpc_url) as client:
        yield client


async def transfer_of_theirs(peer: AsyncClient, payer: Wallet, payee: Pubkey, atomic: int) -> VersionedTransaction:
    """Built by spl.token's own helpers."""
    source, target = (get_associated_token_address(each, USDC_MINT) for each in (payer.key, payee))
    instructions = [
        create_idempotent_associated_token_account(payer.key, payee, USDC_MINT),
        transfer_checked(
            TransferCheckedParams(
                program_id=TOKEN_PROGRAM_ID,
                source=source,
                mint=USDC_MINT,
                dest=target,
                owner=payer.key,
                amount=atomic,
                decimals=6,
            )
        ),
    ]
    latest = (await peer.get_latest_blockhash()).value
    message = MessageV0.try_compile(payer.key, instructions, [], latest.blockhash)
    return VersionedTransaction(message, [payer.keypair])


async def test_solana_py_reads_what_our_rail_sent(desk: Desk, peer: AsyncClient) -> None:
    payment = await desk.rail.send(desk.request(12_345), "k1")
    signature = Signature.from_string(str(payment.evidence["transaction"]))
    confirmed = await peer.confirm_transaction(signature, Confirmed)
    status = confirmed.value[0]
    assert status is not None
    assert (status.err, status.confirmation_status) == (None, TransactionConfirmationStatus.Confirmed)
    found = await peer.get_transaction(signature, "jsonParsed", Confirmed, 0)
    assert found.value is not None
    meta = found.value.transaction.meta
    assert meta is not None
    assert meta.err is None
    after = {str(each.owner): each.ui_token_amount for each in meta.post_token_balances or ()}
    assert after[desk.payee.address] == UiTokenAmount(0.012345, 6, "12345", "0.012345")
    account = get_associated_token_address(desk.payee.key, USDC_MINT)
    assert (await peer.get_token_account_balance(account, Confirmed)).value.amount == "12345"


async def test_our_verifier_reads_what_solana_py_sent(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    user, treasury = await funded_wallet(solana), new_wallet()
    transaction = await transfer_of_theirs(peer, user, treasury.key, 77_000)
    sent = await peer.send_transaction(transaction)
    await solana.advance(40)
    verifier = DepositVerifier(solana.rpc, solana.network, treasury.address, [solana.usdc])
    found = await verifier.verify_deposit(str(sent.value), sender=user.address)
    assert found.amount == Money(solana.usdc, 77_000)


async def test_solana_py_sends_simulates_and_waits(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    user, payee = await funded_wallet(solana), new_wallet()
    transaction = await transfer_of_theirs(peer, user, payee.key, 1_000)
    simulated = await peer.simulate_transaction(transaction, sig_verify=True)
    assert simulated.value.err is None
    options = TxOpts(skip_preflight=False, preflight_commitment=Processed)
    sent = await peer.send_raw_transaction(bytes(transaction), options)
    await solana.advance(40)
    statuses = await peer.confirm_transaction(sent.value, Finalized)
    assert statuses.value[0] is not None
    with pytest.raises(RPCException) as caught:
        await peer.send_transaction(transaction)
    failure = caught.value.args[0]
    assert isinstance(failure, SendTransactionPreflightFailureMessage)
    assert "already been processed" in failure.message


async def test_every_read_of_solana_py_is_understood(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    user = await funded_wallet(solana)
    assert (await peer.get_balance(user.key)).value > 0
    assert (await peer.get_account_info(user.key)).value is not None
    assert (await peer.get_account_info(Keypair().pubkey())).value is None
    mint = (await peer.get_account_info_json_parsed(USDC_MINT)).value
    assert mint is not None
    assert mint.data.parsed["info"]["decimals"] == 6
    many = (await peer.get_multiple_accounts([user.key, Keypair().pubkey(), USDC_MINT])).value
    assert [each is None for each in many] == [False, True, False]
    assert (await peer.get_token_supply(USDC_MINT)).value.decimals == 6
    assert (await peer.get_minimum_balance_for_rent_exemption(165)).value == 2_039_280
    assert (await peer.get_genesis_hash()).value == (await peer.get_genesis_hash()).value
    assert str((await peer.get_genesis_hash()).value) == DEVNET.genesis_hash
    assert (await peer.get_version()).value.solana_core
    assert await peer.is_connected()
    slot = (await peer.get_slot(Processed)).value
    assert slot >= (await peer.get_block_height(Processed)).value > 0
    assert (await peer.get_block_time(slot)).value
    assert (await peer.get_epoch_info()).value.slots_in_epoch == 432_000
    latest = (await peer.get_latest_blockhash()).value
    message = MessageV0.try_compile(user.key, [transfer_sol(user.key, USDC_MINT, 1)], [], latest.blockhash)
    assert (await peer.get_fee_for_message(message)).value == 5_000
    signatures = (await peer.get_signatures_for_address(user.key, limit=5, commitment=Confirmed)).value
    assert len(signatures) == 2


async def test_token_accounts_are_listed_by_owner(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    user = await funded_wallet(solana)
    await solana.mint(user.key, 5, solana.fee_token)
    by_mint = await peer.get_token_accounts_by_owner(user.key, TokenAccountOpts(mint=USDC_MINT))
    by_program = await peer.get_token_accounts_by_owner_json_parsed(
        user.key, TokenAccountOpts(program_id=TOKEN_2022_PROGRAM)
    )
    assert [each.pubkey for each in by_mint.value] == [get_associated_token_address(user.key, USDC_MINT)]
    (account,) = by_program.value
    assert account.account.data.parsed["info"]["tokenAmount"]["amount"] == "5"


async def test_websocket_subscriptions_of_solana_py(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    user, payee = await funded_wallet(solana), new_wallet()
    transaction = await transfer_of_theirs(peer, user, payee.key, 1_000)
    async with connect(solana.websocket_url) as socket, asyncio.timeout(20):
        await socket.signature_subscribe(transaction.signatures[0], Confirmed)
        await socket.recv()
        await socket.account_subscribe(user.key, Confirmed, "base64")
        await socket.recv()
        await socket.logs_subscribe(RpcTransactionLogsFilterMentions(payee.key), Confirmed)
        await socket.recv()
        await socket.slot_subscribe()
        (slots,) = await socket.recv()
        await peer.send_transaction(transaction)
        wanted = {SignatureNotification, AccountNotification, LogsNotification, SlotNotification}
        while wanted:
            for notification in await socket.recv():
                wanted.discard(type(notification))
                if isinstance(notification, SignatureNotification):
                    assert notification.result.value.err is None
                if isinstance(notification, LogsNotification):
                    assert notification.result.value.signature == transaction.signatures[0]
        await socket.slot_unsubscribe(slots.result)


async def test_a_signature_subscription_tells_of_a_failure(solana: SolanaDevelopmentChain, peer: AsyncClient) -> None:
    """Read as text: solders cannot parse a program's own error here, from any cluster."""
    user, payee = await funded_wallet(solana), await funded_wallet(solana)
    transaction = await transfer_of_theirs(peer, user, payee.key, 1_000)
    signature = str(transaction.signatures[0])
    await solana.fault(Fault.FAIL_ON_CHAIN)
    async with websockets.connect(solana.websocket_url) as socket, asyncio.timeout(20):
        request = {"id": 1, "method": "signatureSubscribe", "params": [signature, {"commitment": "confirmed"}]}
        await socket.send(json.dumps(request))
        assert "result" in json.loads(await socket.recv())
        await peer.send_raw_transaction(bytes(transaction), TxOpts(skip_preflight=True))
        notification = json.loads(await socket.recv())
    assert notification["params"]["result"]["value"] == {"err": {"InstructionError": [1, {"Custom": 1}]}}


def test_our_instructions_are_the_ones_other_tools_build() -> None:
    payer, payee = Keypair().pubkey(), Keypair().pubkey()
    token = Token(USDC_MINT, 6, TOKEN_PROGRAM)
    assert associated_address(payer, USDC_MINT) == get_associated_token_address(payer, USDC_MINT)
    theirs = transfer_checked(
        TransferCheckedParams(
            program_id=TOKEN_PROGRAM_ID,
            source=token.account_of(payer),
            mint=USDC_MINT,
            dest=token.account_of(payee),
            owner=payer,
            amount=2**63,
            decimals=6,
        )
    )
    assert transfer_tokens(payer, token.account_of(payee), 2**63, token) == theirs
    ours = create_associated_account(payer, payee, USDC_MINT, TOKEN_PROGRAM)
    assert ours == create_idempotent_associated_token_account(payer, payee, USDC_MINT)


def test_our_instructions_are_the_ones_solders_builds() -> None:
    from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
    from solders.system_program import TransferParams, transfer

    payer, payee = Keypair().pubkey(), Keypair().pubkey()
    assert compute_unit_limit(123_456) == set_compute_unit_limit(123_456)
    assert compute_unit_price(2**40) == set_compute_unit_price(2**40)
    params = TransferParams(from_pubkey=payer, to_pubkey=payee, lamports=2**60)
    assert transfer_sol(payer, payee, 2**60) == transfer(params)
    assert bytes(memo("hé".encode()).data) == "hé".encode()
    assert struct.unpack("<BQB", bytes(transfer_tokens(payer, payee, 5, Token(USDC_MINT, 6)).data)) == (12, 5, 6)


@leaky
async def test_the_official_x402_client_pays_through_the_official_facilitator(solana: SolanaDevelopmentChain) -> None:
    payer, payee, relayer = await funded_wallet(solana), await funded_wallet(solana), await funded_wallet(solana)
    settled, again = await asyncio.to_thread(official_payment, solana, payer, payee, relayer)
    assert settled.success
    assert not again.success
    assert again.error_reason == "transaction_simulation_failed"
    assert await solana.tokens_of(payee.key) == 5_001_000


@leaky
async def test_the_official_facilitator_calls_a_failed_payment_settled_and_our_rail_does_not(desk: Desk) -> None:
    """The difference this rail exists for: the chain's own status, read in the right order."""
    solana = desk.chain
    payer, payee, relayer = await funded_wallet(solana), await funded_wallet(solana), await funded_wallet(solana)
    await solana.fault(Fault.FAIL_ON_CHAIN)
    settled, _ = await asyncio.to_thread(official_payment, solana, payer, payee, relayer)
    assert settled.success  # what the official signer says
    assert await solana.tokens_of(payee.key) == 5_000_000  # what happened
    await desk.rail.send(desk.request(1), "account")
    await solana.fault(Fault.FAIL_ON_CHAIN)
    with pytest.raises(Exception, match="failed on the chain"):
        await desk.rail.send(desk.request(1_000), "k1")
    assert (await desk.rail.send(desk.request(1_000), "k2")).state is PaymentState.CONFIRMED


def official_payment(
    chain: SolanaDevelopmentChain, payer: Wallet, payee: Wallet, relayer: Wallet
) -> tuple[SettleResponse, SettleResponse]:
    """One payment by the official classes, settled twice."""
    from x402.mechanisms.svm.exact import register_exact_svm_client, register_exact_svm_facilitator
    from x402.mechanisms.svm.signers import FacilitatorKeypairSigner, KeypairSigner
    from x402.schemas import PaymentRequired, PaymentRequirements, ResourceInfo

    from x402 import x402ClientSync, x402FacilitatorSync

    requirement = PaymentRequirements(
        scheme="exact",
        network=DEVNET.caip2,
        amount="1000",
        asset=str(USDC_MINT),
        pay_to=payee.address,
        max_timeout_seconds=60,
        extra={"feePayer": relayer.address},
    )
    required = PaymentRequired(
        x402_version=2, resource=ResourceInfo(url="https://seller.example/work"), accepts=[requirement]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they use a client of solana-py that is on its way out
        client = x402ClientSync()
        register_exact_svm_client(client, KeypairSigner(payer.keypair), networks=DEVNET.caip2, rpc_url=chain.rpc_url)
        facilitator = x402FacilitatorSync()
        signer = FacilitatorKeypairSigner([relayer.keypair], rpc_url=chain.rpc_url)
        register_exact_svm_facilitator(facilitator, signer, [DEVNET.caip2])
        payload = client.create_payment_payload(required)
        assert facilitator.verify(payload, requirement).is_valid
        return facilitator.settle(payload, requirement), facilitator.settle(payload, requirement)


def test_networks_and_their_money_are_the_official_ones() -> None:
    from x402.mechanisms.svm.constants import NETWORK_CONFIGS, USDC_DEVNET_ADDRESS, USDC_MAINNET_ADDRESS

    assert {network.caip2 for network in NETWORKS} == set(NETWORK_CONFIGS)
    assert (MAINNET.usdc_mint, DEVNET.usdc_mint) == (USDC_MAINNET_ADDRESS, USDC_DEVNET_ADDRESS)
