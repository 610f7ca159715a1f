"""Reading the parameters of a JSON-RPC request; what is wrong is refused in the words of Solana nodes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from solders.hash import Hash
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from agentnexus.devnet.solana.parsed import Json
from agentnexus.devnet.solana.rpc_errors import invalid
from agentnexus.devnet.solana.wire import AnyMessage
from agentnexus.rails.solana import base58

COMMITMENTS = ("processed", "confirmed", "finalized")
_OLD_COMMITMENTS = {"recent": "processed", "single": "confirmed", "singleGossip": "confirmed", "root": "finalized"}
_OLD_COMMITMENTS |= {"max": "finalized"}
_TRANSACTION_BYTES_MAX = 1_232
_ACCOUNT_ENCODINGS = ("binary", "base58", "base64", "jsonParsed", "base64+zstd")


class Parameters:
    """The positional parameters of one request."""

    def __init__(self, values: Sequence[Json]) -> None:
        self._values = values

    def value(self, index: int) -> Json:
        return self._values[index] if index < len(self._values) else None

    def required(self, index: int, what: str) -> Json:
        value = self.value(index)
        if value is None:
            raise invalid(f"missing {what}")
        return value

    def text(self, index: int, what: str) -> str:
        value = self.required(index, what)
        if not isinstance(value, str):
            raise invalid(f"{what} must be a string")
        return value

    def whole(self, index: int, what: str) -> int:
        value = self.required(index, what)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise invalid(f"{what} must be an unsigned integer")
        return value

    def key(self, index: int) -> Pubkey:
        return read_key(self.required(index, "pubkey"))

    def options(self, index: int) -> Options:
        value = self.value(index)
        if value is not None and not isinstance(value, dict):
            raise invalid("options must be an object")
        options = Options(value or {})
        if options.commitment not in COMMITMENTS:
            raise invalid(f"unknown commitment {options.commitment}")
        return options


class Options:
    """The configuration object that comes last in most requests."""

    def __init__(self, fields: dict[str, Json]) -> None:
        self._fields = fields

    def get(self, name: str) -> Json:
        return self._fields.get(name)

    def flag(self, name: str) -> bool:
        return self._fields.get(name) is True

    def limit(self, name: str, maximum: int) -> int:
        value = self._fields.get(name)
        if value is None:
            return maximum
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= maximum:
            raise invalid(f"{name} must be between 1 and {maximum}")
        return value

    @property
    def commitment(self) -> str:
        value = self._fields.get("commitment") or "finalized"
        return _OLD_COMMITMENTS.get(str(value), str(value))

    def encoding(self, default: str) -> str:
        value = self._fields.get("encoding") or default
        if value == "base64+zstd":
            return "base64"  # which clients must understand as well: the answer names its encoding
        return str(value)

    def account_encoding(self, default: str = "binary") -> str:
        value = self._fields.get("encoding") or default
        if value not in _ACCOUNT_ENCODINGS:
            raise invalid(f"unknown encoding {value}")
        return self.encoding(default)

    @property
    def data_slice(self) -> tuple[int, int] | None:
        value = self._fields.get("dataSlice")
        if not isinstance(value, dict):
            return None
        offset, length = value.get("offset"), value.get("length")
        if not isinstance(offset, int) or not isinstance(length, int) or offset < 0 or length < 0:
            raise invalid("dataSlice needs offset and length")
        return offset, length


def read_key(value: Json) -> Pubkey:
    try:
        return Pubkey.from_string(str(value))
    except ValueError as error:
        raise invalid("Invalid pubkey") from error


def read_signature(value: Json) -> Signature:
    try:
        return Signature.from_string(str(value))
    except ValueError as error:
        raise invalid("Invalid signature") from error


def read_hash(value: Json) -> Hash:
    try:
        return Hash.from_string(str(value))
    except ValueError as error:
        raise invalid("Invalid blockhash") from error


def read_bytes(text: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        if encoding == "base58":
            return base58.decode(text)
    except (ValueError, binascii.Error) as error:
        raise invalid(f"invalid {encoding} encoding") from error
    raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


def read_transaction(text: str, encoding: str) -> VersionedTransaction:
    raw = read_bytes(text, encoding)
    if len(raw) > _TRANSACTION_BYTES_MAX:
        raise invalid(f"decoded transaction too large: {len(raw)} bytes (max: {_TRANSACTION_BYTES_MAX} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, SanitizeError) as error:
        raise invalid(f"failed to deserialize transaction: {error}") from error
    return transaction


def read_message(text: str) -> AnyMessage:
    try:
        return from_bytes_versioned(read_bytes(text, "base64"))
    except ValueError as error:
        raise invalid(f"failed to deserialize message: {error}") from error
