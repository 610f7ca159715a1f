"""A library raises Python's recursion limit on import, at which hostile JSON kills a process: ours put it back."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS_ALL = """
import importlib, pkgutil, sys
import agentnexus
for module in pkgutil.walk_packages(agentnexus.__path__, "agentnexus."):
    if not module.name.endswith("__main__") and "migrations." not in module.name:
        importlib.import_module(module.name)
assert "eth_account" in sys.modules
print(sys.getrecursionlimit())
"""
READS_A_TOWER = """
import json
import agentnexus.ledger.wallet_signatures
try:
    json.loads("[" * 200_000)
except RecursionError:
    print("refused")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_importing_the_whole_program_leaves_the_limit_where_python_has_it() -> None:
    done = python(IMPORTS_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1000


@pytest.mark.parametrize("first", ["", "import eth_account\n"])
def test_a_tower_of_json_is_an_error_and_not_the_end_of_the_process(first: str) -> None:
    done = python(first + READS_A_TOWER)
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr
