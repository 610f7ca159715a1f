"""Published vectors, typed from the standards: Keccak, EIP-55, RLP, EIP-712, ERC-3009, BIP-32/39, keystore v3."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm import eip3009, token
from agentnexus.rails.evm.encoding import (
    RlpItem,
    address,
    checksum_address,
    dynamic_bytes,
    keccak,
    public_key_address,
    rlp,
    selector,
    string,
    topic,
    word,
    word_address,
)
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import (
    DEVELOPMENT_MNEMONIC,
    LocalSigner,
    derive_key,
    development_addresses,
    recover,
    signer_from_hex,
    signer_from_keystore,
    signer_from_mnemonic,
)
from agentnexus.rails.evm.typed_data import Domain

COW = keccak(b"cow")
COW_ADDRESS = "0xcd2a3d9f938e13cd947ec05abc7fe734df8dd826"
MAIL_DIGEST = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
MAIL_SIGNATURE = (
    "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
    "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562"
    "1c"
)
LOREM = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"
ABANDON = "abandon " * 11 + "about"


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (
            b"The quick brown fox jumps over the lazy dog",
            "4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15",
        ),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "578951e24efd62a3d63a86f7cd19aaa53c898fe287d2552133220370240b572d",
        ),
    ],
)
def test_keccak_256(data: bytes, digest: str) -> None:
    assert keccak(data).hex() == digest
    assert keccak(data) != hashlib.sha3_256(data).digest()


@pytest.mark.parametrize(
    "checksummed",
    [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_eip_55_addresses(checksummed: str) -> None:
    assert checksum_address(checksummed.lower()) == checksummed
    assert address(checksummed) == checksummed.lower()


@pytest.mark.parametrize("at", range(2, 42, 3))
def test_a_letter_of_the_other_case_breaks_a_checksum(at: int) -> None:
    right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    wrong = right[:at] + right[at].swapcase() + right[at + 1 :]
    if wrong == right:
        assert address(wrong) == right.lower()
        return
    with pytest.raises(InvalidInput, match="wrong checksum") as caught:
        address(wrong, field="payTo")
    assert caught.value.details == {"field": "payTo"}
    assert "lower case" in caught.value.next_step


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"dog", "83646f67"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        (b"", "80"),
        ([], "c0"),
        (0, "80"),
        (b"\x00", "00"),
        (b"\x0f", "0f"),
        (15, "0f"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (127, "7f"),
        (128, "8180"),
        (255, "81ff"),
        (256, "820100"),
        (b"\x04\x00", "820400"),
        (1024, "820400"),
        (2**64, "89010000000000000000"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (LOREM, "b838" + LOREM.hex()),
        (LOREM[:55], "b7" + LOREM[:55].hex()),
        (b"x" * 255, "b8ff" + "78" * 255),
        (b"x" * 256, "b90100" + "78" * 256),
        (b"x" * 65536, "ba010000" + "78" * 65536),
        ([b"x"] * 55, "f7" + "78" * 55),
        ([b"x"] * 56, "f838" + "78" * 56),
        ([b"x"] * 256, "f90100" + "78" * 256),
    ],
)
def test_rlp_as_in_the_yellow_papers_examples(item: RlpItem, encoded: str) -> None:
    assert rlp(item).hex() == encoded


@pytest.mark.parametrize(
    ("signature", "four_bytes"),
    [
        ("balanceOf(address)", "70a08231"),
        ("transfer(address,uint256)", "a9059cbb"),
        ("transferFrom(address,address,uint256)", "23b872dd"),
        ("approve(address,uint256)", "095ea7b3"),
        ("decimals()", "313ce567"),
        ("DOMAIN_SEPARATOR()", "3644e515"),
        ("authorizationState(address,bytes32)", "e94a0102"),
        ("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)", "5a049a70"),
        (
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
            "e3ee160e",
        ),
        ("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", "cf092995"),
        ("isValidSignature(bytes32,bytes)", "1626ba7e"),
        ("Error(string)", "08c379a0"),
        ("Panic(uint256)", "4e487b71"),
    ],
)
def test_selectors_as_the_world_knows_them(signature: str, four_bytes: str) -> None:
    assert selector(signature).hex() == four_bytes


@pytest.mark.parametrize(
    ("event", "hashed"),
    [
        ("Transfer(address,address,uint256)", "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
        ("Approval(address,address,uint256)", "0x8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925"),
        ("AuthorizationUsed(address,bytes32)", "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"),
        (
            "AuthorizationCanceled(address,bytes32)",
            "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81",
        ),
    ],
)
def test_topics_as_explorers_show_them(event: str, hashed: str) -> None:
    assert topic(event) == hashed
    assert hashed in (token.TRANSFER_TOPIC, token.USED_TOPIC, token.CANCELED_TOPIC) or "Approval" in event


def mail_hash() -> bytes:
    """The struct hash of the standard's example: Cow writes to Bob."""
    person = keccak(b"Person(string name,address wallet)")
    mail = keccak(b"Mail(Person from,Person to,string contents)Person(string name,address wallet)")
    cow = keccak(person + keccak(b"Cow") + word("0x" + COW_ADDRESS[2:]))
    bob = keccak(person + keccak(b"Bob") + word("0x" + "bb" * 20))
    return keccak(mail + cow + bob + keccak(b"Hello, Bob!"))


def test_the_mail_of_eip_712_has_its_hashes() -> None:
    domain = Domain("Ether Mail", "1", 1, "0x" + "cc" * 20)
    assert domain.separator.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert mail_hash().hex() == "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
    assert domain.digest(mail_hash()).hex() == MAIL_DIGEST


async def test_the_mail_of_eip_712_has_its_signature() -> None:
    cow = LocalSigner(COW, NetworkKind.LOCAL)
    assert cow.public_id == COW_ADDRESS
    assert (await cow.sign(bytes.fromhex(MAIL_DIGEST))).hex() == MAIL_SIGNATURE
    assert recover(bytes.fromhex(MAIL_DIGEST), bytes.fromhex(MAIL_SIGNATURE)) == COW_ADDRESS


@pytest.mark.parametrize(
    "field",
    [
        Domain("Ether mail", "1", 1, "0x" + "cc" * 20),
        Domain("Ether Mail", "2", 1, "0x" + "cc" * 20),
        Domain("Ether Mail", "1", 2, "0x" + "cc" * 20),
        Domain("Ether Mail", "1", 1, "0x" + "cd" * 20),
    ],
)
def test_every_part_of_a_domain_binds_a_signature(field: Domain) -> None:
    digest = field.digest(mail_hash())
    assert digest.hex() != MAIL_DIGEST
    assert recover(digest, bytes.fromhex(MAIL_SIGNATURE)) != COW_ADDRESS


@pytest.mark.parametrize(
    ("chain_id", "contract", "separator"),
    [
        (
            1,
            "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
            "06c37168a7db5138defc7866392bb87a741f9b3d104deb5094588ce041cae335",
        ),
        (
            8453,
            "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
            "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
        ),
    ],
)
def test_usdc_signs_under_the_domain_that_its_contract_shows(chain_id: int, contract: str, separator: str) -> None:
    assert Domain("USD Coin", "2", chain_id, contract).separator.hex() == separator


def test_erc_3009_types_have_the_hashes_of_the_standard() -> None:
    transfer = keccak(
        b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
        b"bytes32 nonce)"
    )
    cancel = keccak(b"CancelAuthorization(address authorizer,bytes32 nonce)")
    assert transfer.hex() == "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"
    assert cancel.hex() == "158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429"
    domain = Domain("USD Coin", "2", 1, "0x" + "11" * 20)
    payer, nonce = "0x" + "22" * 20, b"\x33" * 32
    authorization = eip3009.Authorization(payer, "0x" + "44" * 20, 5, 6, 7, nonce)
    words = word(payer) + word("0x" + "44" * 20) + word(5) + word(6) + word(7) + nonce
    assert authorization.digest(domain) == domain.digest(keccak(transfer + words))
    assert eip3009.cancellation_digest(domain, payer, nonce) == domain.digest(keccak(cancel + word(payer) + nonce))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        (1, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        (2, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        (3, "0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
        (4, "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
        (5, "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
        (6, "0x976EA74026E726554dB657fA54763abd0C3a0aa9"),
        (7, "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
        (8, "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
        (9, "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"),
    ],
)
def test_the_development_phrase_opens_the_accounts_everybody_knows(index: int, expected: str) -> None:
    signer = signer_from_mnemonic(DEVELOPMENT_MNEMONIC, index, NetworkKind.LOCAL)
    assert signer.public_id == expected.lower()
    assert signer.public_id in development_addresses()


@pytest.mark.parametrize(
    ("index", "expected"),
    [(0, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"), (1, "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0")],
)
def test_the_phrase_of_bip_39s_first_vector_opens_its_accounts(index: int, expected: str) -> None:
    assert signer_from_mnemonic(ABANDON, index, NetworkKind.TESTNET).public_id == expected.lower()


def test_every_account_of_a_phrase_is_another() -> None:
    keys = {derive_key(ABANDON, index) for index in range(10)}
    assert len(keys) == 10
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (1, "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"),
        (2, "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"),
        (3, "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"),
    ],
)
def test_the_smallest_keys_have_their_addresses(secret: int, expected: str) -> None:
    assert signer_from_hex(f"{secret:064x}", NetworkKind.LOCAL).public_id == expected.lower()
    assert signer_from_hex(f"0x{secret:064x}", NetworkKind.MAINNET).public_id == expected.lower()


@pytest.mark.parametrize("number", [0, 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141, 2**256 - 1])
def test_zero_and_the_curves_order_are_no_keys(number: int) -> None:
    with pytest.raises(InvalidInput, match="private key"):
        signer_from_hex(f"{number:064x}", NetworkKind.LOCAL)


def test_the_generators_point_is_the_address_of_one() -> None:
    point = bytes.fromhex(
        "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    )
    assert public_key_address(point) == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


# The two documents of the Web3 Secret Storage definition; password and secret are public. The work factor of the second
# is one that OpenSSL refuses (RFC 7914: N below 2**(16 r)), so it serves as what damage is done to.
PBKDF2_FILE = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
SCRYPT_FILE = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "p": 8,
            "r": 1,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
KEYSTORE_SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"


def keystore(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "key.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(document, file)
    return path


def test_the_published_keystore_opens(tmp_path: Path) -> None:
    signer = signer_from_keystore(keystore(tmp_path, PBKDF2_FILE), "testpassword", NetworkKind.TESTNET)
    assert signer.public_id == signer_from_hex(KEYSTORE_SECRET, NetworkKind.TESTNET).public_id


def test_a_keystore_of_another_tool_needs_a_kind_of_network(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="what networks") as caught:
        signer_from_keystore(keystore(tmp_path, PBKDF2_FILE), "testpassword")
    assert caught.value.next_step == "pass the network kind"


def test_a_wrong_password_is_not_allowed_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="password") as caught:
        signer_from_keystore(keystore(tmp_path, PBKDF2_FILE), "Testpassword", NetworkKind.TESTNET)
    assert "testpassword" not in str(caught.value)


def changed(document: dict[str, object], dotted: str, value: object) -> dict[str, object]:
    copy: dict[str, object] = json.loads(json.dumps(document))
    place: dict[str, object] = copy
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = place[parent]
        assert isinstance(inner, dict)
        place = inner
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crypto.kdfparams.n", 0),
        ("crypto.kdfparams.n", -2),
        ("crypto.kdfparams.n", 3),
        ("crypto.kdfparams.n", "many"),
        ("crypto.kdfparams.n", None),
        ("crypto.kdfparams.n", 1 << 40),
        ("crypto.kdfparams.r", 0),
        ("crypto.kdfparams.r", -1),
        ("crypto.kdfparams.r", 1 << 70),
        ("crypto.kdfparams.p", 0),
        ("crypto.kdfparams.p", -1),
        ("crypto.kdfparams.p", 17),
        ("crypto.kdfparams.dklen", 16),
        ("crypto.kdfparams.salt", 7),
        ("crypto.kdfparams", []),
        ("crypto.kdfparams", None),
        ("crypto.kdf", "argon2id"),
        ("crypto.cipher", None),
        ("crypto.cipher", "aes-256-gcm"),
        ("crypto.cipherparams", None),
        ("crypto.cipherparams.iv", ""),
        ("crypto.cipherparams.iv", "00"),
        ("crypto.cipherparams.iv", "00" * 17),
        ("crypto.cipherparams.iv", "zz" * 16),
        ("crypto.mac", 5),
        ("crypto.mac", "zz"),
        ("crypto", []),
        ("crypto", "text"),
        ("version", 1),
        ("version", "3"),
        ("x-network-kind", "moon"),
        ("x-network-kind", ""),
    ],
)
def test_a_damaged_keystore_is_an_input_error_whatever_is_damaged(field: str, value: object, tmp_path: Path) -> None:
    document = changed(SCRYPT_FILE, "crypto.kdfparams.n", 1024)
    document = changed(document, field, value)
    with pytest.raises((InvalidInput, NotAllowed)) as caught:
        signer_from_keystore(keystore(tmp_path, document), "testpassword", NetworkKind.TESTNET)
    # Everything but the work factor is noticed before the password can be wrong.
    assert isinstance(caught.value, InvalidInput) or field == "crypto.kdfparams.n"


@pytest.mark.parametrize("rounds", [0, -1, 10_000_001, "many", None])
def test_a_senseless_number_of_rounds_is_refused(rounds: object, tmp_path: Path) -> None:
    path = keystore(tmp_path, changed(PBKDF2_FILE, "crypto.kdfparams.c", rounds))
    with pytest.raises(InvalidInput):
        signer_from_keystore(path, "testpassword", NetworkKind.TESTNET)


@pytest.mark.parametrize("content", ["", "[]", "null", "3", '"x"', "{", '{"version": 3'])
def test_what_is_no_keystore_at_all_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        signer_from_keystore(path, "x", NetworkKind.TESTNET)
    assert caught.value.details["field"] == "keystore"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o601, 0o700 | 0o010])
def test_a_keystore_must_be_its_owners_alone(mode: int, tmp_path: Path) -> None:
    path = keystore(tmp_path, PBKDF2_FILE)
    path.chmod(mode)
    with pytest.raises(NotAllowed, match="other users") as caught:
        signer_from_keystore(path, "testpassword", NetworkKind.TESTNET)
    assert caught.value.next_step == "chmod 600 key.json"
    assert caught.value.details["mode"] == oct(mode)


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 0), (1, 32), (31, 32), (32, 32), (33, 64), (64, 64), (65, 96)],
)
def test_dynamic_bytes_are_padded_to_whole_words(size: int, padded: int) -> None:
    encoded = dynamic_bytes(b"\xff" * size)
    assert len(encoded) == 32 + padded
    assert int.from_bytes(encoded[:32], "big") == size
    assert encoded[32 : 32 + size] == b"\xff" * size
    assert set(encoded[32 + size :]) <= {0}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (word(32) + word(3) + b"abc".ljust(32, b"\0"), "abc"),
        (word(32) + word(0), ""),
        (word(64) + word(7) + word(2) + b"ok".ljust(32, b"\0"), "ok"),
        (word(32) + word(2**200) + b"cut", "cut"),
        (word(32) + word(3) + b"\xff\xfea", "\ufffd\ufffda"),
        (word(32) + word(8) + "\u20bf-coin".encode().ljust(32, b"\0"), "\u20bf-coin"),
    ],
)
def test_strings_of_contracts_are_read_without_trust(data: bytes, text: str) -> None:
    assert string(data) == text


@pytest.mark.parametrize("data", [b"", b"\x20", word(2**255), word(33), word(2**255) + word(3)])
def test_a_string_that_points_outside_is_an_input_error(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="less than one word"):
        string(data)


def test_the_address_of_a_word_is_its_last_twenty_bytes() -> None:
    assert word_address(b"\xff" * 12 + b"\x11" * 20) == "0x" + "11" * 20
    assert word_address("0x" + "00" * 12 + "22" * 20) == "0x" + "22" * 20
