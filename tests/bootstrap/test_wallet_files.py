"""Keys come from plain settings or encrypted files; whatever is wrong with a file is said without its secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentnexus.bootstrap.wallet_files import evm_signer, solana_signer
from agentnexus.core.errors import InvalidInput, NexusError, NotAllowed
from agentnexus.devnet.accounts import development_accounts
from agentnexus.rails.evm import keystore as evm_keystore
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.solana import keystore as solana_keystore
from agentnexus.rails.solana import networks as solana_networks
from agentnexus.rails.solana.signer import LocalSigner as SolanaSigner

PASSWORD = "correct horse battery"
SECRET = bytes(range(1, 33))
LOCALNET = solana_networks.network_by_name("solana-devnet")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Files that open in no time: their cost is written in them, and it is not what is tried here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evm_keystore, "_SCRYPT_N", 1 << 10)
        patch.setitem(solana_keystore._COST, "n", 1 << 10)
        yield


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nanything after the first line\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evm") / "key.json"
    LocalSigner(SECRET, NetworkKind.LOCAL).write_keystore(path, PASSWORD)
    return path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("solana") / "key.json"
    SolanaSigner(SECRET, LOCALNET.kind).write_keystore(path, PASSWORD)
    return path


def test_an_evm_key_is_hex_or_an_encrypted_file(keystore: Path, password: Path) -> None:
    known = development_accounts()["buyer"]
    assert evm_signer(known.private_key, NetworkKind.LOCAL, None).public_id == known.address.lower()
    opened = evm_signer(str(keystore), NetworkKind.LOCAL, password)
    assert opened.public_id == LocalSigner(SECRET, NetworkKind.LOCAL).public_id
    assert evm_signer(str(keystore), NetworkKind.LOCAL, password) is opened, "opening takes a second: once"


def test_a_solana_key_is_a_keypair_file_or_an_encrypted_one(tmp_path: Path, sealed: Path, password: Path) -> None:
    signer, plain = SolanaSigner(SECRET, LOCALNET.kind), tmp_path / "plain.json"
    signer.write_keypair_file(plain)
    assert solana_signer(plain, LOCALNET, None).public_id == signer.public_id
    assert solana_signer(sealed, LOCALNET, password).public_id == signer.public_id


def test_an_encrypted_file_without_a_password_names_the_setting(keystore: Path, sealed: Path) -> None:
    for attempt in (
        lambda: evm_signer(str(keystore), NetworkKind.LOCAL, None),
        lambda: solana_signer(sealed, LOCALNET, None),
    ):
        with pytest.raises(InvalidInput, match="is encrypted") as refused:
            attempt()
        assert "NEXUS_KEY_PASSWORD_FILE" in (refused.value.next_step or "")


@pytest.mark.parametrize("text", ["", "wrong", f" {PASSWORD}", f"\n{PASSWORD}"])
def test_a_wrong_password_is_refused_and_in_no_message(keystore: Path, sealed: Path, password: Path, text: str) -> None:
    password.write_text(text)
    for attempt in (
        lambda: evm_signer(str(keystore), NetworkKind.LOCAL, password),
        lambda: solana_signer(sealed, LOCALNET, password),
    ):
        with pytest.raises(NotAllowed) as refused:
            attempt()
        assert text.strip() == "" or text.strip() not in refused.value.message


def test_files_that_others_may_read_are_refused(keystore: Path, sealed: Path, password: Path) -> None:
    password.chmod(0o644)
    with pytest.raises(NotAllowed, match="can be read by other users"):
        evm_signer(str(keystore), NetworkKind.LOCAL, password)
    password.chmod(0o600)
    sealed.chmod(0o640)
    with pytest.raises(NotAllowed, match="can be read by other users"):
        solana_signer(sealed, LOCALNET, password)
    sealed.chmod(0o600)


def test_a_key_of_another_kind_of_network_is_refused(keystore: Path, sealed: Path, password: Path) -> None:
    with pytest.raises(NotAllowed, match="not a mainnet key"):
        evm_signer(str(keystore), NetworkKind.MAINNET, password)
    with pytest.raises(NexusError):
        solana_signer(sealed, solana_networks.network_by_name("solana"), password)


def test_a_file_that_is_not_there_or_is_no_key_is_said(tmp_path: Path, password: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no key file"):
        evm_signer(str(tmp_path / "absent.json"), NetworkKind.LOCAL, password)
    with pytest.raises(InvalidInput, match="there is no key file"):
        solana_signer(tmp_path / "absent.json", LOCALNET, password)
    odd = tmp_path / "odd.json"
    odd.write_text('{"no": "keystore"}')
    odd.chmod(0o600)
    for attempt in (
        lambda: evm_signer(str(odd), NetworkKind.LOCAL, password),
        lambda: solana_signer(odd, LOCALNET, password),
    ):
        with pytest.raises(InvalidInput):
            attempt()
