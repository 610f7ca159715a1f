"""Pure parts: base58, transfer fees, mints, instructions' bytes, keys and their files. Golden values and properties."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.devnet.solana.parsed import amount_json
from agentnexus.rails.solana import base58
from agentnexus.rails.solana.networks import DEVNET, MAINNET, NETWORKS, TESTNET, NetworkKind, network_by_name
from agentnexus.rails.solana.priority import lamports
from agentnexus.rails.solana.programs import TOKEN_2022_PROGRAM, TOKEN_PROGRAM, associated_address, public_key
from agentnexus.rails.solana.signer import (
    DEVELOPMENT_MNEMONIC,
    LocalSigner,
    signer_from_keypair_file,
    signer_from_keystore,
    signer_from_mnemonic,
)
from agentnexus.rails.solana.token_fees import TransferFee, read_fee_schedule, unsafe_extension
from agentnexus.rails.solana.tokens import read_mint, read_token_account

# RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
    "655141438e7a100b"
)
ADDRESS = base58.encode(PUBLIC)
PASSWORD = "correct horse"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_base58_comes_back(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_base58_is_the_one_of_solders(data: bytes) -> None:
    assert base58.encode(data) == str(Pubkey.from_bytes(data))


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "é", "1" * 2_001])
def test_other_letters_are_no_base58(text: str) -> None:
    with pytest.raises(ValueError, match="base58"):
        base58.decode(text)


@settings(deadline=None)
@given(net=st.integers(0, 2**63), points=st.integers(0, 10_000), maximum=st.integers(0, 2**63))
def test_the_grossed_up_amount_leaves_exactly_the_net_and_no_smaller_one_does(
    net: int, points: int, maximum: int
) -> None:
    fee = TransferFee(points, maximum)
    gross = fee.gross_for(net)
    assert gross - fee.of(gross) == net
    if gross:
        assert gross - 1 - fee.of(gross - 1) < net


def test_a_fee_is_rounded_up_and_capped() -> None:
    fee = TransferFee(100, 50)
    assert [fee.of(amount) for amount in (0, 1, 100, 101, 10**9)] == [0, 1, 1, 2, 50]


def test_a_mint_with_a_fee_is_read() -> None:
    data = fee_mint(older=(1, 10, 50), newer=(7, 20, 60))
    schedule = read_fee_schedule(data)
    assert schedule is not None
    assert (schedule.at(6), schedule.at(7)) == (TransferFee(50, 10), TransferFee(60, 20))
    assert unsafe_extension(data) is None
    assert read_fee_schedule(data[:82]) is None


@pytest.mark.parametrize(
    ("kind", "content", "name"),
    [
        (9, b"", "non-transferable"),
        (14, bytes(32) + b"\x01" * 32, "transfer hook"),
        (6, b"\x02", "frozen by default"),
    ],
)
def test_tokens_a_payee_could_not_use_are_known(kind: int, content: bytes, name: str) -> None:
    data = mint_bytes() + bytes(165 - 82) + b"\x01" + struct.pack("<HH", kind, len(content)) + content
    assert unsafe_extension(data) == name


def test_a_hook_without_a_program_is_harmless() -> None:
    data = mint_bytes() + bytes(165 - 82) + b"\x01" + struct.pack("<HH", 14, 64) + b"\x01" * 32 + bytes(32)
    assert unsafe_extension(data) is None


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_can_be_looked_at_as_a_token(data: bytes) -> None:
    for program in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
        read_mint(program, data)
        read_token_account(program, data)
    read_fee_schedule(data)
    unsafe_extension(data)


def test_accounts_of_other_programs_are_no_tokens() -> None:
    account = bytes(Keypair().pubkey()) * 2 + struct.pack("<Q", 9) + bytes(36) + b"\x01" + bytes(56)
    assert read_token_account(TOKEN_PROGRAM, account) is not None
    assert read_token_account(Pubkey.default(), account) is None
    assert read_token_account(TOKEN_PROGRAM, account[:108] + b"\x00" + account[109:]) is None
    assert read_mint(TOKEN_PROGRAM, mint_bytes()) is not None
    assert read_mint(Pubkey.default(), mint_bytes()) is None


def test_associated_addresses_belong_to_no_key_and_to_one_program() -> None:
    owner, usdc = Pubkey.from_string(ADDRESS), Pubkey.from_string(MAINNET.usdc_mint)
    homes = {associated_address(owner, usdc, program) for program in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)}
    assert len(homes) == 2
    assert not any(home.is_on_curve() for home in homes)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_are_found_by_every_name_they_have(network: object) -> None:
    for known in NETWORKS:
        if known is network:
            assert network_by_name(known.caip2) is network_by_name(known.name) is network_by_name(known.genesis_hash)


@pytest.mark.parametrize("text", ["solana:", "solana:abc", "eip155:1", None, 5, [], "SOLANA"])
def test_an_unknown_network_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="not a Solana network"):
        network_by_name(text)


def test_assets_are_named_by_their_network() -> None:
    assert DEVNET.usdc.caip19 == f"{DEVNET.caip2}/token:{DEVNET.usdc_mint}"
    assert MAINNET.native.caip19 == "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp/slip44:501"
    assert TESTNET.native.decimals == 9
    with pytest.raises(InvalidInput):
        DEVNET.token("0xabc")


@pytest.mark.parametrize("text", ["", "x", "1" * 33, ADDRESS + "1", ADDRESS.replace("F", "0")])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a Solana address"):
        public_key(text)


def test_a_priority_fee_is_rounded_up() -> None:
    assert lamports(2, 1_000, 1) == 10_001
    assert lamports(1, 1_000_000, 3) == 5_003


@pytest.mark.parametrize(
    ("amount", "decimals", "text"), [(0, 6, "0"), (5, 0, "5"), (1, 6, "0.000001"), (1_500_000, 6, "1.5")]
)
def test_amounts_are_shown_as_clusters_show_them(amount: int, decimals: int, text: str) -> None:
    shown = amount_json(amount, decimals)
    assert (shown["amount"], shown["uiAmountString"]) == (str(amount), text)


async def test_a_key_signs_what_others_can_verify() -> None:
    signer = LocalSigner(SEED, NetworkKind.TESTNET)
    assert signer.public_id == ADDRESS
    assert await signer.sign(b"") == SIGNATURE
    assert Signature.from_bytes(await signer.sign(b"a message")).verify(Pubkey.from_string(ADDRESS), b"a message")
    assert SEED.hex() not in repr(signer)
    assert "secret" in repr(vars(signer)["_secret"])


def test_a_phrase_gives_the_accounts_wallets_show() -> None:
    first = signer_from_mnemonic(DEVELOPMENT_MNEMONIC, 0, NetworkKind.TESTNET)
    assert first.public_id == "oeYf6KAJkLYhBuR8CiGc6L4D4Xtfepr85fuDgA9kq96"


def test_development_keys_are_refused_on_mainnet() -> None:
    with pytest.raises(NotAllowed, match="everybody knows its key"):
        signer_from_mnemonic(DEVELOPMENT_MNEMONIC, 3, NetworkKind.MAINNET)


def test_a_keypair_file_goes_to_other_tools_and_back(tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    LocalSigner(SEED, NetworkKind.TESTNET).write_keypair_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(Keypair.from_json(path.read_text()).pubkey()) == ADDRESS
    assert signer_from_keypair_file(path, NetworkKind.MAINNET).public_id == ADDRESS
    with pytest.raises(FileExistsError):
        LocalSigner(SEED, NetworkKind.TESTNET).write_keypair_file(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1, 2, 3]", json.dumps([300] * 64), json.dumps(["a"] * 64)])
def test_a_damaged_keypair_file_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = private(tmp_path / "id.json", content)
    with pytest.raises(InvalidInput, match="not a Solana keypair file"):
        signer_from_keypair_file(path, NetworkKind.TESTNET)


def test_a_keypair_file_whose_halves_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    mixed = [*SEED, *bytes(Keypair().pubkey())]
    path = private(tmp_path / "id.json", json.dumps(mixed))
    with pytest.raises(NotAllowed, match="another address"):
        signer_from_keypair_file(path, NetworkKind.TESTNET)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "id.json", json.dumps(list(bytes(Keypair()))))
    path.chmod(0o640)
    with pytest.raises(NotAllowed, match="read by other users") as caught:
        signer_from_keypair_file(path, NetworkKind.TESTNET)
    assert caught.value.next_step == "chmod 600 id.json"
    with pytest.raises(NotAllowed, match="read by other users"):
        signer_from_keystore(path, PASSWORD)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "wallet.json"
    LocalSigner(SEED, NetworkKind.TESTNET).write_keystore(path, PASSWORD)
    return path


def test_a_keystore_opens_with_its_password_only(keystore: Path) -> None:
    assert keystore.stat().st_mode & 0o777 == 0o600
    assert SEED.hex() not in keystore.read_text()
    opened = signer_from_keystore(keystore, PASSWORD)
    assert (opened.public_id, opened.kind) == (ADDRESS, NetworkKind.TESTNET)
    with pytest.raises(NotAllowed, match="does not open"):
        signer_from_keystore(keystore, "wrong")


@pytest.mark.parametrize("field", ["address", "kind", "sealed", "nonce"])
def test_a_keystore_somebody_changed_does_not_open(keystore: Path, tmp_path: Path, field: str) -> None:
    """Above all the kind: a test key must not be turned into a mainnet one."""
    document = json.loads(keystore.read_text())
    others = {"address": str(Keypair().pubkey()), "kind": "mainnet", "sealed": "00" * 48, "nonce": "00" * 12}
    document[field] = others[field]
    path = private(tmp_path / "changed.json", json.dumps(document))
    with pytest.raises(NotAllowed):
        signer_from_keystore(path, PASSWORD)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"kind": "moon"},
        {"scrypt": {"n": 1 << 40, "r": 8, "p": 1, "salt": ""}},
        {"scrypt": {"n": -1, "r": 8, "p": 1, "salt": ""}},
        {"scrypt": "cheap"},
        {"nonce": "zz"},
        {"sealed": 5},
    ],
)
def test_a_damaged_keystore_is_said_to_be_damaged(keystore: Path, tmp_path: Path, change: dict[str, object]) -> None:
    path = private(tmp_path / "bad.json", json.dumps(json.loads(keystore.read_text()) | change))
    with pytest.raises(InvalidInput, match="keystore"):
        signer_from_keystore(path, PASSWORD)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_any_file_at_all_is_refused_as_a_keystore(data: bytes) -> None:
    from agentnexus.rails.solana.keystore import open_keystore

    with pytest.raises(InvalidInput, match="keystore"):
        open_keystore(data, PASSWORD)


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def mint_bytes() -> bytes:
    return struct.pack("<I32sQBBI32s", 1, bytes(Keypair().pubkey()), 5, 6, 1, 0, bytes(32))


def fee_mint(older: tuple[int, int, int], newer: tuple[int, int, int]) -> bytes:
    config = bytes(64) + struct.pack("<Q", 0) + struct.pack("<QQH", *older) + struct.pack("<QQH", *newer)
    return mint_bytes() + bytes(165 - 82) + b"\x01" + struct.pack("<HH", 1, len(config)) + config
