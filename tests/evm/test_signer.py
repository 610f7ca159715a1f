"""Keys: they sign, they never show themselves, and they stay on their own kind of network."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from eth_account import Account

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.devnet.accounts import development_accounts
from agentnexus.rails.evm import keystore
from agentnexus.rails.evm.encoding import checksum_address
from agentnexus.rails.evm.errors import WrongNetwork
from agentnexus.rails.evm.networks import NETWORKS, NetworkKind, network_by_id, network_by_name, require_kind
from agentnexus.rails.evm.signer import (
    LocalSigner,
    recover,
    require_network,
    signer_from_hex,
    signer_from_keystore,
    signer_from_mnemonic,
)

SECRET = b"\x42" * 32
DIGEST = b"\x17" * 32
# Deriving a key from a password is slow on purpose; the tests of everything else use the cheapest setting.
CHEAP = 1 << 10


@pytest.fixture
def signer() -> LocalSigner:
    return LocalSigner(SECRET, NetworkKind.LOCAL)


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "_SCRYPT_N", CHEAP)


async def test_signatures_are_eth_accounts_and_name_their_signer(signer: LocalSigner) -> None:
    signature = await signer.sign(DIGEST)
    assert signature == bytes(Account.unsafe_sign_hash(DIGEST, SECRET).signature)
    assert recover(DIGEST, signature) == signer.public_id == Account.from_key(SECRET).address.lower()


async def test_only_digests_are_signed(signer: LocalSigner) -> None:
    for message in (b"", b"hello", b"\0" * 33):
        with pytest.raises(InvalidInput, match="32-byte"):
            await signer.sign(message)


def test_the_key_shows_up_nowhere(signer: LocalSigner) -> None:
    assert SECRET.hex() not in repr(signer) + str(signer) + repr(vars(signer))
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(signer)


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"\xff" * 32])
def test_what_is_no_key_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidInput):
        LocalSigner(secret, NetworkKind.LOCAL)


def test_a_hex_key_is_read_with_and_without_prefix() -> None:
    plain = signer_from_hex(SECRET.hex(), NetworkKind.LOCAL)
    assert signer_from_hex("0x" + SECRET.hex(), NetworkKind.LOCAL).public_id == plain.public_id


def test_a_mistyped_key_is_not_quoted_in_the_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        signer_from_hex("0xSECRETKEY", NetworkKind.LOCAL)
    assert "SECRETKEY" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("index", [0, 1, 7])
def test_mnemonic_accounts_are_those_of_other_wallets(index: int) -> None:
    phrase = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    Account.enable_unaudited_hdwallet_features()
    expected = Account.from_mnemonic(phrase, account_path=f"m/44'/60'/0'/0/{index}").address
    assert checksum_address(signer_from_mnemonic(phrase, index, NetworkKind.TESTNET).public_id) == expected


def test_recovering_from_nonsense_is_nobody() -> None:
    for signature in (b"", b"\0" * 65, b"\xff" * 65, b"\x01" * 64 + b"\x1b" + b"\0", b"\x01" * 64 + b"\x05"):
        assert recover(DIGEST, signature) is None


def test_a_keystore_comes_back_and_is_private(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "correct horse")
    assert path.stat().st_mode & 0o777 == 0o600
    assert SECRET.hex() not in path.read_text()
    opened = signer_from_keystore(path, "correct horse")
    assert (opened.public_id, opened.kind) == (signer.public_id, NetworkKind.LOCAL)


def test_other_tools_open_our_keystore(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "pw")
    assert bytes(Account.decrypt(json.loads(path.read_text()), "pw")) == SECRET


@pytest.mark.parametrize(("kdf", "cost"), [("scrypt", 2), ("pbkdf2", 10)])
def test_we_open_the_keystores_of_other_tools(kdf: str, cost: int, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.touch(0o600)
    path.write_text(json.dumps(Account.encrypt(SECRET, "pw", kdf=kdf, iterations=cost)))
    assert signer_from_keystore(path, "pw", NetworkKind.TESTNET).kind is NetworkKind.TESTNET
    with pytest.raises(InvalidInput, match="networks"):
        signer_from_keystore(path, "pw")


def test_a_keystore_others_can_read_is_refused(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "pw")
    path.chmod(0o640)
    with pytest.raises(NotAllowed) as caught:
        signer_from_keystore(path, "pw")
    assert "chmod 600" in caught.value.next_step


def test_a_keystore_is_never_overwritten(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "pw")
    with pytest.raises(FileExistsError):
        signer.write_keystore(path, "pw")


def test_a_wrong_password_is_said(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "right")
    with pytest.raises(NotAllowed, match="password"):
        signer_from_keystore(path, "wrong")


def test_a_keystore_says_what_networks_its_key_is_for(signer: LocalSigner, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    signer.write_keystore(path, "pw")
    with pytest.raises(NotAllowed, match="local key"):
        signer_from_keystore(path, "pw", NetworkKind.MAINNET)


def tampered(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "key.json"
    LocalSigner(SECRET, NetworkKind.LOCAL).write_keystore(path, "pw")
    document = json.loads(path.read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        place = document
        for name in parents:
            place = place[name]
        place[last] = value
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"crypto": None},
        {"crypto__cipher": "aes-256-cbc"},
        {"crypto__kdf": "md5"},
        {"crypto__kdfparams__n": 1 << 30},
        {"crypto__kdfparams__p": 1000},
        {"crypto__kdfparams__dklen": 64},
        {"crypto__kdfparams__salt": "zz"},
        {"crypto__ciphertext": "zz"},
        {"crypto__cipherparams": {}},
    ],
)
def test_a_damaged_or_hostile_keystore_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        signer_from_keystore(tampered(tmp_path, **changes), "pw")


def test_a_keystore_under_another_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="another address"):
        signer_from_keystore(tampered(tmp_path, address="11" * 20), "pw")


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.touch(0o600)
    path.write_text("not json")
    with pytest.raises(InvalidInput, match="JSON"):
        signer_from_keystore(path, "pw")


@pytest.mark.parametrize("kind", list(NetworkKind))
@pytest.mark.parametrize("chain_id", [1, 8453, 84532, 31337])
def test_a_key_signs_on_its_own_kind_of_network_only(kind: NetworkKind, chain_id: int) -> None:
    key, network = LocalSigner(SECRET, kind), NETWORKS[chain_id]
    if network.kind is kind:
        require_network(key, network)
    else:
        with pytest.raises(WrongNetwork) as caught:
            require_network(key, network)
        assert str(network.kind) in caught.value.next_step


@pytest.mark.parametrize("kind", [NetworkKind.MAINNET, NetworkKind.TESTNET])
def test_a_development_key_never_becomes_a_key_for_another_network(kind: NetworkKind) -> None:
    for account in development_accounts().values():
        with pytest.raises(NotAllowed, match="everybody knows its key"):
            signer_from_hex(account.private_key, kind)


def test_an_unknown_chain_is_never_taken_for_a_test_network() -> None:
    with pytest.raises(InvalidInput, match="666"):
        network_by_id(666)


@pytest.mark.parametrize(("text", "chain_id"), [("eip155:8453", 8453), ("base", 8453), ("base-sepolia", 84532)])
def test_networks_are_read_as_x402_writes_them(text: str, chain_id: int) -> None:
    network = network_by_name(text)
    assert network.chain_id == chain_id
    assert network.caip2 == f"eip155:{chain_id}"


@pytest.mark.parametrize("text", ["", "eip155:", "eip155:x", "solana:abc", "Base", None, 8453])
def test_what_names_no_network_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput):
        network_by_name(text)


def test_the_refusal_names_both_kinds() -> None:
    with pytest.raises(WrongNetwork, match="testnet key") as caught:
        require_kind(NetworkKind.TESTNET, NETWORKS[1], "this")
    assert caught.value.details == {"key": "testnet", "network": "eip155:1"}
