"""The format ``kvql``: pairs as statements that write them again; run twice, the result is the same.

A result without the columns ``key`` and ``value`` has no such statements; it is written as comments, so that what comes
out is a script in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvql import ast
from kvql.printer import unparse
from kvql_shell.render import Row, Write
from kvql_shell.render.screen import cell


def write(columns: Sequence[str], rows: Iterable[Row], out: Write) -> None:
    """``UPSERT key value;`` a line."""
    names = [name.lower() for name in columns]
    if "key" not in names or "value" not in names:
        out("-- " + ", ".join(map(cell, columns)) + "\n")
        for row in rows:
            out("-- " + ", ".join(map(cell, row)) + "\n")
        return
    key, value = names.index("key"), names.index("value")
    for row in rows:
        pair = ast.Pair(ast.Literal(row[key]), ast.Literal(row[value]))
        out(unparse(ast.Upsert((pair,))) + ";\n")
