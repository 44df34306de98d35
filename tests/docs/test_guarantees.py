"""docs/guarantees.md: every promise names tests, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)`")
MODULE = re.compile(r"`(tests/[\w/]+\.py|tests/[\w/]+/)`")


def names(path: Path) -> set[str]:
    """The tests of a file, those in classes as ``Class::test``, and what is a test by assignment."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_every_named_test_exists() -> None:
    named = TEST.findall(PAGE)
    assert len(named) > 20
    missing = [f"{path}::{name}" for path, name in named if name not in names(ROOT / path)]
    assert not missing
    assert not [path for path in MODULE.findall(PAGE) if not (ROOT / path).exists()]


def test_every_promise_names_a_test() -> None:
    tables = re.findall(r"^\| promise \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= 15
    assert not [row for row in rows if not TEST.search(row)], "a promise without a test"
