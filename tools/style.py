"""Checks the shape of the code against the bars of docs/architecture.md; prints what is over a bar and fails."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = ("src", "agents")
SKIPPED = {"migrations", "vendor", "__pycache__"}
FILE_LINES_MAX = 700
FUNCTION_LINES_LONG = 50
FUNCTION_LINES_MAX = 100
LONG_SHARE_MAX = 0.03
MEDIAN_FILE = (80, 200)
PER_THOUSAND = {"Any": 5.0, "suppressions": 2.0, "broad excepts": 0.5, "open notes": 0.0}
SUPPRESSION = re.compile(r"#\s*(type:\s*ignore|noqa)(?P<rest>.*)")
OPEN_NOTE = re.compile(r"#.*\b(TO" + r"DO|FIX" + r"ME)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Exit code 0 when every bar is kept."""
    faults: list[str] = []
    counts = dict.fromkeys(PER_THOUSAND, 0)
    sizes: list[int] = []
    functions: list[int] = []
    for path in sorted(p for place in PLACES for p in (ROOT / place).rglob("*.py") if not SKIPPED & set(p.parts)):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if not tree.body:
            continue
        name = str(path.relative_to(ROOT))
        sizes.append(text.count("\n"))
        faults += file_faults(name, text, tree)
        functions += [length(node) for node in ast.walk(tree) if isinstance(node, Function)]
        count(text, tree, counts)
    faults += tree_faults(sizes, functions, counts)
    for fault in faults:
        sys.stdout.write(fault + "\n")
    return 1 if faults else 0


def file_faults(name: str, text: str, tree: ast.Module) -> list[str]:
    """What is wrong in one file alone."""
    faults = []
    if text.count("\n") > FILE_LINES_MAX:
        faults.append(f"{name}: {text.count(chr(10))} lines, at most {FILE_LINES_MAX}")
    if ast.get_docstring(tree) is None:
        faults.append(f"{name}: no module docstring")
    for node in ast.walk(tree):
        if isinstance(node, Function) and length(node) > FUNCTION_LINES_MAX:
            faults.append(f"{name}:{node.lineno}: {node.name} has {length(node)} lines, at most {FUNCTION_LINES_MAX}")
    for number, line in enumerate(text.splitlines(), 1):
        found = SUPPRESSION.search(line)
        if found and not re.match(r"[:\[]\s*\S+?\]?.*\S\s+-\s+\S|\[\S+\]\s+#\s*\S", found["rest"]):
            faults.append(f"{name}:{number}: a suppression needs its code and a reason")
    return faults


def tree_faults(sizes: list[int], functions: list[int], counts: dict[str, int]) -> list[str]:
    """What is wrong over all files."""
    faults = []
    low, high = MEDIAN_FILE
    if not low <= (median := statistics.median(sizes)) <= high:
        faults.append(f"the median file has {median:.0f} lines, wanted {low}-{high}")
    share = sum(n > FUNCTION_LINES_LONG for n in functions) / len(functions)
    if share > LONG_SHARE_MAX:
        faults.append(f"{share:.1%} of functions are over {FUNCTION_LINES_LONG} lines, at most {LONG_SHARE_MAX:.0%}")
    for name, bar in PER_THOUSAND.items():
        rate = counts[name] * 1000 / sum(sizes)
        if rate > bar:
            faults.append(f"{rate:.1f} {name} per thousand lines, at most {bar}")
    tests = sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / "tests").rglob("*.py"))
    if tests < sum(sizes):
        faults.append(f"{tests} lines of tests for {sum(sizes)} lines of code, at least as many wanted")
    return faults


def length(node: Function) -> int:
    """Lines of a function, decorators included."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def count(text: str, tree: ast.Module, counts: dict[str, int]) -> None:
    """Add one file to the counts that are judged per thousand lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "Any":
            counts["Any"] += 1
        if isinstance(node, ast.ExceptHandler):
            caught = getattr(node.type, "id", None)
            counts["broad excepts"] += node.type is None or caught in ("Exception", "BaseException")
    counts["suppressions"] += sum(bool(SUPPRESSION.search(line)) for line in text.splitlines())
    counts["open notes"] += sum(bool(OPEN_NOTE.search(line)) for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
