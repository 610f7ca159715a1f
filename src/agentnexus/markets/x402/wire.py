"""Headers and bodies of x402 v1 and v2 as values, with hard size limits; no I/O.

The official pydantic schemas give the field names; this adds what they leave open: limits, strict base64 and JSON,
one internal form for both versions, and hashes that replays are compared by.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, SettleResponse
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequiredV1, PaymentRequirementsV1

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.networks import caip2, v1_name

PAYMENT_REQUIRED = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE = "PAYMENT-RESPONSE"
X_PAYMENT = "X-PAYMENT"
X_PAYMENT_RESPONSE = "X-PAYMENT-RESPONSE"
PAYMENT_IDENTIFIER = "payment-identifier"

MAX_HEADER_BYTES = 16 * 1024  # decoded
MAX_BODY_BYTES = 64 * 1024  # a 402 body or a facilitator message
MAX_ACCEPTS = 32
ATOMIC_AMOUNT = re.compile(r"[0-9]{1,78}")
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{16,128}")

AnyPayload: TypeAlias = PaymentPayload | PaymentPayloadV1
AnyRequirements: TypeAlias = PaymentRequirements | PaymentRequirementsV1
AnyRequired: TypeAlias = PaymentRequired | PaymentRequiredV1
M = TypeVar("M", bound=BaseModel)


class WireError(InvalidInput):
    """A message that is not x402: says which part. `reason` is the protocol's word for it."""

    def __init__(self, message: str, *, reason: Reason = Reason.INVALID_PAYLOAD, part: str = "") -> None:
        super().__init__(
            message, next_step="send the header as base64 of one JSON object", reason=str(reason), field=part or None
        )
        self.reason = reason


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # Two parsers would pick different values: one verifies what the other does not settle.
        raise ValueError("a key appears twice")
    return result


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def parse_object(data: bytes, *, limit: int, part: str) -> dict[str, object]:
    """One JSON object without duplicate keys, NaN or endless nesting, of at most `limit` bytes."""
    if len(data) > limit:
        raise WireError(f"{part} is larger than {limit} bytes", part=part)
    try:
        value = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{part} is not JSON: {error}", part=part) from error
    if not isinstance(value, dict):
        raise WireError(f"{part} is not a JSON object", part=part)
    return value


def decode_header(value: str, *, part: str, limit: int = MAX_HEADER_BYTES) -> dict[str, object]:
    """The JSON object in a base64 header; padding may be missing, nothing else may differ from the standard."""
    if len(value) > (limit + 2) // 3 * 4 + 4:
        raise WireError(f"{part} decodes to more than {limit} bytes", part=part)
    text = value.strip()
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"{part} is not base64", part=part) from error
    return parse_object(data, limit=limit, part=part)


def to_json(message: BaseModel) -> dict[str, object]:
    """A protocol message as it travels: camelCase, absent fields left out."""
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def encode_header(message: BaseModel | Mapping[str, object]) -> str:
    """Base64 header value of a protocol message."""
    plain = to_json(message) if isinstance(message, BaseModel) else message
    return base64.b64encode(json.dumps(plain, separators=(",", ":")).encode()).decode("ascii")


def _read(model: type[M], value: object, part: str, reason: Reason = Reason.INVALID_PAYLOAD) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise WireError(f"{part}.{where}: {first['msg']}", reason=reason, part=f"{part}.{where}") from error


def version_of(value: Mapping[str, object]) -> int:
    """1 or 2; raises `WireError` (`invalid_x402_version`) for anything else, also for ``true`` and ``2.0``."""
    version = value.get("x402Version")
    if type(version) is not int or version not in (1, 2):
        raise WireError(f"x402Version must be 1 or 2, not {version!r}", reason=Reason.INVALID_VERSION)
    return version


def read_payload(value: Mapping[str, object]) -> AnyPayload:
    """A payment payload of either version from its JSON form."""
    if version_of(value) == 1:
        return _read(PaymentPayloadV1, value, "paymentPayload")
    return _read(PaymentPayload, value, "paymentPayload")


def read_requirements(value: Mapping[str, object], version: int) -> AnyRequirements:
    """Requirements as a facilitator is sent them, in the form of `version`."""
    model: type[AnyRequirements] = PaymentRequirementsV1 if version == 1 else PaymentRequirements
    return _read(model, value, "paymentRequirements", Reason.INVALID_REQUIREMENTS)


def normal(requirement: AnyRequirements) -> PaymentRequirements:
    """The v2 form that the house works with; raises `WireError` for an amount or network that makes no sense."""
    if isinstance(requirement, PaymentRequirementsV1):
        return from_v1(requirement)
    check_amount(requirement.amount)
    return requirement


def check_amount(amount: str) -> int:
    """Atomic units from their text form; raises `WireError` for signs, points, blanks and other digits."""
    if not ATOMIC_AMOUNT.fullmatch(amount):
        raise WireError(f"not an atomic amount: {amount[:80]!r}", reason=Reason.INVALID_REQUIREMENTS, part="amount")
    return int(amount)


def from_v1(requirement: PaymentRequirementsV1) -> PaymentRequirements:
    """A v1 requirement in v2 form: amount renamed, network as CAIP-2."""
    check_amount(requirement.max_amount_required)
    return PaymentRequirements(
        scheme=requirement.scheme,
        network=caip2(requirement.network),
        asset=requirement.asset,
        amount=requirement.max_amount_required,
        pay_to=requirement.pay_to,
        max_timeout_seconds=requirement.max_timeout_seconds,
        extra=requirement.extra or {},
    )


@dataclass(frozen=True, slots=True)
class Resource:
    """What is sold: its URL and what a person or a catalogue should know about it."""

    url: str
    description: str = ""
    mime_type: str = "application/json"
    output_schema: dict[str, object] | None = None


def to_v1(requirement: PaymentRequirements, resource: Resource) -> PaymentRequirementsV1:
    """The same requirement in v1 form, where each entry carries the resource."""
    return PaymentRequirementsV1(
        scheme=requirement.scheme,
        network=v1_name(requirement.network),
        max_amount_required=requirement.amount,
        resource=resource.url,
        description=resource.description,
        mime_type=resource.mime_type,
        pay_to=requirement.pay_to,
        max_timeout_seconds=requirement.max_timeout_seconds,
        asset=requirement.asset,
        output_schema=resource.output_schema,
        extra=requirement.extra,
    )


@dataclass(frozen=True, slots=True)
class Presented:
    """A payment as a client presents it, whatever the version.

    `network` is CAIP-2. `scheme_payload` belongs to the scheme.
    """

    version: int
    scheme: str
    network: str
    payload: AnyPayload
    scheme_payload: Mapping[str, object]
    extensions: Mapping[str, object] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Equal for two presentations of the very same payment, whatever their key order or encoding.

        Raises `WireError` for a payment without a canonical form. Made anew each time: only sellers need it, once.
        """
        try:
            return content_hash(self.payload)
        except (InvalidInput, UnicodeError) as error:
            raise WireError(f"the payment has no canonical form: {error}") from error

    @property
    def accepted(self) -> PaymentRequirements | None:
        """The requirement the client says it meets (v2 only)."""
        return self.payload.accepted if isinstance(self.payload, PaymentPayload) else None

    @property
    def identifier(self) -> str | None:
        """The client's payment-identifier; raises `WireError` when it is there and malformed."""
        extension = self.extensions.get(PAYMENT_IDENTIFIER)
        info = extension.get("info") if isinstance(extension, Mapping) else None
        value = info.get("id") if isinstance(info, Mapping) else None
        if value is None:
            return None
        if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
            raise WireError("payment-identifier must be 16 to 128 of A-Z a-z 0-9 _ -", part="extensions")
        return value


def present(payload: AnyPayload) -> Presented:
    """The internal form of a payment payload of either version."""
    return Presented(
        version=payload.x402_version,
        scheme=payload.get_scheme(),
        network=caip2(payload.get_network()),
        payload=payload,
        scheme_payload=payload.payload,
        extensions=(payload.extensions or {}) if isinstance(payload, PaymentPayload) else {},
    )


def read_payment(signature: str | None, legacy: str | None) -> Presented | None:
    """The payment in a request's ``PAYMENT-SIGNATURE`` or ``X-PAYMENT`` header, or None without either."""
    if signature:
        return present(read_payload(decode_header(signature, part=PAYMENT_SIGNATURE)))
    if legacy:
        return present(read_payload(decode_header(legacy, part=X_PAYMENT)))
    return None


def read_required(header: str | None, body: bytes) -> AnyRequired:
    """What a 402 asks for: v2 from the header, else v1 (or a v2 object some servers put there) from the body."""
    value = (
        decode_header(header, part=PAYMENT_REQUIRED)
        if header
        else parse_object(body, limit=MAX_BODY_BYTES, part="402 body")
    )
    model: type[AnyRequired] = PaymentRequiredV1 if version_of(value) == 1 else PaymentRequired
    required = _read(model, value, "paymentRequired", Reason.INVALID_REQUIREMENTS)
    if not 1 <= len(required.accepts) <= MAX_ACCEPTS:
        raise WireError(f"accepts must have 1 to {MAX_ACCEPTS} entries", reason=Reason.INVALID_REQUIREMENTS)
    return required


def read_settlement(response: str | None, legacy: str | None) -> SettleResponse | None:
    """The settlement in a response's ``PAYMENT-RESPONSE`` or ``X-PAYMENT-RESPONSE`` header."""
    value = response or legacy
    if not value:
        return None
    return _read(SettleResponse, decode_header(value, part=PAYMENT_RESPONSE), PAYMENT_RESPONSE)
