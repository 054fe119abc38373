"""The house rules that a machine can hold: small files, small functions, short lines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 5


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_fits_a_head(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    faults = []
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if _body_lines(function) > MAX_FUNCTION_LINES:
            faults.append(f"{function.name} is longer than {MAX_FUNCTION_LINES} lines")
        positional = [a for a in function.args.args if a.arg not in ("self", "cls")]
        if len(positional) > MAX_PARAMETERS:
            faults.append(f"{function.name} has more than {MAX_PARAMETERS} positional parameters")
    assert not faults


def test_laboratories_are_built_below_tests_lab_only() -> None:
    """There they have the machine to themselves: two at once would measure each other."""
    tests = ROOT / "tests"
    others = [p for p in tests.rglob("*.py") if not p.is_relative_to(tests / "lab")]
    module = "openmse.lab." + "laboratory"
    assert [str(p.relative_to(ROOT)) for p in others if module in p.read_text()] == []
