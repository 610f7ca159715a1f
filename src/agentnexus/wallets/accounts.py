"""Making wallets: which account belongs to which user, whose key owns it, and what is shown of that."""

from __future__ import annotations

from dataclasses import replace

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.ports import Clock, Ids
from agentnexus.platform.logs import log
from agentnexus.rails.evm.contracts.account import Account, AccountPlan, Owner
from agentnexus.rails.evm.delegation import delegate_of
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, address, from_hex
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.userops.passkeys import passkey_owner
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.keys import SealedKeys
from agentnexus.wallets.model import PasskeyKey, Wallet, WalletKind
from agentnexus.wallets.store import WalletStore

# How far back transfers of an account are looked for that may be older than its wallet.
HISTORY_BLOCKS = 100_000


class Accounts:
    """Wallets of one network, by user."""

    def __init__(self, store: WalletStore, chain: WalletChain, keys: SealedKeys, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._chain = chain
        self._keys = keys
        self._clock = clock
        self._ids = ids

    async def of(self, user_id: str) -> Wallet:
        found = await self._store.of_user(user_id)
        if found is None:
            raise NotFound(
                "you have no wallet here yet",
                next_step="make one: on /wallet, by `nexus wallet create` or POST /api/v1/wallet",
            )
        return found

    async def create(
        self, user_id: str, kind: WalletKind, *, passkey: PasskeyKey | None, address: str | None
    ) -> Wallet:
        """See `Wallets.create`."""
        known = await self._store.of_user(user_id)
        if kind is WalletKind.SERVER:
            if passkey or address:
                raise InvalidInput(
                    "this node makes the key of such a wallet itself",
                    field="kind",
                    next_step="name the kind passkey, key or delegated for a key of your own",
                )
            return known if known and known.kind is kind else await self._new(user_id, known)
        wallet, sealed = await self._planned(user_id, kind, passkey, address), None
        if known is not None:
            return await self._same_or_recovered(known, wallet)
        return await self._added(wallet, sealed)

    async def _new(self, user_id: str, known: Wallet | None) -> Wallet:
        """A wallet with a fresh key of this node."""
        if known is not None:
            raise _other_kind(known)
        wallet_id = self._ids.new("wal")
        key, sealed = self._keys.make(wallet_id)
        made = self._wallet(user_id, WalletKind.SERVER, Owner(key), proven=True)
        return await self._added(replace(made, id=wallet_id), sealed)

    async def _planned(self, user_id: str, kind: WalletKind, passkey: PasskeyKey | None, given: str | None) -> Wallet:
        """The wallet as it would be made now."""
        if kind is WalletKind.PASSKEY:
            if passkey is None:
                raise InvalidInput(
                    "which passkey shall own the wallet?", field="credential_id", next_step="register one first"
                )
            owner = passkey_owner(passkey.public_key)
            # Registering a passkey takes no signature, and its public key is on the chain: anybody could name it.
            made = self._wallet(user_id, kind, owner, proven=False)
            return replace(made, credential_id=passkey.credential_id)
        if given is None:
            raise InvalidInput("which key shall own the wallet?", field="address", next_step="send its address")
        key = address(given, field="address")
        if key == ZERO_ADDRESS:
            raise InvalidInput(
                "nobody has the key of the zero address", field="address", next_step="name your key's address"
            )
        owner, proven = Owner(key), user_id == key  # people who signed in with a wallet are called by its address
        if kind is WalletKind.KEY:
            return self._wallet(user_id, kind, owner, proven=proven)
        code = from_hex(await self._chain.rpc.call("eth_getCode", key, "latest"), field="eth_getCode")
        if code and delegate_of(code) is None:
            raise InvalidInput(
                f"{key} is a contract; only the address of a key can run our account's code",
                field="address",
                next_step="name the address of a key, or make another kind of wallet",
            )
        return replace(self._wallet(user_id, kind, owner, proven=proven), address=key)

    async def _added(self, wallet: Wallet, sealed: str | None) -> Wallet:
        if not wallet.proven and await self._store.proven_elsewhere(wallet.address, wallet.user_id):
            raise Conflict(
                f"{wallet.address} is another user's wallet here",
                next_step="sign in with that wallet (EIP-4361) and ask again",
                address=wallet.address,
            )
        local = self._chain.network.kind is NetworkKind.LOCAL
        head = await self._chain.rpc.read_int("eth_blockNumber")
        kept = await self._store.add(wallet, sealed, -1 if local else max(head - HISTORY_BLOCKS, 0))
        if kept.id == wallet.id:
            log.info("wallets.made", wallet=kept.id, kind=str(kept.kind), address=kept.address)
            return kept
        if kept.kind is WalletKind.SERVER and wallet.kind is WalletKind.SERVER:
            return kept  # asked for twice at the same time
        return await self._same_or_recovered(kept, wallet)

    async def _same_or_recovered(self, known: Wallet, wanted: Wallet) -> Wallet:
        if (known.kind, known.owner) == (wanted.kind, wanted.owner):
            return known
        if wanted.kind is not WalletKind.DELEGATED and await self._owner_on_chain(known.address) == wanted.owner:
            log.info("wallets.recovered", wallet=known.id, kind=str(wanted.kind))
            return await self._store.change_owner(known, wanted)
        raise _other_kind(known)

    async def _owner_on_chain(self, account: str) -> Owner | None:
        code = await self._chain.rpc.call("eth_getCode", account, "latest")
        return await Account(self._chain.rpc, account).owner() if code != "0x" else None

    def _wallet(self, user_id: str, kind: WalletKind, owner: Owner, *, proven: bool) -> Wallet:
        """A wallet at the address that the factory gives to this owner."""
        return Wallet(
            id=self._ids.new("wal"),
            user_id=user_id,
            network=self._chain.network.caip2,
            address=AccountPlan(owner).address(self._chain.factory, self._chain.implementation),
            kind=kind,
            owner=owner,
            created_at=self._clock.now(),
            proven=proven,
        )


def _other_kind(known: Wallet) -> Conflict:
    return Conflict(
        f"you have a wallet of the kind {known.kind} here: {known.address}",
        next_step="use that one; a new owner is named by recovery, and the address stays",
        address=known.address,
        kind=str(known.kind),
    )
