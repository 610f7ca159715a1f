"""A development chain in a process of its own: start, stop, kill, restart, and its development-only orders."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from solders.pubkey import Pubkey

from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset
from agentnexus.devnet.solana.accounts import USDC_DECIMALS, SolanaAccount, fee_mint_keypair, solana_accounts
from agentnexus.devnet.solana.faults import Fault
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError
from agentnexus.rails.solana.networks import DEVNET, Network
from agentnexus.rails.solana.programs import TOKEN_PROGRAM, associated_address
from agentnexus.rails.solana.rpc import SolanaRpc, mapping, whole

_START_TIMEOUT_SECONDS = 20.0
_STOP_TIMEOUT_SECONDS = 10.0


class SolanaDevelopmentChain:
    """A running chain. ``async with SolanaDevelopmentChain(...) as chain`` starts and stops it.

    Args:
        port: where to listen on 127.0.0.1, for HTTP and websocket; a free one when None.
        state: file that keeps the chain between runs; in memory when None.
        log: file for the server's output.
        slot_milliseconds: the clock's slots; 0 stops the clock, so that only `advance` and transactions move it.
        finality_slots: after how many slots a transaction is final.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        state: Path | None = None,
        log: Path | None = None,
        slot_milliseconds: int = 400,
        finality_slots: int = 32,
    ) -> None:
        self.port = port or free_port()
        self.rpc_url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}"
        self.rpc = SolanaRpc(self.rpc_url)
        self._state = state
        self._log = log
        self._pace = ("--slot-milliseconds", str(slot_milliseconds), "--finality-slots", str(finality_slots))
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.rpc.close()

    @property
    def network(self) -> Network:
        """Devnet: the official clients know no local cluster, so this chain answers with devnet's identity."""
        return DEVNET

    @property
    def usdc(self) -> Asset:
        return DEVNET.usdc

    @property
    def fee_token(self) -> Asset:
        """A Token-2022 token that keeps 1 % of every transfer."""
        return DEVNET.token(fee_mint_keypair().pubkey(), symbol="FEE", decimals=USDC_DECIMALS)

    @property
    def accounts(self) -> Mapping[str, SolanaAccount]:
        return solana_accounts()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server; raises `Unavailable` when it does not come up."""
        arguments = ["--port", str(self.port), *self._pace, "--parent", str(os.getpid())]
        if self._state:
            arguments += ["--state", str(self._state)]
        output = self._log.open("ab") if self._log else None
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agentnexus.devnet.solana",
                *arguments,
                stdin=DEVNULL,
                stdout=output or DEVNULL,
                stderr=output or DEVNULL,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()
        await wait_until_ready(
            self._answers, what="the Solana development chain", timeout_seconds=_START_TIMEOUT_SECONDS
        )

    async def ended(self) -> None:
        """Wait until the server ends by itself or is killed."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the server as a power cut would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop and start on the same port; the chain goes on only with a state file."""
        await self.stop()
        await self.start()

    async def advance(self, slots: int) -> None:
        """Let slots and block heights pass: for finality, and to outdate blockhashes (after 150)."""
        await self.rpc.call("devnet_advanceSlots", slots)

    async def fault(self, fault: Fault, count: int = 1) -> None:
        """Order what shall go wrong with the next sends."""
        await self.rpc.call("devnet_fault", fault, count)

    async def release(self) -> None:
        """Execute and confirm what was held back; forget faults still due."""
        await self.rpc.call("devnet_release")

    async def mint(self, to: Pubkey | str, atomic: int, asset: Asset | None = None) -> str:
        """Give an address development tokens (USDC unless told otherwise); the signature."""
        mint = (asset or self.usdc).reference
        return str(await self.rpc.call("devnet_mint", str(to), mint, atomic))

    async def airdrop(self, to: Pubkey | str, lamports: int) -> str:
        return str(await self.rpc.call("requestAirdrop", str(to), lamports))

    async def tokens_of(self, owner: Pubkey, mint: Pubkey | None = None, program: Pubkey = TOKEN_PROGRAM) -> int:
        """Atomic tokens (USDC unless told otherwise) in an owner's associated account."""
        wanted = mint or Pubkey.from_string(DEVNET.usdc_mint)
        address = str(associated_address(owner, wanted, program))
        try:
            answer = mapping(await self.rpc.value("getTokenAccountBalance", address), "balance")
        except NodeError:  # there is no such account
            return 0
        return int(str(answer["amount"]))

    async def lamports_of(self, address: Pubkey) -> int:
        return whole(await self.rpc.value("getBalance", str(address)), "getBalance")

    async def _answers(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise Unavailable(
                f"the Solana development chain ended at once on port {self.port}",
                next_step="see its log; another program may hold the port, or the state file may be damaged",
            )
        try:
            return await self.rpc.call("getGenesisHash") == DEVNET.genesis_hash
        except ClusterUnavailable:
            return False

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
