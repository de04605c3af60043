"""A function has at most 60 lines, a module at most 300.

Public functions of the Python API describe every parameter, so their signature and docstring do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION, LONGEST_MODULE = 60, 300


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "harness").rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def length(function: ast.FunctionDef | ast.AsyncFunctionDef, *, body_alone: bool) -> int:
    assert function.end_lineno is not None
    if not body_alone:
        return function.end_lineno - function.lineno + 1
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - statements[0].lineno + 1 if statements else 0


def test_no_function_is_long() -> None:
    long = [
        (name, node.name, lines)
        for name, text in modules()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := length(node, body_alone=name.startswith("harness/api/"))) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_module_is_long() -> None:
    assert [(name, len(text.splitlines())) for name, text in modules() if len(text.splitlines()) > LONGEST_MODULE] == []
