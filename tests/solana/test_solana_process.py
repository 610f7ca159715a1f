"""The development chain as a process: its command, its end, its port; subscriptions under load; forged accounts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from tests.solana.conftest import SOL

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.engine import Chain, Pace
from agentnexus.devnet.solana.genesis import execute, give_sol, prepare
from agentnexus.devnet.solana.methods import Dispatcher
from agentnexus.devnet.solana.subscriptions import _QUEUE_MAX, Session
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import transfer_sol
from agentnexus.rails.solana.rpc import SolanaRpc

LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
BUYER = solana_accounts()["buyer"]


async def test_the_command_says_what_it_takes() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.devnet.solana", "--help", stdout=PIPE
    )
    output, _ = await process.communicate()
    for option in (b"--port", b"--state", b"--slot-milliseconds", b"--finality-slots", b"--websocket-port"):
        assert option in output


async def test_the_chain_listens_on_a_second_port_for_websockets_where_other_tools_look() -> None:
    port, second = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agentnexus.devnet.solana",
        "--port",
        str(port),
        "--websocket-port",
        str(second),
        stdout=DEVNULL,
    )

    async def answers() -> bool:
        try:
            async with websockets.connect(f"ws://127.0.0.1:{second}") as socket:
                await socket.send(json.dumps({"id": 1, "method": "getGenesisHash", "params": []}))
                return bool(json.loads(await socket.recv())["result"] == DEVNET.genesis_hash)
        except OSError:
            return False

    await wait_until_ready(answers, what="the chain", timeout_seconds=20)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() in (0, -signal.SIGTERM)


async def test_a_port_that_is_taken_is_said_at_once(solana: SolanaDevelopmentChain) -> None:
    late = SolanaDevelopmentChain(port=solana.port)
    late.rpc = SolanaRpc("http://127.0.0.1:1", retries=0)  # the other one would answer for it
    with pytest.raises(Unavailable, match="ended at once") as caught:
        await late.start()
    assert "port" in caught.value.next_step
    await late.rpc.close()


async def test_the_chain_ends_with_the_process_that_started_it() -> None:
    port = free_port()
    script = (
        "import asyncio, os, signal\n"
        "from agentnexus.devnet.solana.chain import SolanaDevelopmentChain\n"
        "async def main():\n"
        f"    await SolanaDevelopmentChain(port={port}).start()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await parent.wait() == -signal.SIGKILL
    rpc = SolanaRpc(f"http://127.0.0.1:{port}", retries=0)

    async def gone() -> bool:
        try:
            await rpc.call("getHealth")
        except Unavailable:
            return True
        return False

    await wait_until_ready(gone, what="the end of the chain", timeout_seconds=20)
    await rpc.close()


async def test_a_damaged_state_file_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "chain.db").write_text("no database " * 1000)
    chain = SolanaDevelopmentChain(state=tmp_path / "chain.db", log=tmp_path / "chain.log")
    with pytest.raises(Unavailable, match="ended at once"):
        await chain.start()
    await chain.rpc.close()
    assert "state file cannot be used" in (tmp_path / "chain.log").read_text()


async def test_stop_and_restart_go_on_with_the_state(own_solana: SolanaDevelopmentChain) -> None:
    address = Keypair().pubkey()
    await own_solana.airdrop(address, SOL)
    first = own_solana.pid
    await own_solana.restart()
    assert own_solana.pid not in (None, first)
    assert await own_solana.lamports_of(address) == SOL
    assert os.getpid() != own_solana.pid
    ended = asyncio.create_task(own_solana.ended())
    await own_solana.kill()
    async with asyncio.timeout(10):
        await ended


@pytest.fixture
def chain() -> Iterator[Chain]:
    opened = Chain(pace=Pace(slot_milliseconds=0))
    prepare(opened)
    yield opened
    opened.close()


def test_a_chain_without_a_clock_moves_only_by_transactions_and_by_hand(chain: Chain) -> None:
    height, slot = chain.height, chain.slot
    give_sol(chain, Keypair().pubkey(), SOL)
    assert (chain.height, chain.slot) == (height, slot + 1)
    chain.advance(5)
    assert (chain.height, chain.slot) == (height + 5, slot + 6)


def test_the_chains_own_failing_transaction_is_said(chain: Chain) -> None:
    with pytest.raises(Unavailable, match="failed"):
        execute(chain, [transfer_sol(BUYER.public_key, Keypair().pubkey(), 10**18)], [BUYER.keypair])
    empty = Keypair()
    with pytest.raises(Unavailable, match="refuses its own transaction"):
        execute(chain, [transfer_sol(empty.pubkey(), BUYER.public_key, 1)], [empty])


def test_accounts_from_lookup_tables_are_executed_and_listed(chain: Chain) -> None:
    table, payee = Keypair().pubkey(), Keypair().pubkey()
    head = (1).to_bytes(4, "little") + (2**64 - 1).to_bytes(8, "little") + bytes(44)
    chain.set_account(table, Account(SOL, head + bytes(payee), LOOKUP_TABLE_PROGRAM))
    chain.advance(10)
    blockhash, _ = chain.blockhash()
    known = AddressLookupTableAccount(table, [payee])
    message = MessageV0.try_compile(BUYER.public_key, [transfer_sol(BUYER.public_key, payee, SOL)], [known], blockhash)
    assert payee not in message.account_keys
    chain.send(VersionedTransaction(message, [BUYER.keypair]))
    account = chain.account(payee)
    assert account is not None
    assert account.lamports == SOL
    answer = Dispatcher(chain).answer(
        {"id": 1, "method": "getSignaturesForAddress", "params": [str(payee), {"commitment": "confirmed"}]}
    )
    assert len(answer["result"]) == 1  # type: ignore[arg-type]
    shown = Dispatcher(chain).call(
        "getTransaction",
        [
            answer["result"][0]["signature"],  # type: ignore[index,call-overload]
            {"encoding": "jsonParsed", "commitment": "confirmed", "maxSupportedTransactionVersion": 0},
        ],
    )
    keys = shown["transaction"]["message"]["accountKeys"]  # type: ignore[index,call-overload]
    assert {"pubkey": str(payee), "writable": True, "signer": False, "source": "lookupTable"} in keys  # type: ignore[operator]


def test_program_accounts_are_filtered(chain: Chain) -> None:
    dispatcher = Dispatcher(chain)
    owner_at_32 = {"memcmp": {"offset": 32, "bytes": BUYER.address}}
    found = dispatcher.call(
        "getProgramAccounts",
        [
            "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
            {"encoding": "base64", "filters": [{"dataSize": 165}, owner_at_32]},
        ],
    )
    assert isinstance(found, list)
    assert len(found) == 1
    nothing = dispatcher.call(
        "getProgramAccounts",
        ["TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", {"encoding": "base64", "filters": [{"dataSize": 5}]}],
    )
    assert nothing == []


def test_a_subscriber_who_does_not_read_is_cut_off_and_costs_no_more(chain: Chain) -> None:
    session = Session(chain, Dispatcher(chain))
    session.take(json.dumps({"id": 1, "method": "slotSubscribe", "params": []}))
    for _ in range(_QUEUE_MAX // 250 + 5):
        chain.advance(250)
        session.changed()
    assert session.outgoing.full()
    last = None
    while not session.outgoing.empty():
        last = session.outgoing.get_nowait()
    assert last is None  # the sign to close


def test_a_forged_account_that_is_emptied_is_gone(chain: Chain) -> None:
    address = Keypair().pubkey()
    chain.set_account(address, Account(5, b"abc", Pubkey.default()))
    assert chain.account(address) is not None
    chain.set_account(address, Account(0, b"", Pubkey.default()))
    assert chain.account(address) is None
    assert address not in dict(chain.ledger.accounts())
