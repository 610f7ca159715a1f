"""A node that lies to a key of one's own: about gas, tokens, and the code that the key's address is to obey."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentnexus.cli.approving import Asked, asset_of, in_words, require_purchase, require_transfer, transfer, trusted
from agentnexus.cli.operations import How, answered
from agentnexus.core.errors import NotAllowed
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.deployment import expected_address
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, to_hex
from agentnexus.rails.evm.networks import NETWORKS, NetworkKind
from agentnexus.rails.evm.paymaster.senders import implementation_of
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.wallets.signing import typed_data
from tests.cli.test_approving import BOB, CHAIN, ESCROW, KEY, ONE, OWN, SEND, TOKENS, USDC, operation, purchase, request

BASE, BASE_USDC = 8453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
ALL_OF_IT = {"max_fee_per_gas": 10**12, "pre_verification_gas": 3 * 10**6}


def on_base(made: UserOperation) -> Asked:
    return Asked.read({"hash": to_hex(made.hash(BASE)), "typed_data": typed_data(made, BASE)})


def test_an_operation_whose_gas_takes_the_accounts_coin_is_not_signed() -> None:
    """The calls are right; what they cost goes to whoever brings them on chain."""
    asked = Asked.read(request(operation(**ALL_OF_IT)))
    asked.require_calls([SEND])
    assert asked.gas_wei == (90_000 + 3 * 10**6) * 10**12
    with pytest.raises(NotAllowed, match=r"may pay 3\.09 of its coin for gas, and at most 0\.01"):
        asked.require_gas("0.01")
    asked.require_gas("3.09")


def test_all_three_limits_count_at_the_highest_price() -> None:
    made = operation(
        verification_gas_limit=5,
        call_gas_limit=7,
        pre_verification_gas=11,
        max_fee_per_gas=3,
        max_priority_fee_per_gas=2,
    )
    assert Asked.read(request(made)).gas_wei == (5 + 7 + 11) * 3


def test_gas_that_a_paymaster_pays_takes_no_coin() -> None:
    made = operation(**ALL_OF_IT, paymaster=BOB, paymaster_verification_gas_limit=10**6)
    asked = Asked.read(request(made))
    assert asked.gas_wei == 0
    asked.require_gas("0")


def key_file(folder: Path) -> Path:
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_text("0x" + "07" * 32)
    return path


async def test_nothing_is_signed_for_gas_beyond_what_was_allowed_whatever_else_is_agreed(tmp_path: Path) -> None:
    how = How(key_file(tmp_path), None, wait=False, yes=True, as_json=True)
    with pytest.raises(NotAllowed, match="of its coin for gas"):
        await answered(request(operation(**ALL_OF_IT)), how, lambda _asked: None)
    assert await answered(request(operation()), how, lambda _asked: None)
    assert await answered(request(operation(**ALL_OF_IT)), replace(how, max_gas="4"), lambda _asked: None)


def delegating_to(delegate: str) -> UserOperation:
    return operation(sender=KEY.public_id, delegation=DelegationSignature(CHAIN, delegate, 3, 0, 0, 0))


async def test_a_key_obeys_no_code_but_that_of_our_accounts_even_unasked(tmp_path: Path) -> None:
    how = How(key_file(tmp_path), None, wait=False, yes=True, as_json=True)
    ours = implementation_of(expected_address("AccountFactory"))
    assert set(await answered(request(delegating_to(ours)), how, lambda _asked: None)) == {"signature", "delegation"}
    for other in (BOB, ESCROW, expected_address("AccountFactory")):
        with pytest.raises(NotAllowed, match="not that of our accounts"):
            await answered(request(delegating_to(other)), how, lambda _asked: None)


def test_where_money_is_real_usdc_is_its_issuers_whatever_a_node_calls_so() -> None:
    good = [replace(each, target=BASE_USDC) if each.target == USDC else each for each in purchase()]
    require_purchase(on_base(operation(*good)), token=BASE_USDC, amount_atomic=40_000, rights=ONE)
    with pytest.raises(NotAllowed, match="not the USDC of this chain"):
        require_purchase(on_base(operation(*purchase())), token=USDC, amount_atomic=40_000, rights=ONE)
    asked = on_base(operation(transfer(BASE_USDC, BOB, 1_500_000)))
    require_transfer(asked, BOB, "1.5", "USDC", TOKENS)
    with pytest.raises(NotAllowed, match="something else"):
        require_transfer(on_base(operation()), BOB, "1.5", "USDC", TOKENS)


def test_a_node_that_names_no_token_does_not_make_usdc_the_chains_coin() -> None:
    """Five USDC would be five ETH."""
    coin = Asked.read(request(operation(Call(BOB, b"", 5 * 10**18))))
    with pytest.raises(NotAllowed, match="how many decimals USDC has"):
        require_transfer(coin, BOB, "5", "USDC", {})
    require_transfer(coin, BOB, "5", "eth", {})
    assert asset_of("POL", {}, 137) == (ZERO_ADDRESS, 18)
    with pytest.raises(NotAllowed, match="POL has on base"):
        asset_of("POL", {}, BASE)


def test_a_chain_of_real_money_without_a_known_usdc_has_none() -> None:
    with pytest.raises(NotAllowed, match="USDC has on bsc"):
        asset_of("USDC", TOKENS, 56)
    assert trusted(TOKENS, 56) == {}
    assert trusted(TOKENS, CHAIN) == TOKENS


def test_other_tokens_are_not_told_as_usdc_where_money_is_real() -> None:
    assert in_words(SEND, OWN, trusted(TOKENS, BASE)).startswith("send 1500000 atomic units")
    assert in_words(transfer(BASE_USDC, BOB, 125 * 10**4), OWN, trusted({}, BASE)) == f"send 1.25 USDC to {BOB}"


def test_play_money_has_no_issuer_here() -> None:
    for network in NETWORKS.values():
        assert not network.usdc or (network.kind is NetworkKind.MAINNET and len(network.usdc) == 42)
