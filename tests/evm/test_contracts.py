"""The committed artifacts are what the sources compile to; skipped only where the compiler is not installed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from eth_abi import encode

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.encoding import selector
from agentnexus.rails.evm.errors import Refusal, Reverted
from agentnexus.rails.evm.token import Token, paid, refusal_of
from agentnexus.rails.evm.typed_data import Domain

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
FORGE = ROOT / f"node_modules/@foundry-rs/forge-{platform.system().lower()}-{MACHINE}/bin/forge"
BUILD_SECONDS = 600  # a cold build takes a minute of CPU
needs_forge = pytest.mark.skipif(not FORGE.is_file(), reason="forge comes with `npm ci`")


@needs_forge
@pytest.mark.timeout(BUILD_SECONDS)
def test_the_committed_artifacts_are_a_fresh_build() -> None:
    build: list[str | Path] = [FORGE, "build", "--skip", "test"]
    subprocess.run(build, cwd=ROOT / "contracts", check=True, capture_output=True, timeout=BUILD_SECONDS)
    checked = subprocess.run(
        [sys.executable, ROOT / "contracts/tools/export", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@needs_forge
@pytest.mark.timeout(BUILD_SECONDS)
def test_the_contracts_own_tests_pass() -> None:
    tested = subprocess.run(
        [FORGE, "test"],
        cwd=ROOT / "contracts",
        env=os.environ | {"FOUNDRY_PROFILE": "quick"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert tested.returncode == 0, tested.stdout


def test_the_npm_lock_is_whole_and_names_no_registry() -> None:
    """Foundry's own umbrella packages name binaries of other platforms that a registry may lack, and `npm ci` then
    refuses the lock; so the binaries are taken directly, as optional dependencies.
    """
    wanted = json.loads((ROOT / "package.json").read_text())
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for name in (*wanted["devDependencies"], *wanted["optionalDependencies"]):
        assert packages[f"node_modules/{name}"]["integrity"]
    assert not any("resolved" in package for package in packages.values())


def test_an_artifact_nobody_compiled_is_not_found() -> None:
    with pytest.raises(NotFound, match="no compiled contract"):
        load_artifact("Nothing")


def test_usdc_has_both_forms_of_every_signed_call() -> None:
    functions = [each for each in load_artifact("TestUSDC").abi if each["type"] == "function"]
    for name in ("transferWithAuthorization", "receiveWithAuthorization", "cancelAuthorization", "permit"):
        assert sum(each["name"] == name for each in functions) == 2


async def test_the_domain_is_read_from_the_contract_and_claims_are_checked(chain: DevelopmentChain) -> None:
    usdc = Token(chain.rpc, chain.usdc.reference, chain.chain_id)
    assert await usdc.domain() == Domain("USD Coin", "2", 31337, chain.usdc.reference)
    with pytest.raises(InvalidInput, match="version '1'"):
        await usdc.domain("USD Coin", "1")


async def test_a_contract_without_signed_transfers_is_no_token_for_us(chain: DevelopmentChain) -> None:
    nothing = Token(chain.rpc, "0x" + "44" * 20, chain.chain_id)
    with pytest.raises(InvalidInput):
        await nothing.domain("USD Coin", "2")
    with pytest.raises(InvalidInput):
        await nothing.balance(chain.accounts["buyer"].address)


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("FiatTokenV2: authorization is used or canceled", Refusal.NONCE_USED),
        ("FiatTokenV2: authorization is not yet valid", Refusal.NOT_YET_VALID),
        ("FiatTokenV2: authorization is expired", Refusal.EXPIRED),
        ("ERC20: transfer amount exceeds balance", Refusal.INSUFFICIENT_BALANCE),
        ("FiatTokenV2: invalid signature", Refusal.BAD_SIGNATURE),
        ("Blacklistable: account is blacklisted", Refusal.WOULD_REVERT),
    ],
)
def test_circles_refusals_are_understood_in_words_and_in_bytes(message: str, refusal: Refusal) -> None:
    assert refusal_of(Reverted(f"execution reverted: {message}")) is refusal
    data = selector("Error(string)") + encode(["string"], [message])
    assert refusal_of(Reverted("execution reverted", data)) is refusal


def test_no_logs_pay_nobody() -> None:
    assert not paid((), "0x" + "11" * 20, payer="0x", payee="0x", value=1)
