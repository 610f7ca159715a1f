"""Errors as JSON and back: of the class that owns the code, whatever other rooms have made of that class."""

from __future__ import annotations

import json

import pytest

from agentnexus.core import errors
from agentnexus.core.errors import ErrorCode, NexusError, SellerFailed, error_class, error_from_json
from agentnexus.markets.x402.wire import WireError
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Refusal, SettlementRefused

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, NexusError) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_the_family_survives_json(kind: type[NexusError]) -> None:
    error = kind("what happened", next_step="what to do", field="f", limit=3)
    again = error_from_json(json.loads(json.dumps(error.to_json())))
    assert type(again) is kind
    assert (again.message, again.next_step, again.details) == (error.message, error.next_step, error.details)
    assert str(again) == "what happened"


def test_every_code_has_its_class() -> None:
    assert {str(kind.code) for kind in KINDS} == {str(code) for code in ErrorCode}
    assert all(error_class(kind.code) is kind for kind in KINDS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ChainUnavailable("no answer", maybe_sent=True), errors.Unavailable),
        (NodeError("eth_call", -32000, "busy"), errors.Unavailable),
        (SettlementRefused(Refusal.EXPIRED, "too late", transaction="0x1"), errors.PaymentFailed),
        (WireError("not base64", part="X-PAYMENT"), errors.InvalidInput),
    ],
)
def test_an_error_of_another_room_comes_back_as_the_class_it_is_a_kind_of(
    error: NexusError, kind: type[NexusError]
) -> None:
    again = error_from_json(error.to_json())
    assert type(again) is kind
    assert (again.message, again.next_step, again.details) == (error.message, error.next_step, error.details)


def test_a_code_of_a_newer_version_becomes_what_the_caller_says() -> None:
    body = {"code": "from_the_future", "message": "m"}
    assert type(error_from_json(body)) is NexusError
    assert type(error_from_json(body, SellerFailed)) is SellerFailed
    assert error_class("from_the_future") is None
    assert error_class(None) is None


@pytest.mark.parametrize(
    "details", [{"message": "m2", "next_step": "n2", "self": 1, "kind": 2}, {}, None, "text", ["list"], 3]
)
def test_details_of_any_shape_do_no_harm(details: object) -> None:
    again = error_from_json({"code": "conflict", "message": "m", "next_step": "n", "details": details})
    assert (again.message, again.next_step) == ("m", "n")
    assert again.details == (details if isinstance(details, dict) else {})


def test_a_body_with_nothing_in_it_is_still_an_error() -> None:
    again = error_from_json({})
    assert (type(again), again.message, again.next_step) == (NexusError, "", "")
    assert again.to_json() == {"code": "internal", "message": ""}


def test_what_has_no_value_is_left_out_of_the_details() -> None:
    assert NexusError("m", limit=None, left="0").to_json() == {
        "code": "internal", "message": "m", "details": {"left": "0"},
    }  # fmt: skip
