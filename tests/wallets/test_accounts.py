"""Making wallets: one per user, whose key it is, what others may not take, and new owners after a recovery."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.devnet.accounts import development_accounts
from agentnexus.platform.sealing import Sealer
from agentnexus.rails.evm.contracts import AccountPlan, Owner
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import signer_from_hex
from agentnexus.wallets.keys import SealedKeys
from agentnexus.wallets.model import OperationState, PasskeyKey, WalletKind
from tests.wallets.conftest import World
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(120)
ALICE, BOB = (development_accounts()[name].address for name in ("alice", "bob"))


async def test_asking_again_gives_the_same_wallet(world: World) -> None:
    wallets = world.wallets()
    made = await wallets.create("ann", WalletKind.SERVER)
    assert await wallets.create("ann", WalletKind.SERVER) == made == await wallets.of("ann")
    key = await wallets.create("ben", WalletKind.KEY, address=ALICE)
    assert await wallets.create("ben", WalletKind.KEY, address=ALICE.upper().replace("0X", "0x")) == key
    passkey = await wallets.create("cat", WalletKind.PASSKEY, passkey=world.passkey("cat"))
    assert await wallets.create("cat", WalletKind.PASSKEY, passkey=world.passkey("cat")) == passkey


async def test_asked_for_by_many_at_once_it_is_one_wallet(world: World) -> None:
    services = [world.wallets() for _ in range(4)]
    made = await asyncio.gather(*(each.create("ann", WalletKind.SERVER) for each in services for _ in range(3)))
    assert len({each.address for each in made}) == 1


async def test_another_kind_or_owner_than_the_wallet_has_is_refused(world: World) -> None:
    wallets = world.wallets()
    made = await wallets.create("ann", WalletKind.SERVER)
    for kind, address in ((WalletKind.KEY, ALICE), (WalletKind.DELEGATED, ALICE)):
        with pytest.raises(Conflict) as refused:
            await wallets.create("ann", kind, address=address)
        assert refused.value.details == {"address": made.address, "kind": "server"}
    await wallets.create("ben", WalletKind.KEY, address=ALICE)
    with pytest.raises(Conflict):
        await wallets.create("ben", WalletKind.KEY, address=BOB)
    with pytest.raises(Conflict):
        await wallets.create("ben", WalletKind.SERVER)


async def test_addresses_are_known_before_anything_is_on_the_chain(world: World) -> None:
    wallets, factory = world.wallets(), world.manifest.factory(world.chain.rpc)
    made = await wallets.create("ann", WalletKind.SERVER)
    assert made.address == await factory.address_of(AccountPlan(made.owner))
    keyed = await wallets.create("ben", WalletKind.KEY, address=ALICE)
    assert keyed.address == await factory.address_of(AccountPlan(Owner(ALICE)))
    own = await wallets.create("cat", WalletKind.DELEGATED, address=BOB)
    assert own.address == BOB
    assert not (await wallets.state("cat")).deployed


NO_OWNERS: list[tuple[WalletKind, str | None, PasskeyKey | None]] = [
    (WalletKind.SERVER, ALICE, None),
    (WalletKind.SERVER, None, PasskeyKey("c", b"")),
    (WalletKind.PASSKEY, None, None),
    (WalletKind.PASSKEY, None, PasskeyKey("c", b"no key")),
    (WalletKind.PASSKEY, None, PasskeyKey("c", b"\x04" + bytes(64))),
    (WalletKind.KEY, None, None),
    (WalletKind.KEY, "0x" + "00" * 20, None),
    (WalletKind.KEY, "alice", None),
    (WalletKind.KEY, ALICE[:-1], None),
    (WalletKind.DELEGATED, "0x" + "00" * 20, None),
    (WalletKind.DELEGATED, None, None),
]


async def test_what_cannot_own_a_wallet_is_refused(world: World) -> None:
    wallets = world.wallets()
    for kind, address, passkey in NO_OWNERS:
        with pytest.raises(InvalidInput):
            await wallets.create("ann", kind, address=address, passkey=passkey)
    with pytest.raises(NotFound):
        await wallets.of("ann")


async def test_a_contract_cannot_become_a_delegated_wallet(world: World) -> None:
    with pytest.raises(InvalidInput, match="is a contract"):
        await world.wallets().create("ann", WalletKind.DELEGATED, address=world.manifest.address("Escrow"))


async def test_whoever_only_names_an_address_loses_it_to_whom_it_belongs(world: World) -> None:
    wallets = world.wallets()
    claimed = await wallets.create("mallory", WalletKind.KEY, address=ALICE)
    assert not claimed.proven
    owner = await world.funded("alice", WalletKind.KEY)
    assert owner.address == claimed.address
    assert await wallets.of("mallory") == claimed
    begun = await world.begin("alice", wallets=wallets)
    request = await wallets.signing_request("alice", begun.id)
    await wallets.sign("alice", begun.id, await answer(world, "alice", request))
    assert (await wallets.of("alice")).proven
    with pytest.raises(NotFound):
        await wallets.of("mallory")
    with pytest.raises(Conflict, match="another user's"):
        await wallets.create("mallory", WalletKind.KEY, address=ALICE)
    # Somebody who signed in with that very key has shown it.
    assert (await wallets.create(ALICE, WalletKind.KEY, address=ALICE)).proven


async def test_whoever_registers_anothers_passkey_as_theirs_loses_the_wallet_to_its_owner(world: World) -> None:
    """Registering takes no signature, and the public key of an account is on the chain."""
    wallets, hers = world.wallets(), world.passkey("pat")
    claimed = await wallets.create("mallory", WalletKind.PASSKEY, passkey=PasskeyKey("made up", hers.public_key))
    assert not claimed.proven
    owner = await world.funded("pat", WalletKind.PASSKEY)
    assert owner.address == claimed.address
    begun = await world.begin("pat", wallets=wallets)
    request = await wallets.signing_request("pat", begun.id)
    await wallets.sign("pat", begun.id, await answer(world, "pat", request))
    assert (await wallets.of("pat")).proven
    with pytest.raises(NotFound):
        await wallets.of("mallory")
    with pytest.raises(Conflict, match="another user's"):
        await wallets.create("mallory", WalletKind.PASSKEY, passkey=PasskeyKey("made up", hers.public_key))


async def test_the_export_opens_the_same_address_and_is_noted(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    assert wallet.exported_at is None
    key = signer_from_hex(await wallets.export("ann"), NetworkKind.LOCAL)
    assert Owner(key.public_id) == wallet.owner
    factory = world.manifest.factory(world.chain.rpc)
    assert await factory.address_of(AccountPlan(Owner(key.public_id))) == wallet.address
    assert (await wallets.of("ann")).exported_at == world.clock.now()


async def test_what_this_node_has_no_key_of_is_not_exported(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    with pytest.raises(Conflict):
        await world.wallets().export("alice")
    with pytest.raises(NotFound):
        await world.wallets().export("nobody")


async def test_keys_are_sealed_in_the_database_and_nowhere_in_logs_or_texts(
    world: World, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wallet = await world.funded("ann")
    wallets = world.wallets()
    done = await wallets.settle((await world.begin("ann", wallets=wallets)).id)
    key = (await wallets.export("ann")).removeprefix("0x")
    rows = [str(dict(row)) for row in await world.database.pool.fetch("select * from wallet.account")]
    rows += [str(dict(row)) for row in await world.database.pool.fetch("select * from wallet.operation")]
    assert any("sealed:" in row for row in rows)
    printed = capsys.readouterr()
    for text in (*rows, repr(wallet), repr(done), repr(wallets.__dict__), caplog.text, printed.out, printed.err):
        assert key not in text


async def test_a_key_sealed_elsewhere_or_for_another_wallet_does_not_open(world: World) -> None:
    entropy = SystemEntropy()
    ours = SealedKeys(Sealer(b"1" * 32, entropy), NetworkKind.LOCAL, entropy)
    others = SealedKeys(Sealer(b"2" * 32, entropy), NetworkKind.LOCAL, entropy)
    address, sealed = ours.make("wal_1")
    assert ours.signer("wal_1", sealed).public_id == address
    for keys, place in ((ours, "wal_2"), (others, "wal_1")):
        with pytest.raises(NotAllowed) as refused:
            keys.signer(place, sealed)
        assert sealed not in str(refused.value.to_json())


async def test_a_lost_sealing_key_is_told_and_nothing_is_begun(world: World) -> None:
    await world.funded("ann")
    (world.home / "sealing-key").unlink()
    wallets = world.wallets()
    with pytest.raises(NotAllowed, match="cannot be opened"):
        await world.begin("ann", wallets=wallets)
    assert await world.database.pool.fetchval("select state from wallet.operation") == OperationState.UNSIGNED
