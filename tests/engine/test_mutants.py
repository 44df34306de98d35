"""The crash and damage suites see every fault that is planted in the store; ``make mutants`` prints the table."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kvql_server.engines.hashtable as package
import pytest

from tests.engine import mutants
from tests.engine.mutants import MUTANTS, Mutant

DURABLE = {"sync", "sync_folder", "rename"}
"""Calls of the file layer without which something is not durable, or not whole."""


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not m.equivalent], ids=lambda mutant: mutant.what)
def test_the_fault_is_caught(mutant: Mutant) -> None:
    seen = mutants.caught(mutant, seeds=1)
    assert seen is not None, f"nobody notices that {mutant.what}"
    print(seen)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.equivalent], ids=lambda mutant: mutant.what)
def test_an_equivalent_fault_still_fits_the_source(mutant: Mutant) -> None:
    """That nothing sees it is ``make mutants``' to try: it takes the whole of every suite."""
    assert mutants.mutated(mutant) != mutants.function_of(mutant).__code__


def calls() -> Iterator[tuple[str, str, str]]:
    """(module, function, call) of every such call in the store."""
    for path in sorted(Path(package.__path__[0]).glob("*.py")):
        if path.stem == "files":
            continue
        yield from _calls(path.stem, ast.parse(path.read_text(encoding="utf-8")), "")


def _calls(module: str, node: ast.AST, inside: str) -> Iterator[tuple[str, str, str]]:
    for child in ast.iter_child_nodes(node):
        name = inside
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{inside}.{child.name}".lstrip(".")
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
            called = child.func.attr
            # `Log.sync` takes a revision; a file's takes nothing
            if called in DURABLE and not (called == "sync" and child.args):
                yield module, inside, called
        yield from _calls(module, child, name)


def test_every_call_that_makes_something_durable_has_its_fault() -> None:
    there = Counter(calls())
    assert len(there) >= 10
    planted: Counter[tuple[str, str, str]] = Counter()
    for mutant in MUTANTS:
        for name in DURABLE:
            planted[mutant.module, mutant.function, name] += f".{name}(" in mutant.old
    missing = {call: count for call, count in there.items() if planted[call] < count}
    assert not missing, f"no fault is planted for {missing}"
