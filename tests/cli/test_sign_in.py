"""`nexus sign-in` and `sign-out`: what is signed is looked at first, and wrong use is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentnexus.cli.sign_in import check_message
from agentnexus.core.errors import NotAllowed
from tests.cli.test_cli import nexus

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def message(domain: str = "node.example", address: str = ADDRESS) -> str:
    return f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\nNonce: 1"


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("node.example", "https://node.example"),
        ("node.example:8443", "https://node.example:8443/"),
        ("localhost:5000", "http://127.0.0.1:5001"),
    ],
)
def test_a_message_of_this_node_is_signed(domain: str, url: str) -> None:
    check_message(message(domain), ADDRESS.lower(), url)


@pytest.mark.parametrize(
    "text",
    [
        message("evil.example"),
        message("node.example.evil.example"),
        message("node.example@evil.example"),
        message("localhost:5000"),
        message(address="0x" + "00" * 20),
        "Send all your money",
        "",
        f"x\n{message()}",
    ],
)
def test_a_message_for_another_place_or_wallet_is_not(text: str) -> None:
    with pytest.raises(NotAllowed):
        check_message(text, ADDRESS, "https://node.example")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--email", "a@b.example", "--key-file", __file__),
        ("--challenge", "x"),
        ("--challenge", "x", "--code", "1", "--email", "a@b.example"),
        ("--json",),
        ("--key-file", "absent.json"),
    ],
)
def test_wrong_use_is_said_before_any_node_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = nexus("sign-in", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout


def test_nobody_signed_in_is_no_failure(tmp_path: Path) -> None:
    done = nexus("sign-out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nobody is signed in here\n")


def test_a_node_that_is_gone_is_forgotten_all_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "sign-in.json"
    path.write_text('{"http://127.0.0.1:1": {"user": "ada", "token": "t"}}')
    path.chmod(0o600)
    done = nexus("sign-out", cwd=tmp_path, NEXUS_HOME=str(home), NEXUS_API_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert path.read_text() == "{}"
