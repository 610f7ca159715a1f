"""An encrypted file for one Solana key: scrypt, then AES-256-GCM, bound to the key's address and network kind."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentnexus.core.errors import InvalidInput, NotAllowed

_FORMAT = "agentnexus-solana-keystore-1"
_COST = {"n": 1 << 17, "r": 8, "p": 1}
# A file from elsewhere names its own cost; past this it is a way to stop the process, not to protect a key.
_MEMORY_MAX = 1 << 29
_KINDS = ("mainnet", "testnet")


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """What a keystore held."""

    secret: bytes
    address: str
    kind: str


def seal(secret: bytes, password: str, *, address: str, kind: str) -> dict[str, object]:
    """A new document for a 32-byte seed."""
    salt, nonce = os.urandom(32), os.urandom(12)
    sealed = AESGCM(_stretch(password, salt, _COST)).encrypt(nonce, secret, _bound(address, kind))
    return {
        "format": _FORMAT,
        "address": address,
        "kind": kind,
        "scrypt": {**_COST, "salt": salt.hex()},
        "nonce": nonce.hex(),
        "sealed": sealed.hex(),
    }


def open_keystore(data: bytes, password: str) -> Opened:
    """Raises `InvalidInput` for a damaged file, `NotAllowed` for a wrong password or a changed file."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT or document["kind"] not in _KINDS:
            raise InvalidInput("the keystore has a format that this program does not know", field="keystore")
        address, kind, cost = str(document["address"]), str(document["kind"]), document["scrypt"]
        key = _stretch(password, bytes.fromhex(cost["salt"]), {name: int(cost[name]) for name in _COST})
        nonce, sealed = bytes.fromhex(document["nonce"]), bytes.fromhex(document["sealed"])
        return Opened(AESGCM(key).decrypt(nonce, sealed, _bound(address, kind)), address, kind)
    except InvalidTag:
        raise NotAllowed(
            "the password does not open this keystore", next_step="type the password again, or restore the file"
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"the keystore is damaged: {type(error).__name__}", field="keystore") from None


def _bound(address: str, kind: str) -> bytes:
    return f"{_FORMAT}\n{address}\n{kind}".encode()


def _stretch(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    memory = 128 * cost["n"] * cost["r"]
    if not 0 < memory <= _MEMORY_MAX or not 0 < cost["p"] <= 16:
        raise InvalidInput("the keystore asks for more work than is sane", field="keystore")
    maximum = memory + (1 << 20)
    return hashlib.scrypt(password.encode(), salt=salt, n=cost["n"], r=cost["r"], p=cost["p"], maxmem=maximum, dklen=32)
