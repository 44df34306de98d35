"""What a statement without rows has done, in words. Golden transcripts depend on every one of them.

``None`` where there is nothing to say beyond the rows. The words follow the statement, the number the server's count.
"""

from __future__ import annotations

from typing import Final

from kvql import ast
from kvql.result import Result
from kvql_shell.render import plural
from kvql_shell.render.screen import safe

_COUNTED: Final[dict[type, str]] = {
    ast.Put: "put",
    ast.UpdateKey: "updated",
    ast.Upsert: "upserted",
    ast.DeleteKeys: "deleted",
    ast.Insert: "inserted",
    ast.Update: "updated",
    ast.Delete: "deleted",
    ast.Restore: "restored",
    ast.Import: "imported",
}
_PLAIN: Final[dict[type, str]] = {
    ast.Expire: "time to live set",
    ast.Persist: "time to live removed",
    ast.Begin: "transaction begun",
    ast.Commit: "transaction committed",
    ast.Savepoint: "savepoint set",
    ast.Release: "savepoint released",
    ast.Assert: "assertion holds",
    ast.Truncate: "namespace truncated",
    ast.AlterNamespace: "namespace altered",
    ast.CreateUser: "user created",
    ast.AlterUser: "user altered",
    ast.DropUser: "user dropped",
    ast.CreateRole: "role created",
    ast.DropRole: "role dropped",
    ast.CancelSession: "session cancelled",
}


_SKIPPABLE: Final = frozenset({ast.CreateNamespace, ast.DropNamespace, ast.Begin, ast.Commit, ast.Rollback})
"""Statements that may find nothing to do; the server's notice then says why, and saying "created" would be a lie."""


def message(statement: ast.Statement, result: Result) -> str | None:
    """One line in lower case without a full stop."""
    kind = type(statement)
    if kind in _COUNTED and result.row_count >= 0:
        return f"{plural(result.row_count, 'pair')} {_COUNTED[kind]}"
    if kind in _SKIPPABLE and result.notices:
        return None
    match statement:
        case ast.Use(namespace):
            return f"using namespace {safe(result.namespace or namespace.text)}"
        case ast.CreateNamespace(namespace):
            return f"namespace {safe(namespace.text)} created"
        case ast.DropNamespace(namespace):
            return f"namespace {safe(namespace.text)} dropped"
        case ast.Rollback(savepoint):
            return "transaction rolled back" if savepoint is None else "rolled back to the savepoint"
        case ast.Grant(revoke=revoke) | ast.GrantRole(revoke=revoke):
            return "revoked" if revoke else "granted"
    return _PLAIN.get(kind, "done")


def footer(statement: ast.Statement | None) -> str:
    """The line under rows of the formats for people; ``{rows}`` is filled in with the count."""
    if isinstance(statement, ast.DeleteKeys | ast.Delete):
        return "{rows} deleted"
    if isinstance(statement, ast.Insert):
        return "{rows} inserted"
    if isinstance(statement, ast.Update):
        return "{rows} updated"
    return "{rows}"
