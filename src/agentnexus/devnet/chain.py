"""The development chain: an anvil process with USDC deployed and the named accounts funded."""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.devnet.accounts import ACCOUNT_NAMES, DevelopmentAccount, development_accounts
from agentnexus.platform.process import die_with_parent, free_port, wait_until_ready
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.encoding import keccak, quantity, rlp, selector, to_hex, word
from agentnexus.rails.evm.errors import ChainUnavailable
from agentnexus.rails.evm.networks import NETWORKS, Network
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_int
from agentnexus.rails.evm.signer import DEVELOPMENT_MNEMONIC

CHAIN_ID = 31337
WHOLE_USDC = 1_000_000
START_BALANCE_USDC = 10_000 * WHOLE_USDC
# A killed node loses at most this much of the chain that the books refer to.
STATE_INTERVAL_SECONDS = 2
_LOOKS_BEFORE_MINING = 50
_START_TIMEOUT_SECONDS = 20.0
_STOP_TIMEOUT_SECONDS = 10.0
_GAS_MAX = 8_000_000  # EntryPoint alone takes five
_UNFUNDED = {"deployer", "relayer", "outsider"}


def find_anvil() -> Path:
    """The anvil binary: ``NEXUS_ANVIL``, the npm package of this platform, or the PATH. Raises `Unavailable`."""
    named = os.environ.get("NEXUS_ANVIL")
    if named:
        return Path(named)
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    package = f"node_modules/@foundry-rs/anvil-{platform.system().lower()}-{machine}/bin/anvil"
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        if (root / package).is_file():
            return root / package
    on_path = shutil.which("anvil")
    if on_path:
        return Path(on_path)
    raise Unavailable(
        "anvil, the development chain, is not installed",
        next_step="run `npm ci` in the project folder (Linux), or install Foundry 1.7 and set NEXUS_ANVIL to its anvil",
    )


def usdc_address() -> str:
    """Where USDC is on every development chain: the deployer's first contract, whatever its code."""
    deployer = development_accounts()["deployer"].address
    return to_hex(keccak(rlp([bytes.fromhex(deployer[2:]), 0]))[12:])


class DevelopmentChain:
    """A running chain. ``async with DevelopmentChain(...) as chain`` starts and stops it.

    Args:
        port: where to listen on 127.0.0.1; a free one when None.
        state: file that keeps the chain between runs, so that the books and the chain stay one story.
        log: file for the node's output.
        block_seconds: fixed block time; a block per transaction when None.
    """

    chain_id = CHAIN_ID

    def __init__(
        self,
        *,
        port: int | None = None,
        state: Path | None = None,
        log: Path | None = None,
        block_seconds: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.rpc_url = f"http://127.0.0.1:{self.port}"
        self.rpc = Rpc(self.rpc_url)
        self._state = state
        self._log = log
        self._block_seconds = block_seconds
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            await self.rpc.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.rpc.close()

    @property
    def network(self) -> Network:
        return NETWORKS[CHAIN_ID]

    @property
    def usdc(self) -> Asset:
        return self.network.token(usdc_address())

    @property
    def accounts(self) -> Mapping[str, DevelopmentAccount]:
        return development_accounts()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def describe(self) -> dict[str, object]:
        """What a program needs to use this chain; the development keys are public, so they are in it."""
        return {
            "rpc_url": self.rpc_url,
            "chain_id": CHAIN_ID,
            "network": self.network.caip2,
            "usdc": usdc_address(),
            "accounts": {
                account.name: {"address": account.checksum_address, "private_key": account.private_key}
                for account in self.accounts.values()
            },
        }

    async def start(self) -> None:
        """Start the node and, on a fresh chain, deploy and fund. Raises `Unavailable` when it does not come up."""
        binary = find_anvil()
        output = self._log.open("ab") if self._log else None
        try:
            self._process = await asyncio.create_subprocess_exec(
                binary,
                *self._arguments(),
                stdin=DEVNULL,
                stdout=output or DEVNULL,
                stderr=output or DEVNULL,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGINT, parent=os.getpid()),
            )
        finally:
            if output:
                output.close()
        await wait_until_ready(
            self._answers, what="the development chain (anvil)", timeout_seconds=_START_TIMEOUT_SECONDS
        )
        if self._state:
            await self.rpc.call("evm_setTime", int(time.time()))  # its clock began at the first block's time
        await self._prepare()

    async def ended(self) -> None:
        """Wait until the node ends by itself or is killed."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """End the node so that it writes its state file."""
        await self._end(signal.SIGINT)

    async def kill(self) -> None:
        """End the node as a power cut would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop and start on the same port; the chain goes on only with a state file."""
        await self.stop()
        await self.start()

    async def snapshot(self) -> str:
        return str(await self.rpc.call("evm_snapshot"))

    async def revert(self, snapshot: str) -> None:
        """Back to a snapshot, which is used up by that; only the clock goes on from now."""
        await self.rpc.call("evm_revert", snapshot)
        await self.rpc.call("evm_setTime", int(time.time()))

    async def mine(self, blocks: int = 1) -> None:
        await self.rpc.call("anvil_mine", hex(blocks))

    async def automine(self, enabled: bool) -> None:
        await self.rpc.call("evm_setAutomine", enabled)

    async def set_next_block_time(self, unix_seconds: int) -> None:
        await self.rpc.call("evm_setNextBlockTimestamp", unix_seconds)

    async def mint(self, to: str, atomic: int) -> None:
        """Give an address development USDC."""
        await self._send_all([self._mint_call(to, atomic)])

    async def usdc_of(self, account: str) -> int:
        """Atomic USDC at an address."""
        data = await self.rpc.read_contract(usdc_address(), selector("balanceOf(address)") + word(account))
        return int.from_bytes(data, "big")

    async def deploy(self, bytecode: bytes) -> str:
        """Put a contract on the chain from the deployer's account; its address."""
        (receipt,) = await self._send_all([self._from_deployer(data=to_hex(bytecode))])
        return str(receipt["contractAddress"])

    def _arguments(self) -> list[str]:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--chain-id", str(CHAIN_ID), "--quiet"]
        arguments += ["--no-cors"]  # or any web page that is open on this machine may reset the chain
        arguments += ["--mnemonic", DEVELOPMENT_MNEMONIC, "--accounts", str(len(ACCOUNT_NAMES)), "--threads", "2"]
        if self._block_seconds:
            arguments += ["--block-time", str(self._block_seconds)]
        if self._state:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            arguments += ["--timestamp", str(self._genesis_time(self._state))]
            arguments += ["--state", str(self._state), "--state-interval", str(STATE_INTERVAL_SECONDS)]
        return arguments

    def _genesis_time(self, state: Path) -> int:
        """The same at every start on one state file: with another first block it would be another chain."""
        kept = state.with_suffix(".genesis")
        if not (state.exists() and kept.exists()):
            kept.write_text(str(int(time.time())), encoding="ascii")
        return int(kept.read_text(encoding="ascii"))

    async def _answers(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise Unavailable(
                f"anvil ended at once on port {self.port}",
                next_step="see its log; another program may hold the port, or the state file may be damaged",
            )
        if not _listens(self._process.pid, self.port):
            return False  # what answers there may be somebody else's chain
        try:
            return await self.rpc.chain_id() == CHAIN_ID
        except ChainUnavailable:
            return False

    async def _prepare(self) -> None:
        code = await self.rpc.call("eth_getCode", usdc_address(), "latest")
        if code != "0x":
            return
        deployer = self.accounts["deployer"].address
        creation = load_artifact("TestUSDC").bytecode + word(deployer)
        mints = [
            self._mint_call(account.address, START_BALANCE_USDC)
            for account in self.accounts.values()
            if account.name not in _UNFUNDED
        ]
        transactions = [self._from_deployer(data=to_hex(creation)), *mints]
        for nonce, transaction in enumerate(transactions):
            transaction["nonce"] = hex(nonce)
        await self._send_all(transactions)

    def _mint_call(self, to: str, atomic: int) -> dict[str, RpcValue]:
        data = selector("mint(address,uint256)") + word(to) + word(atomic)
        return self._from_deployer(to=usdc_address(), data=to_hex(data))

    def _from_deployer(self, **fields: RpcValue) -> dict[str, RpcValue]:
        return {"from": self.accounts["deployer"].address, "gas": hex(_GAS_MAX), **fields}

    async def _send_all(self, transactions: Sequence[dict[str, RpcValue]]) -> list[dict[str, RpcValue]]:
        """Send from the node's own unlocked accounts and wait until every one is mined."""
        hashes = await self.rpc.batch([Call("eth_sendTransaction", (transaction,)) for transaction in transactions])
        for answer in hashes:
            call_int(answer)
        receipts: list[dict[str, RpcValue]] = []

        looks = itertools.count(1)

        async def mined() -> bool:
            answers = await self.rpc.batch([Call("eth_getTransactionReceipt", (str(each),)) for each in hashes])
            receipts[:] = [answer for answer in answers if isinstance(answer, dict)]
            if len(receipts) < len(hashes) and next(looks) % _LOOKS_BEFORE_MINING == 0:
                await self.rpc.call("evm_mine")  # anvil now and then leaves one of a batch in its pool, ready
            return len(receipts) == len(hashes)

        await wait_until_ready(mined, what="a transaction of the development chain", timeout_seconds=30)
        failed = [receipt for receipt in receipts if quantity(receipt["status"]) != 1]
        if failed:
            raise Unavailable("a transaction that sets up the development chain failed")
        return receipts

    async def _end(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(sign)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _listens(pid: int, port: int) -> bool:
    """Whether that process has the port, or one that it started."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        sockets = [each for member in family for each in member.net_connections("tcp")]
    except psutil.NoSuchProcess:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)
