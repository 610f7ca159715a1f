"""The codec: golden vectors of both versions, and everything hostile a header can hold."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.x402.support import PAYEE, TOKEN, requirement
from x402.http.utils import decode_payment_required_header, decode_payment_signature_header
from x402.schemas import PaymentRequired, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.exact import read_authorization
from agentnexus.markets.x402.kinds import requirement_for
from agentnexus.markets.x402.networks import V1_CHAIN_IDS, caip2, evm_chain_id, v1_name
from agentnexus.markets.x402.pricing import PricedRoute, demand
from agentnexus.markets.x402.wire import (
    MAX_ACCEPTS,
    MAX_HEADER_BYTES,
    Resource,
    WireError,
    check_amount,
    decode_header,
    encode_header,
    from_v1,
    normal,
    present,
    read_payload,
    read_payment,
    read_required,
    read_settlement,
    to_v1,
)

AUTHORIZATION = {
    "from": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
    "to": PAYEE,
    "value": "20000",
    "validAfter": "1740672089",
    "validBefore": "1740672154",
    "nonce": "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480",
}
PAYLOAD = {"signature": "0x" + "2d" * 65, "authorization": AUTHORIZATION}
ACCEPTED = {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "20000",
    "asset": TOKEN,
    "payTo": PAYEE,
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
V2 = {"x402Version": 2, "accepted": ACCEPTED, "payload": PAYLOAD}
V1 = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": PAYLOAD}
GOLDEN_V1 = (
    "eyJ4NDAyVmVyc2lvbiI6MSwic2NoZW1lIjoiZXhhY3QiLCJuZXR3b3JrIjoiYmFzZS1zZXBvbGlhIiwicGF5bG9hZCI6eyJzaWduYXR1cmUiOiIw"
)


def header(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_a_v1_payment_encodes_to_its_golden_header() -> None:
    assert encode_header(V1).startswith(GOLDEN_V1)


def test_both_versions_of_one_payment_read_alike() -> None:
    second, first = read_payment(header(V2), None), read_payment(None, header(V1))
    assert second is not None
    assert first is not None
    assert (second.version, first.version) == (2, 1)
    assert second.network == first.network == "eip155:84532"
    assert read_authorization(second) == read_authorization(first)
    assert first.accepted is None
    assert second.accepted is not None


def test_the_official_codec_reads_what_we_write_and_writes_what_we_read() -> None:
    payload = decode_payment_signature_header(encode_header(V2))
    assert present(payload).hash == present(read_payload(V2)).hash
    route = PricedRoute("GET /x", [requirement()], description="d")
    made = demand(route, [requirement()], "http://h/x", "payment required")
    official = decode_payment_required_header(made.header.decode())
    assert isinstance(official, PaymentRequired)
    assert official.accepts[0].amount == "20000"
    assert PaymentRequiredV1.model_validate_json(made.body).accepts[0].max_amount_required == "20000"


def test_no_payment_header_is_no_payment() -> None:
    assert read_payment(None, None) is None
    assert read_payment("", "") is None


def test_v2_wins_over_v1_when_a_client_sends_both() -> None:
    both = read_payment(header(V2), header(V1))
    assert both is not None
    assert both.version == 2


def test_the_hash_ignores_key_order_and_changes_with_any_value() -> None:
    reordered = dict(reversed(list(V2.items())))
    assert present(read_payload(V2)).hash == present(read_payload(reordered)).hash
    other = {**V2, "payload": {**PAYLOAD, "signature": "0x" + "2e" * 65}}
    assert present(read_payload(V2)).hash != present(read_payload(other)).hash


def test_base64_without_padding_is_read() -> None:
    text = header({"a": 1}).rstrip("=")
    assert decode_header(text, part="H") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("%%%%", "not base64"),
        ("e30\u00e9", "not base64"),
        (header([1]), "not a JSON object"),
        (header("text"), "not a JSON object"),
        (base64.b64encode(b"{").decode(), "not JSON"),
        (base64.b64encode(b'{"a":NaN}').decode(), "NaN is not JSON"),
        (base64.b64encode(b'{"a":1,"a":2}').decode(), "a key appears twice"),
        (base64.b64encode(b'{"p":{"to":"x","to":"y"}}').decode(), "a key appears twice"),
        (base64.b64encode(b'{"a":"\xff"}').decode(), "not JSON"),
        (base64.b64encode(b"[" * 12_000).decode(), "not JSON"),
        ("e" * (MAX_HEADER_BYTES * 2), "decodes to more than"),
    ],
)
def test_a_header_that_is_not_one_json_object_is_refused_by_name(text: str, what: str) -> None:
    with pytest.raises(WireError, match=what) as caught:
        decode_header(text, part="PAYMENT-SIGNATURE")
    assert caught.value.http_status == 400
    assert "PAYMENT-SIGNATURE" in caught.value.message


def test_the_size_limit_counts_decoded_bytes() -> None:
    exact_size = {"a": "x" * (MAX_HEADER_BYTES - len('{"a": ""}'))}
    assert decode_header(header(exact_size), part="H") == exact_size
    with pytest.raises(WireError, match=r"more than|larger than"):
        decode_header(header({"a": "x" * MAX_HEADER_BYTES}), part="H")


@pytest.mark.parametrize("version", [0, 3, "2", 2.0, True, None, [2]])
def test_any_other_version_is_refused_in_the_protocols_words(version: object) -> None:
    with pytest.raises(WireError) as caught:
        read_payload({**V2, "x402Version": version})
    assert caught.value.reason == Reason.INVALID_VERSION


@pytest.mark.parametrize("field", ["accepted", "payload"])
def test_a_v2_payment_lacking_a_part_names_it(field: str) -> None:
    with pytest.raises(WireError, match=field):
        read_payload({name: value for name, value in V2.items() if name != field})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"from": "0x12"}, "from"),
        ({"to": None}, "to"),
        ({"value": "-1"}, "value"),
        ({"value": "1.5"}, "value"),
        ({"value": 20000}, "value"),
        ({"value": "1" + "0" * 78}, "value"),
        ({"value": "\u0661"}, "value"),
        ({"validBefore": "soon"}, "validBefore"),
        ({"nonce": "0x1234"}, "nonce"),
    ],
)
def test_a_malformed_authorization_names_its_field(change: dict[str, object], field: str) -> None:
    payload = {"signature": PAYLOAD["signature"], "authorization": {**AUTHORIZATION, **change}}
    with pytest.raises(WireError) as caught:
        read_authorization(present(read_payload({**V2, "payload": payload})))
    assert field in str(caught.value.details["field"])


@pytest.mark.parametrize("value", [2**53 + 1, "\ud800"])
def test_values_without_a_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(WireError, match="canonical"):
        _ = present(read_payload({**V2, "payload": {"authorization": value}})).hash


@pytest.mark.parametrize("signature", [None, "", "0x", "0xzz", 5, "0x" + "00" * 9000])
def test_a_malformed_signature_has_its_own_reason(signature: object) -> None:
    payload = {**PAYLOAD, "signature": signature}
    with pytest.raises(WireError) as caught:
        read_authorization(present(read_payload({**V2, "payload": payload})))
    assert caught.value.reason == Reason.INVALID_SIGNATURE


def test_a_permit2_payload_is_not_taken_for_an_authorization() -> None:
    payload = {"signature": "0x" + "11" * 65, "permit2Authorization": {}}
    with pytest.raises(WireError, match="authorization"):
        read_authorization(present(read_payload({**V2, "payload": payload})))


@pytest.mark.parametrize("amount", ["", "-5", "+5", "1e6", " 5", "5 ", "0x10", "1.0", "9" * 79, "٣"])
def test_amounts_are_plain_digits_only(amount: str) -> None:
    with pytest.raises(WireError, match="not an atomic amount"):
        check_amount(amount)


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_amounts_survive_both_versions(amount: int) -> None:
    asked = requirement().model_copy(update={"amount": str(amount)})
    assert from_v1(to_v1(asked, Resource("http://h/x"))) == asked


@given(st.binary(max_size=400))
def test_any_bytes_in_a_header_are_read_or_refused_but_never_crash(data: bytes) -> None:
    with contextlib.suppress(WireError):
        read_payment(base64.b64encode(data).decode(), None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_in_place_of_a_payload_is_refused_but_never_crashes(value: object) -> None:
    with pytest.raises(WireError):
        read_authorization(present(read_payload({**V2, "payload": {"authorization": value, "signature": value}})))


@pytest.mark.parametrize(("name", "chain_id"), sorted(V1_CHAIN_IDS.items()))
def test_every_v1_name_goes_to_caip2_and_back(name: str, chain_id: int) -> None:
    assert caip2(name) == f"eip155:{chain_id}"
    assert v1_name(caip2(name)) == name
    assert evm_chain_id(caip2(name)) == chain_id


def test_our_v1_names_are_those_of_the_official_package() -> None:
    from x402.mechanisms.evm.v1.constants import V1_NETWORK_CHAIN_IDS

    assert V1_CHAIN_IDS == V1_NETWORK_CHAIN_IDS


def test_networks_that_v1_never_named_keep_their_caip2_id() -> None:
    assert v1_name("eip155:31337") == "eip155:31337"
    assert caip2("eip155:31337") == "eip155:31337"


@pytest.mark.parametrize("network", ["", "eip155:", "eip155:x", "solana:abc", "eip155:1_0", "eip155:" + "1" * 40])
def test_what_is_not_an_evm_network_has_no_chain_id(network: str) -> None:
    with pytest.raises(InvalidInput):
        evm_chain_id(network)


def test_an_unknown_v1_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown x402 v1 network"):
        caip2("moonbase")


def test_terms_come_from_the_header_else_from_the_body() -> None:
    made = demand(PricedRoute("/x", [requirement()]), [requirement()], "http://h/x", "payment required")
    assert read_required(made.header.decode(), b"").x402_version == 2
    legacy = read_required(None, made.body)
    assert isinstance(legacy, PaymentRequiredV1)
    assert legacy.accepts[0].resource == "http://h/x"
    in_body = read_required(None, base64.b64decode(made.header))
    assert in_body.x402_version == 2


@pytest.mark.parametrize("count", [0, MAX_ACCEPTS + 1])
def test_a_402_with_no_or_endless_terms_is_refused(count: int) -> None:
    asked = requirement().model_dump(mode="json", by_alias=True)
    with pytest.raises(WireError, match="accepts must have"):
        read_required(header({"x402Version": 2, "accepts": [asked] * count}), b"")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"x402Version":1}', b"[]", b"x" * 100_000])
def test_a_402_that_is_not_x402_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        read_required(None, body)


def test_a_settlement_is_read_from_either_header() -> None:
    settled = SettleResponse(success=True, transaction="0x1", network="eip155:1")
    for pair in ((encode_header(settled), None), (None, encode_header(settled))):
        found = read_settlement(*pair)
        assert found is not None
        assert found.transaction == "0x1"
    assert read_settlement(None, None) is None


@pytest.mark.parametrize("identifier", ["short", "x" * 129, "with blank in it!", 5, {"a": 1}])
def test_a_malformed_payment_identifier_is_refused(identifier: object) -> None:
    extensions = {"payment-identifier": {"info": {"id": identifier}}}
    with pytest.raises(WireError, match="payment-identifier"):
        _ = present(read_payload({**V2, "extensions": extensions})).identifier


@pytest.mark.parametrize("extensions", [{}, {"payment-identifier": 5}, {"payment-identifier": {"info": None}}])
def test_no_payment_identifier_is_fine(extensions: dict[str, object]) -> None:
    assert present(read_payload({**V2, "extensions": extensions})).identifier is None


def test_a_v2_payment_meets_only_the_very_requirement_it_names() -> None:
    asked = requirement(network="eip155:84532")
    presented = present(read_payload(V2))
    assert requirement_for(presented, [asked]) is asked
    for change in ({"amount": "1"}, {"pay_to": TOKEN}, {"asset": PAYEE}, {"network": "eip155:1"}, {"scheme": "upto"}):
        assert requirement_for(presented, [asked.model_copy(update=change)]) is None


def test_a_v1_payment_meets_the_entry_with_its_signed_payee_and_value() -> None:
    cheap, right = requirement(1, network="eip155:84532"), requirement(network="eip155:84532")
    presented = present(read_payload(V1))
    assert requirement_for(presented, [cheap, right]) is right
    assert requirement_for(presented, [cheap]) is cheap  # the facilitator then says what is wrong with it
    assert requirement_for(presented, [requirement()]) is None


def test_facilitator_requirements_of_v1_become_v2() -> None:
    asked = requirement(network="eip155:84532")
    legacy = to_v1(asked, Resource("http://h/x", "d"))
    assert isinstance(legacy, PaymentRequirementsV1)
    assert legacy.network == "base-sepolia"
    assert normal(legacy) == asked
    assert normal(asked) is asked
    with pytest.raises(WireError):
        normal(asked.model_copy(update={"amount": "1.5"}))
