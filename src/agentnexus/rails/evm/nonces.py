"""Transaction nonces of our addresses: gapless and never given twice, across tasks, processes and crashes.

A nonce is taken under a row lock inside the same database transaction that stores the signed bytes which use it. So a
nonce without stored bytes cannot exist: a failure before the commit gives it back by itself, and after the commit
anybody can send those bytes again.
"""

from __future__ import annotations

from agentnexus.core.errors import Conflict
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.errors import WrongNetwork
from agentnexus.rails.evm.networks import Network, NetworkKind
from agentnexus.rails.evm.rpc import Call, Rpc, call_int, call_object


class NonceManager:
    """Nonces on one network, kept in ``evm.sender``."""

    def __init__(self, database: Database, rpc: Rpc, network: Network) -> None:
        self._database = database
        self._rpc = rpc
        self._network = network
        self._known: set[str] = set()

    async def prepare(self, address: str) -> None:
        """Make sure the address has its row, starting from the chain's own count. Once per address and process."""
        if address in self._known:
            return
        await self._check_chain()
        count = await self._rpc.read_int("eth_getTransactionCount", address, "pending")
        async with self._database.connection() as connection:
            await connection.execute(
                "insert into evm.sender (network, address, next_nonce) values ($1, $2, $3) on conflict do nothing",
                self._network.caip2,
                address,
                count,
            )
        self._known.add(address)

    async def take(self, connection: Connection, address: str) -> int:
        """The next nonce, inside the caller's transaction; freed ones first. Call `prepare` before."""
        nonce: int | None = await connection.fetchval(
            "update evm.sender set next_nonce = next_nonce + 1"
            " where network = $1 and address = $2 and free_nonces = '{}' returning next_nonce - 1",
            self._network.caip2,
            address,
        )
        return await self._take_freed(connection, address) if nonce is None else nonce

    async def _take_freed(self, connection: Connection, address: str) -> int:
        nonce = await self.first_free(connection, address)
        if nonce is None:
            raise Conflict(f"no nonces are kept for {address}", next_step="call prepare() before take()")
        await connection.execute(
            "update evm.sender set free_nonces = array_remove(free_nonces, $3),"
            " next_nonce = greatest(next_nonce, $3 + 1) where network = $1 and address = $2",
            self._network.caip2,
            address,
            nonce,
        )
        return nonce

    async def first_free(self, connection: Connection, address: str) -> int | None:
        """The lowest nonce given back and not used again, with the address locked."""
        free: list[int] | None = await connection.fetchval(
            "select free_nonces from evm.sender where network = $1 and address = $2 for update",
            self._network.caip2,
            address,
        )
        return min(free) if free else None

    async def give_back(self, connection: Connection, address: str, nonce: int) -> None:
        """A nonce whose transaction the node refused is used by the next one."""
        await connection.execute(
            "update evm.sender set"
            " next_nonce = case when next_nonce = $3 + 1 then $3 else next_nonce end,"
            " free_nonces = case when next_nonce = $3 + 1 then free_nonces else free_nonces || $3::bigint end"
            " where network = $1 and address = $2",
            self._network.caip2,
            address,
            nonce,
        )

    async def skip_to_chain(self, connection: Connection, address: str) -> None:
        """Somebody else used this key: go on from where the chain is."""
        count = await self._rpc.read_int("eth_getTransactionCount", address, "pending")
        await connection.execute(
            "update evm.sender set next_nonce = greatest(next_nonce, $3),"
            " free_nonces = (select coalesce(array_agg(each), '{}') from unnest(free_nonces) each where each >= $3)"
            " where network = $1 and address = $2",
            self._network.caip2,
            address,
            count,
        )

    async def _check_chain(self) -> None:
        genesis = await check_chain(self._rpc, self._network)
        async with self._database.transaction() as connection:
            stored = await connection.fetchval(
                "insert into evm.chain as known (network, genesis_hash) values ($1, $2)"
                " on conflict (network) do update set seen_at = now() returning known.genesis_hash",
                self._network.caip2,
                genesis,
            )
            if stored == genesis:
                return
            if self._network.kind is not NetworkKind.LOCAL:
                raise WrongNetwork(
                    f"the node's {self._network.caip2} is another chain than the books know",
                    next_step="point NEXUS_EVM_RPC_URL at the right chain",
                    genesis=genesis,
                    known=str(stored),
                )
            # A development chain that was started anew: whatever was sent on the old one does not exist here.
            network = self._network.caip2
            await connection.execute("update evm.chain set genesis_hash = $2 where network = $1", network, genesis)
            await connection.execute("delete from evm.sender where network = $1", network)
            await connection.execute(
                "update evm.outgoing set state = 'rejected', error = 'the development chain was started anew'"
                " where network = $1",
                network,
            )


async def check_chain(rpc: Rpc, network: Network) -> str:
    """The node's genesis hash, after checking that its chain id is the network's; raises `WrongNetwork`."""
    answers = await rpc.batch([Call("eth_chainId"), Call("eth_getBlockByNumber", ("0x0", False))])
    chain_id, genesis = call_int(answers[0]), call_object(answers[1])
    if chain_id != network.chain_id:
        raise WrongNetwork(
            f"the node is on chain {chain_id}, not {network.chain_id}",
            next_step="point NEXUS_EVM_RPC_URL at a node of this network",
        )
    return str(genesis["hash"]) if genesis else ""
