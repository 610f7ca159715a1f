"""Wallets that are contracts sign in: deployed, not deployed yet, of a passkey, and keys that have code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.signing_in import account_verifier
from agentnexus.core.clock import SystemClock, SystemEntropy
from agentnexus.core.errors import InvalidInput, NotAllowed, Unavailable
from agentnexus.identity.sites import Site
from agentnexus.identity.tokens import Tokens
from agentnexus.identity.wallets import WalletLogin, personal_digest
from agentnexus.platform.database import Database
from agentnexus.platform.process import free_port
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.contracts import AccountPlan, Owner
from agentnexus.rails.evm.contracts.signatures import bound_digest, wrap_undeployed
from agentnexus.rails.evm.delegation import designator
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.userops import OwnerSigner, Sender
from agentnexus.rails.evm.userops.signers import OperationSigner
from tests.chain_fixtures import ContractsChain
from tests.userops.soft_passkey import SoftPasskey

pytestmark = pytest.mark.timeout(120)
SITE = Site("https://nexus.example")


@dataclass
class Smart:
    """A login that asks the chain, and accounts to sign in with."""

    contracts: ContractsChain
    login: WalletLogin
    database: Database

    @property
    def chain_id(self) -> int:
        return self.contracts.chain.chain_id

    async def sender(self, plan: AccountPlan) -> Sender:
        factory = self.contracts.manifest.factory(self.contracts.chain.rpc)
        return Sender.planned(plan, factory.address, await factory.implementation())

    async def deploy(self, plan: AccountPlan) -> None:
        chain = self.contracts.chain
        create = self.contracts.manifest.factory(chain.rpc).create(plan)
        await send_directly(chain.rpc, chain.network, chain.accounts["relayer"].signer, create)

    async def signature(self, text: str, address: str, signer: OperationSigner) -> bytes:
        return await signer.sign(bound_digest(personal_digest(text), address, self.chain_id))

    def owner(self, name: str) -> OwnerSigner:
        return OwnerSigner(self.contracts.chain.accounts[name].signer)

    def plan(self, name: str) -> AccountPlan:
        return AccountPlan(Owner(self.contracts.chain.accounts[name].address))


@pytest.fixture
async def smart(contracts_chain: ContractsChain, database: Database, tmp_path: Path) -> AsyncIterator[Smart]:
    chain = contracts_chain.chain
    contracts_chain.manifest.save(tmp_path)
    ground = Ground(Settings(home=tmp_path, evm_chain_id=chain.chain_id), database)
    sender = TransactionSender(database, chain.rpc, chain.network, clock=SystemClock())
    login = WalletLogin(
        database,
        Tokens(database, SystemEntropy()),
        SystemClock(),
        SystemEntropy(),
        chain_id=chain.chain_id,
        verify=account_verifier(ground, Chain(sender, chain.usdc)),
    )
    yield Smart(contracts_chain, login, database)


def wrapped(sender: Sender, signature: bytes) -> str:
    assert sender.factory is not None
    return to_hex(wrap_undeployed(signature, sender.factory, sender.factory_data))


async def test_an_account_that_is_not_made_yet_signs_in(smart: Smart) -> None:
    sender = await smart.sender(smart.plan("alice"))
    asked = await smart.login.challenge(sender.address, SITE)
    signature = await smart.signature(asked.message, sender.address, smart.owner("alice"))
    person, _ = await smart.login.sign_in(sender.address, asked.nonce, wrapped(sender, signature))
    assert person == sender.address
    assert await smart.contracts.chain.rpc.call("eth_getCode", sender.address, "latest") == "0x"


async def test_an_account_of_a_passkey_signs_in(smart: Smart) -> None:
    passkey = SoftPasskey()
    sender = await smart.sender(passkey.plan())
    asked = await smart.login.challenge(sender.address, SITE)
    signature = await smart.signature(asked.message, sender.address, passkey.signer())
    assert await smart.login.sign_in(sender.address, asked.nonce, wrapped(sender, signature))


async def test_a_deployed_account_signs_in_by_its_own_opinion(smart: Smart) -> None:
    sender = await smart.sender(smart.plan("alice"))
    await smart.deploy(smart.plan("alice"))
    for wrap in (to_hex, lambda signature: wrapped(sender, signature)):
        asked = await smart.login.challenge(sender.address, SITE)
        signature = await smart.signature(asked.message, sender.address, smart.owner("alice"))
        assert (await smart.login.sign_in(sender.address, asked.nonce, wrap(signature)))[0] == sender.address


async def test_nobody_but_its_owner_signs_an_account_in(smart: Smart) -> None:
    alice, bob = await smart.sender(smart.plan("alice")), await smart.sender(smart.plan("bob"))
    attempts = [
        (alice.address, smart.owner("bob"), alice),  # another owner
        (bob.address, smart.owner("alice"), alice),  # alice's signature for another account
        (alice.address, smart.owner("alice"), bob),  # wrapped with the making of another account
    ]
    for bound_to, signer, wrapping in attempts:
        asked = await smart.login.challenge(alice.address, SITE)
        signature = await smart.signature(asked.message, bound_to, signer)
        with pytest.raises(NotAllowed, match="not by that wallet"):
            await smart.login.sign_in(alice.address, asked.nonce, wrapped(wrapping, signature))


async def test_the_bare_message_signed_by_an_owner_does_not_sign_the_account_in(smart: Smart) -> None:
    """It signs the owner in as themselves: their accounts are other people here."""
    sender, key = await smart.sender(smart.plan("alice")), smart.owner("alice")
    await smart.deploy(smart.plan("alice"))
    asked = await smart.login.challenge(sender.address, SITE)
    with pytest.raises(NotAllowed):
        await smart.login.sign_in(sender.address, asked.nonce, to_hex(await key.sign(personal_digest(asked.message))))


async def test_a_signature_of_another_message_is_refused(smart: Smart) -> None:
    sender = await smart.sender(smart.plan("alice"))
    first, second = [await smart.login.challenge(sender.address, SITE) for _ in range(2)]
    signature = await smart.signature(first.message, sender.address, smart.owner("alice"))
    with pytest.raises(NotAllowed):
        await smart.login.sign_in(sender.address, second.nonce, wrapped(sender, signature))


async def test_a_key_whose_address_has_code_keeps_signing_in(smart: Smart) -> None:
    """EIP-7702: with its key as any wallet does, and with what its account calls a signature."""
    account = Account.create()
    factory = smart.contracts.manifest.factory(smart.contracts.chain.rpc)
    code = to_hex(designator(await factory.implementation()))
    await smart.contracts.chain.rpc.call("anvil_setCode", account.address, code)
    asked = await smart.login.challenge(account.address, SITE)
    signature = account.sign_message(encode_defunct(text=asked.message)).signature.to_0x_hex()
    person, _ = await smart.login.sign_in(account.address, asked.nonce, signature)
    assert person == account.address.lower()


async def test_a_foreign_factory_is_not_run(smart: Smart) -> None:
    sender = await smart.sender(smart.plan("alice"))
    asked = await smart.login.challenge(sender.address, SITE)
    hostile = to_hex(wrap_undeployed(b"x" * 65, smart.contracts.chain.usdc.reference, b"\x01\x02\x03\x04"))
    with pytest.raises(NotAllowed, match="factory"):
        await smart.login.sign_in(sender.address, asked.nonce, hostile)
    with pytest.raises(NotAllowed, match="unknown, used"):
        await smart.login.sign_in(sender.address, asked.nonce, hostile)


async def test_damaged_signatures_are_refused(smart: Smart) -> None:
    sender = await smart.sender(smart.plan("alice"))
    await smart.deploy(smart.plan("alice"))
    for damaged in ("0x", "0x00", "0x0", "zz", "0x" + "6492" * 16, "0x" + "00" * 65, "0x" + "ff" * 9000, "é"):
        asked = await smart.login.challenge(sender.address, SITE)
        with pytest.raises((NotAllowed, InvalidInput)):
            await smart.login.sign_in(sender.address, asked.nonce, damaged)


async def test_without_its_node_a_key_signs_in_and_an_account_is_told_to_wait(smart: Smart) -> None:
    chain = smart.contracts.chain
    async with Rpc(f"http://127.0.0.1:{free_port()}") as away:
        sender = TransactionSender(smart.database, away, chain.network, clock=SystemClock())
        verify = account_verifier(Ground(Settings(), smart.database), Chain(sender, chain.usdc))
        parts = smart.database, Tokens(smart.database, SystemEntropy()), SystemClock(), SystemEntropy()
        login = WalletLogin(*parts, chain_id=chain.chain_id, verify=verify)
        key = Account.create()
        asked = await login.challenge(key.address, SITE)
        signature = key.sign_message(encode_defunct(text=asked.message)).signature.to_0x_hex()
        assert await login.sign_in(key.address, asked.nonce, signature)
        account = await smart.sender(smart.plan("alice"))
        asked = await login.challenge(account.address, SITE)
        signed = await smart.signature(asked.message, account.address, smart.owner("alice"))
        with pytest.raises(Unavailable):
            await login.sign_in(account.address, asked.nonce, wrapped(account, signed))
