"""Fail where a statement that KVQL carries out has no golden script.

The statements come from the closed union ``ast.Statement``, so a new one fails here until it has a script or is named
below as work of a later issue.
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kvql import ast  # noqa: E402 - a tool of the checkout finds the checkout
from kvql.parser import read_statements  # noqa: E402 - as above

LATER: frozenset[type] = frozenset(
    {
        ast.CreateUser, ast.AlterUser, ast.DropUser,
        ast.CreateRole, ast.DropRole, ast.Grant, ast.GrantRole, ast.ShowUsers, ast.ShowRoles, ast.ShowGrants,
        ast.ShowSessions, ast.CancelSession, ast.CheckAccess, ast.Let, ast.SourceFile, ast.Import, ast.Export,
    }
)  # fmt: skip


def members(union: object) -> set[type]:
    """The classes of a (nested) union."""
    if isinstance(union, type):
        return {union}
    if isinstance(union, types.UnionType) or typing.get_origin(union) is typing.Union:
        return {cls for part in typing.get_args(union) for cls in members(part)}
    raise TypeError(f"not a union: {union!r}")


def in_scope() -> set[type]:
    return members(ast.Statement) - LATER


def covered(folder: Path) -> set[type]:
    """The statements that some golden script parses to."""
    found: set[type] = set()
    for path in folder.glob("*/*.kvql"):
        text = path.read_text(encoding="utf-8")
        if "--! sessions" in text:
            text = "".join(line[3:] + "\n" for line in text.splitlines() if line[:3] in ("a: ", "b: "))
        found |= {type(p.statement) for p in read_statements(iter((text,))) if p.statement is not None}
    return found


def missing(folder: Path) -> list[str]:
    return sorted(cls.__name__ for cls in in_scope() - covered(folder))


def main() -> None:
    lacking = missing(ROOT / "tests/golden")
    if lacking:
        sys.exit(f"no golden script in tests/golden holds: {', '.join(lacking)}")
    print(f"all {len(in_scope())} statements have golden scripts")


if __name__ == "__main__":
    main()
